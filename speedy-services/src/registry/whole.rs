//! Bodies that are read whole before anything is done with them: manifests, and the JSON of v1.
//!
//! Their bytes are reserved before the first one comes, so that a body which was let in comes to its end. Whoever announces
//! much and sends little must not keep others out by it: short bodies, as nearly all are, have a share of the budget to
//! themselves, and where somebody waits for a share, those of it whose clients rest are given up.

use std::time::Duration;

use bytes::Bytes;
use speedy_core::budget::{Budget, Reservation};
use speedy_core::payload::BodyError;

use super::body::{BodyFailure, RequestBody};

/// Bodies of up to so many bytes are short.
const SHORT: u64 = 64 << 10;
/// What a client has to send, while others wait, in so much time.
const LEAST: u64 = 16 << 10;
const SPELL: Duration = Duration::from_secs(2);

/// The shares of the budget: an eighth each, so that all together leave three quarters to blobs.
#[derive(Debug)]
pub(super) struct WholeBodies {
    short: Budget,
    long: Budget,
    all: Budget,
}

/// What a body holds of its share and of the budget.
pub(super) type Held = [Reservation; 2];

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It has more bytes than were asked for.
    TooLong,
    /// It broke off.
    Broken(BodyError),
}

impl WholeBodies {
    pub(super) fn new(budget: &Budget) -> Self {
        let share = || Budget::new(budget.total() / 8);
        Self { short: share(), long: share(), all: budget.clone() }
    }

    /// Reads a body of at most `most` bytes.
    pub(super) async fn read(&self, body: &RequestBody, most: u64) -> Result<(Bytes, Held), Unread> {
        let announced = body.announced().unwrap_or(most);
        if announced > most {
            return Err(Unread::TooLong);
        }
        let share = if announced <= SHORT { &self.short } else { &self.long };
        // Of both, always in this order.
        let held = [share.reserve(announced).await, self.all.reserve(announced).await];
        tokio::select! {
            biased;
            read = body.read_all(most) => match read {
                Ok(Some(bytes)) => Ok((bytes, held)),
                Ok(None) => Err(Unread::TooLong),
                Err(error) => Err(Unread::Broken(error)),
            },
            () = in_the_way(share, body) => Err(Unread::Broken(body.give_up(BodyFailure::Slow))),
        }
    }
}

/// Comes to an end once others wait for the share while the body rests, or nearly.
async fn in_the_way(share: &Budget, body: &RequestBody) {
    loop {
        let before = body.received();
        tokio::time::sleep(SPELL).await;
        if share.is_contended() && body.received() - before < LEAST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use futures_util::future::join_all;
    use futures_util::stream::{self, StreamExt};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// A body of an announced length of which a kilobyte comes at once, and then one every `pause`.
    fn slow(length: u64, pause: Duration) -> RequestBody {
        let runs = stream::iter(0..length / 1024).then(move |number| async move {
            if number > 0 {
                tokio::time::sleep(pause).await;
            }
            Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![0; 1024])))
        });
        RequestBody::new(Body::new(Announced(StreamBody::new(runs.boxed()), length)), IDLE)
    }

    /// A stream whose length is known beforehand.
    struct Announced<B>(B, u64);

    impl<B: http_body::Body + Unpin> http_body::Body for Announced<B> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.1)
        }
    }

    fn bodies() -> Arc<WholeBodies> {
        Arc::new(WholeBodies::new(&Budget::new(64 << 20)))
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_makes_room_for_others() {
        let (bodies, never) = (bodies(), Duration::from_secs(30));
        let stalled = |length: u64| {
            let (bodies, body) = (Arc::clone(&bodies), slow(length, never));
            tokio::spawn(async move { (bodies.read(&body, 4 << 20).await.map(|_| ()), body.failure()) })
        };
        // A thousand of each kind: the long ones are far too many, the short ones four times.
        let stalled: Vec<_> = (0..1000).flat_map(|_| [stalled(4 << 20), stalled(32 << 10)]).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let (bytes, _held) = bodies.read(&slow(2048, Duration::ZERO), 4 << 20).await.unwrap();
        assert_eq!(bytes.len(), 2048);
        assert!(begun.elapsed() <= 4 * SPELL, "a short one waited {:?}", begun.elapsed());
        let ended = join_all(stalled).await;
        let slow = ended.iter().filter(|ended| ended.as_ref().unwrap().1 == Some(BodyFailure::Slow)).count();
        assert!(slow > 1000, "{slow}");
        assert_eq!(bodies.all.available(), bodies.all.total() - 2048);
    }

    /// Reads so many bodies at once, a kilobyte of each every tenth of a second, and answers how long each came to be.
    async fn read_slowly(count: usize, length: u64) -> Vec<usize> {
        let bodies = bodies();
        let read = |_| async {
            let body = slow(length, Duration::from_millis(100));
            bodies.read(&body, 4 << 20).await.map_or(0, |(bytes, _held)| bytes.len())
        };
        join_all((0..count).map(read)).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_alone_has_all_the_time() {
        // Two of 4 MiB are all that fits, and nobody waits.
        assert_eq!(read_slowly(2, 4 << 20).await, [4 << 20; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_is_not_given_up() {
        // Eight fit, and the others wait for them.
        assert_eq!(read_slowly(20, 1 << 20).await, [1 << 20; 20]);
    }
}
