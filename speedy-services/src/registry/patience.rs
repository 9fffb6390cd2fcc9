//! Answers that a client does not take.
//!
//! Over HTTP/1 the connection notices. Over HTTP/2 a client can leave one answer lying and go on with others on the same
//! connection; whoever does that with many would hold as much memory as they have bytes.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use speedy_core::budget::Budget;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The same body, which is dropped once nothing of it has been asked for during `idle`. The answer then breaks off.
pub(crate) fn while_taken(body: Body, idle: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(WhileTaken(Lent::new(body, idle)))
}

/// How long a client may ask for nothing before what is held for it is given to others who wait for memory.
const REST: Duration = Duration::from_secs(2);

/// Something that is read from for a client, and dropped once the client has asked for nothing during some time.
///
/// A task waits for that. It ends with this, so that an answer which was taken leaves nothing behind.
#[derive(Debug)]
pub(super) struct Lent<T> {
    held: Arc<Mutex<Held<T>>>,
    watch: AbortHandle,
}

#[derive(Debug)]
struct Held<T> {
    /// `None` once the client has been given up.
    source: Option<T>,
    /// Since when the client could have asked for more; `None` while it waits for storage.
    offered: Option<Instant>,
}

impl<T: Send + 'static> Lent<T> {
    /// Keeps `source` for as long as it is asked for something every `idle`.
    pub(super) fn new(source: T, idle: Duration) -> Self {
        let held = Arc::new(Mutex::new(Held { source: Some(source), offered: Some(Instant::now()) }));
        let watch = tokio::spawn(watch(Arc::downgrade(&held), idle)).abort_handle();
        Self { held, watch }
    }

    /// The same, and besides, while others wait for bytes of `budget`, what the source holds is given back by
    /// `relieve` when the client rests. It may go on later.
    pub(super) fn within(source: T, idle: Duration, budget: Budget, relieve: fn(&mut T)) -> Self {
        let held = Arc::new(Mutex::new(Held { source: Some(source), offered: Some(Instant::now()) }));
        let weak = Arc::downgrade(&held);
        let watch = async move {
            tokio::select! {
                () = watch(weak.clone(), idle) => {}
                () = share(weak, budget, relieve) => {}
            }
        };
        Self { held, watch: tokio::spawn(watch).abort_handle() }
    }

    /// Asks it for more; `None` where it is gone.
    pub(super) fn poll<R>(&self, ask: impl FnOnce(&mut T) -> Poll<R>) -> Poll<Option<R>> {
        let mut held = self.held.lock();
        let Some(source) = &mut held.source else { return Poll::Ready(None) };
        let polled = ask(source);
        held.offered = polled.is_ready().then(Instant::now);
        polled.map(Some)
    }

    /// Looks at it; `None` where it is gone.
    fn look<R>(&self, at: impl FnOnce(&T) -> R) -> Option<R> {
        self.held.lock().source.as_ref().map(at)
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn watch<T>(held: Weak<Mutex<Held<T>>>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(held) = held.upgrade() else { return };
        let mut held = held.lock();
        next = held.offered.unwrap_or_else(Instant::now) + idle;
        if next <= Instant::now() {
            held.source = None;
            return;
        }
    }
}

/// Gives back what is held for a client that rests, as long as somebody waits for it.
async fn share<T>(held: Weak<Mutex<Held<T>>>, budget: Budget, relieve: fn(&mut T)) {
    // What was relieved once holds nothing until it is asked again.
    let mut relieved = None;
    loop {
        tokio::time::sleep(REST).await;
        if !budget.is_contended() {
            continue;
        }
        let Some(held) = held.upgrade() else { return };
        let mut held = held.lock();
        let rests = held.offered.is_some_and(|since| since.elapsed() >= REST) && held.offered != relieved;
        if rests && let Some(source) = &mut held.source {
            relieve(source);
            relieved = held.offered;
        }
    }
}

struct WhileTaken(Lent<Body>);

impl HttpBody for WhileTaken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = self.0.poll(|body| Pin::new(body).poll_frame(cx));
        let gone = || Some(Err(axum::Error::new("the client took no bytes for too long")));
        polled.map(|frame| frame.unwrap_or_else(gone))
    }

    fn is_end_stream(&self) -> bool {
        self.0.look(HttpBody::is_end_stream).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.look(HttpBody::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_dropped() {
        let bytes = Bytes::from(vec![7; 1000]);
        let mut body = while_taken(Body::from(bytes.clone()), IDLE);
        assert_eq!(body.size_hint().exact(), Some(1000));
        tokio::time::sleep(IDLE / 2).await;
        assert!(!bytes.is_unique());
        tokio::time::sleep(IDLE).await;
        assert!(bytes.is_unique(), "nobody holds them any more");
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_slowly_is_delivered() {
        let runs =
            futures_util::stream::iter((0..5).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"run"))));
        let mut body = while_taken(Body::from_stream(runs), IDLE);
        let mut taken = 0;
        while let Some(frame) = body.frame().await {
            taken += frame.unwrap().data_ref().unwrap().len();
            tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        }
        assert_eq!(taken, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_taken_leaves_no_task_behind() {
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let body = while_taken(Body::from(vec![7; 1000]), IDLE);
        assert_eq!(tasks(), 1);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 1000);
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 0);
    }
}
