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
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    at: Instant,
    /// Whoever takes the frames waits for the next one, and can't be blamed.
    starves: bool,
}

/// Nothing moved for too long.
#[derive(Debug)]
pub(super) struct Stalled;

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { at: Instant::now(), starves: false })))
    }

    /// The payload as frames; each that is taken counts as progress.
    pub(super) fn frames(&self, payload: &Payload) -> Frames {
        let runs = payload.frames().to_vec().into_iter().flat_map(runs);
        self.noting(stream::iter(runs).map(Ok).boxed())
    }

    /// The same frames; each that is taken counts as progress.
    pub(super) fn noting(&self, mut frames: Frames) -> Frames {
        let progress = self.clone();
        stream::poll_fn(move |context| {
            let polled = frames.poll_next_unpin(context);
            let mut state = progress.0.lock();
            state.starves = polled.is_pending();
            if polled.is_ready() {
                state.at = Instant::now();
            }
            polled
        })
        .boxed()
    }

    /// Runs `work` until it ends or, with frames to be had, makes no progress for `limit`.
    pub(super) async fn watch<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let mut work = pin!(work);
        let mut since = self.0.lock().at;
        loop {
            if let Ok(done) = timeout_at(since + limit, &mut work).await {
                return Ok(done);
            }
            let state = *self.0.lock();
            if state.starves {
                since = Instant::now();
            } else if state.at > since {
                since = state.at;
            } else {
                return Err(Stalled);
            }
        }
    }
}

fn runs(mut frame: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let run = frame.split_to(RUN.min(frame.len()));
        (!run.is_empty()).then_some(run)
    })
}
