use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::payload::{Frames, Payload};
use crate::sync::{Arc, Mutex};

/// Frames go out in runs of at most this: progress shows at that grain, and it suits network messages.
const RUN: usize = 256 * 1024;

/// When a write last made progress.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

/// Nothing moved for too long.
#[derive(Debug)]
pub(super) struct Stalled;

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The payload as frames; each that is taken counts as progress.
    pub(super) fn frames(&self, payload: &Payload) -> Frames {
        let progress = self.clone();
        let runs = payload.frames().to_vec().into_iter().flat_map(runs);
        stream::iter(runs)
            .map(move |run| {
                progress.made();
                Ok(run)
            })
            .boxed()
    }

    /// Runs `work` until it ends or makes no progress for `limit`.
    pub(super) async fn watch<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let mut work = pin!(work);
        loop {
            let seen = *self.0.lock();
            if let Ok(done) = timeout_at(seen + limit, &mut work).await {
                return Ok(done);
            }
            if *self.0.lock() == seen {
                return Err(Stalled);
            }
        }
    }

    fn made(&self) {
        *self.0.lock() = Instant::now();
    }
}

fn runs(mut frame: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let run = frame.split_to(RUN.min(frame.len()));
        (!run.is_empty()).then_some(run)
    })
}
