//! Group commit: concurrent commits of a volume share one sync.

use std::io;

use crate::sync::{Arc, Condvar, Mutex};

/// The commits of one volume that wait for stable storage.
///
/// Whoever finds no sync running becomes the leader and syncs for everybody whose bytes were written before it
/// began; those that come meanwhile wait, and one of them leads the next one. So a single writer never waits for a
/// timer, and many share one sync.
///
/// A failed sync is final (promise 4): what it covered has failed, and so has all that comes after.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Commits that have written their bytes, ever.
    written: u64,
    /// The first so many of them are on stable storage.
    durable: u64,
    syncing: bool,
    failed: Option<Arc<io::Error>>,
}

impl CommitQueue {
    /// Returns once all that the caller has written before is on stable storage, after a call of `sync` by this
    /// thread or another.
    pub(super) fn commit(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Arc<io::Error>> {
        let mut state = self.state.lock();
        state.written += 1;
        let ticket = state.written;
        loop {
            // First, because a commit that was covered before a failure is good.
            if state.durable >= ticket {
                return Ok(());
            }
            if let Some(error) = &state.failed {
                return Err(Arc::clone(error));
            }
            if !state.syncing {
                break;
            }
            self.settled.wait(&mut state);
        }
        state.syncing = true;
        let covered = state.written;
        drop(state);
        let result = sync().map_err(Arc::new);
        let mut state = self.state.lock();
        state.syncing = false;
        match &result {
            Ok(()) => state.durable = covered,
            Err(error) => state.failed = Some(Arc::clone(error)),
        }
        drop(state);
        self.settled.notify_all();
        result
    }
}
