//! The thread that syncs for commits that do not wait.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::volumes::Volumes;
use crate::sync::Arc;

/// Syncs what was written, again and again until this is dropped.
#[derive(Debug)]
pub(super) struct IntervalSync {
    /// Nothing is ever sent: that it is gone is the sign.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IntervalSync {
    pub(super) fn start(volumes: &Arc<Volumes>, interval: Duration) -> io::Result<Self> {
        let volumes = Arc::clone(volumes);
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                volumes.catch_up();
            }
        };
        let thread = thread::Builder::new().name("speedy-sync".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for IntervalSync {
    /// Waits for a round that has begun.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs has panicked: what was written since is synced now");
        }
    }
}
