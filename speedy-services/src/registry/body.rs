//! The body of a request as it is read: watched for progress, counted, and compared with the length that was announced.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Stream;
use http_body::Body as _;
use parking_lot::Mutex;
use speedy_core::payload::BodyError;
use tokio::time::{Instant, Sleep};

use crate::admin::Passing;

/// What of an unread body is read and dropped while its answer is on its way, so that a client which sends before it
/// listens gets to hear the answer instead of a reset connection.
const LINGER_BYTES: u64 = 8 << 20;
const LINGER_TIME: Duration = Duration::from_secs(30);
/// A client that sends nothing for so long has listened, or will not. One that has more to send than is dropped has as long
/// to listen, before it is cut off.
const LINGER_REST: Duration = Duration::from_secs(2);

/// What becomes of the connection whose request's body was not read to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// It goes on: the rest is dropped.
    Whole,
    /// It is closed: the rest may be more than is dropped.
    Cut,
}

/// Why a body was not what it should have been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BodyFailure {
    /// The client went away or broke the protocol.
    #[error("the connection broke off before the end of the body")]
    Broken,
    /// No byte came for too long.
    #[error("no byte of the body came for {} seconds", .0.as_secs())]
    Idle(Duration),
    /// It hardly came while others waited for the memory that it held.
    #[error("the body came too slowly, and others wait for the memory that it takes; send it again")]
    Slow,
    /// It has more bytes than are taken.
    #[error("the content has more than the {0} bytes that this registry takes")]
    Large(u64),
    /// Bytes came after the announced end.
    #[error("the body is longer than the {0} bytes that were announced")]
    Long(u64),
    /// The body ended before the announced end.
    #[error("the body is shorter than the {0} bytes that were announced")]
    Short(u64),
}

/// The body of a request. Clones share it: one is read from, another may look what became of it.
#[derive(Clone)]
pub(crate) struct RequestBody(Arc<Mutex<State>>);

struct State {
    body: Body,
    /// How long it may rest.
    idle: Duration,
    /// Armed while a byte is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    received: u64,
    /// Where what is received is counted.
    passing: Option<Arc<Passing>>,
    /// Bytes that it must have, where the request says so.
    length: Option<u64>,
    /// Bytes that it may have, and the limit that this follows from.
    most: Option<(u64, u64)>,
    ended: bool,
    failure: Option<BodyFailure>,
}

impl RequestBody {
    /// Watches a body that may rest for `idle` at a time.
    pub(crate) fn new(body: Body, idle: Duration) -> Self {
        let ended = body.is_end_stream();
        let passing = None;
        let state = State {
            body,
            idle,
            alarm: None,
            received: 0,
            passing,
            length: None,
            most: None,
            ended,
            failure: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Counts its bytes from now on as those of a request.
    pub(crate) fn count_in(&self, passing: Arc<Passing>) {
        self.0.lock().passing = Some(passing);
    }

    /// Demands exactly `length` bytes.
    pub(crate) fn must_have(&self, length: u64) {
        self.0.lock().length = Some(length);
    }

    /// Allows `limit` bytes, of which `held` are there already. A body that announces more is not read at all.
    pub(crate) fn must_not_exceed(&self, limit: u64, held: u64) {
        self.0.lock().most = Some((limit.saturating_sub(held), limit));
    }

    /// Bytes that the client announced, where it did.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.0.lock().body.size_hint().exact()
    }

    /// Bytes read so far.
    pub(crate) fn received(&self) -> u64 {
        self.0.lock().received
    }

    /// Whether there is certainly nothing (more) to read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.lock().ended
    }

    /// What went wrong with it.
    pub(crate) fn failure(&self) -> Option<BodyFailure> {
        self.0.lock().failure
    }

    /// Reads no more of it, for this reason.
    pub(crate) fn give_up(&self, failure: BodyFailure) -> BodyError {
        let mut state = self.0.lock();
        (state.ended, state.failure) = (true, Some(failure));
        BodyError(failure.to_string())
    }

    /// Reads all of it, or gives `None` once it exceeds `most` bytes.
    pub(crate) async fn read_all(&self, most: u64) -> Result<Option<Bytes>, BodyError> {
        let mut stream = self.clone();
        let mut all = BytesMut::with_capacity(self.announced().unwrap_or(0).min(most) as usize);
        while let Some(run) = stream.next().await {
            let run = run?;
            if all.len() as u64 + run.len() as u64 > most {
                return Ok(None);
            }
            all.extend_from_slice(&run);
        }
        Ok(Some(all.freeze()))
    }

    /// Lets the answer go out before the body has been read: what is left of it is read and dropped beside, up to a bound.
    /// Says what the client can expect of the connection.
    pub(crate) fn linger(&self) -> Ends {
        let rest = {
            let mut state = self.0.lock();
            if matches!(state.failure, Some(BodyFailure::Large(_) | BodyFailure::Long(_) | BodyFailure::Slow))
            {
                // What is too much, or comes too slowly, is not wanted, and may still be on its way.
                (state.most, state.length, state.ended) = (None, None, false);
            }
            if state.ended {
                return Ends::Whole;
            }
            // The request ends with its answer, for its line in the log and for the metrics.
            state.passing = None;
            state.body.size_hint().upper()
        };
        let body = self.clone();
        tokio::spawn(async move { body.drop_rest().await });
        if rest.is_some_and(|rest| rest <= LINGER_BYTES) { Ends::Whole } else { Ends::Cut }
    }

    async fn drop_rest(mut self) {
        let until = self.received() + LINGER_BYTES;
        let drop_all = async {
            while self.received() < until {
                match tokio::time::timeout(LINGER_REST, self.next()).await {
                    Ok(Some(Ok(_))) => {}
                    Ok(_) | Err(_) => return,
                }
            }
            // It is felt as back-pressure, and not yet as a reset, which could overtake the answer.
            tokio::time::sleep(LINGER_REST).await;
        };
        // What is still there after this time is cut off with the connection.
        let _ = tokio::time::timeout(LINGER_TIME, drop_all).await;
    }
}

impl State {
    fn fail(&mut self, failure: BodyFailure) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.ended = true;
        self.failure = Some(failure);
        Poll::Ready(Some(Err(BodyError(failure.to_string()))))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.ended {
            return Poll::Ready(self.failure.map(|failure| Err(BodyError(failure.to_string()))));
        }
        let announced = self.received + self.body.size_hint().lower();
        if let Some((_, limit)) = self.most.filter(|(most, _)| announced > *most) {
            return self.fail(BodyFailure::Large(limit));
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.alarm = None;
                    // Trailers say nothing that counts here.
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.received += bytes.len() as u64;
                    if let Some(passing) = &self.passing {
                        passing.receive(bytes.len() as u64);
                    }
                    if let Some(length) = self.length.filter(|length| self.received > *length) {
                        return self.fail(BodyFailure::Long(length));
                    }
                    if let Some((_, limit)) = self.most.filter(|(most, _)| self.received > *most) {
                        return self.fail(BodyFailure::Large(limit));
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a request body broke off");
                    return self.fail(BodyFailure::Broken);
                }
                Poll::Ready(None) => {
                    if let Some(length) = self.length.filter(|length| self.received < *length) {
                        return self.fail(BodyFailure::Short(length));
                    }
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let due = Instant::now() + self.idle;
                    let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                    return match alarm.as_mut().poll(cx) {
                        Poll::Ready(()) => self.fail(BodyFailure::Idle(self.idle)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(runs: Vec<&'static [u8]>) -> RequestBody {
        let runs = stream::iter(runs.into_iter().map(|run| Ok::<_, std::io::Error>(Bytes::from_static(run))));
        RequestBody::new(Body::from_stream(runs), Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_length_that_was_announced_is_held_to() {
        for (length, failure) in
            [(4, Some(BodyFailure::Long(4))), (5, None), (6, Some(BodyFailure::Short(6)))]
        {
            let body = body(vec![b"abc", b"de"]);
            body.must_have(length);
            assert_eq!(body.read_all(100).await.is_err(), failure.is_some());
            assert_eq!(body.failure(), failure);
        }
    }

    #[tokio::test]
    async fn more_than_is_taken_is_refused_before_it_comes_where_it_is_announced() {
        for (limit, held, taken) in [(5, 0, true), (4, 0, false), (9, 4, true), (8, 4, false), (3, 9, false)]
        {
            let streamed = body(vec![b"abc", b"de"]);
            let announced = RequestBody::new(Body::from("abcde"), Duration::from_secs(60));
            for (body, received) in [(streamed, 5), (announced, if taken { 5 } else { 0 })] {
                body.must_not_exceed(limit, held);
                assert_eq!(body.read_all(100).await.is_ok(), taken, "{limit} {held}");
                assert_eq!(body.failure(), (!taken).then_some(BodyFailure::Large(limit)));
                assert!(body.received() <= received, "{limit} {held}");
            }
        }
    }

    #[tokio::test]
    async fn no_more_is_collected_than_asked_for() {
        assert_eq!(body(vec![b"abc", b"de"]).read_all(5).await, Ok(Some(Bytes::from_static(b"abcde"))));
        assert_eq!(body(vec![b"abc", b"de"]).read_all(4).await, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_read_while_it_comes() {
        // Seconds between runs of 1 MiB, how many of them, and how many are read.
        for (pause, runs, read, seconds) in [(1, 6, 6, 6), (0, 20, 8, 2), (5, 6, 0, 2), (1, 7, 7, 7)] {
            let begun = Instant::now();
            let runs = stream::iter(0..runs).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 20]))
            });
            let body = RequestBody::new(Body::from_stream(runs), Duration::from_secs(60));
            body.clone().drop_rest().await;
            assert_eq!((body.received() >> 20, begun.elapsed().as_secs()), (read, seconds), "{pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rest_is_timed_and_length_is_not() {
        let every = |pause: u64| {
            let runs = stream::iter(0..100).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
            });
            RequestBody::new(Body::from_stream(runs), Duration::from_secs(60))
        };
        assert_eq!(every(59).read_all(1000).await.unwrap().unwrap().len(), 100);
        let slow = every(61);
        assert!(slow.read_all(1000).await.is_err());
        assert_eq!(slow.failure(), Some(BodyFailure::Idle(Duration::from_secs(60))));
    }
}
