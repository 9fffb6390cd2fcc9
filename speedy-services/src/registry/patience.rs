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
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The same body, which is dropped once nothing of it has been asked for during `idle`. The answer then breaks off.
pub(crate) fn while_taken(body: Body, idle: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let held = Arc::new(Mutex::new(Held { body: Some(body), offered: Some(Instant::now()) }));
    let watch = tokio::spawn(watch(Arc::downgrade(&held), idle)).abort_handle();
    Body::new(WhileTaken { held, watch })
}

struct Held {
    /// `None` once the client has been given up.
    body: Option<Body>,
    /// Since when the client could have asked for more; `None` while it waits for storage.
    offered: Option<Instant>,
}

struct WhileTaken {
    held: Arc<Mutex<Held>>,
    watch: AbortHandle,
}

async fn watch(held: Weak<Mutex<Held>>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(held) = held.upgrade() else { return };
        let mut held = held.lock();
        next = held.offered.unwrap_or_else(Instant::now) + idle;
        if next <= Instant::now() {
            held.body = None;
            return;
        }
    }
}

impl Drop for WhileTaken {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl HttpBody for WhileTaken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = self.held.lock();
        let polled = match &mut held.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(Some(Err(axum::Error::new("the client took no bytes for too long")))),
        };
        held.offered = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.held.lock().body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.held.lock().body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
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
}
