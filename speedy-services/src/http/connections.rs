//! How many connections a server has at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::admin::Metrics;

/// Of the files that the process may have open, the part that is left to volumes, peers and the admin address.
const KEPT: u64 = 4;
/// How often the log says that connections wait.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The connections of a server, with a limit or without. Cheap to clone; clones count together.
///
/// Above the limit none is served: it waits, mostly in the system's queue, until another is closed, as a request waits
/// for memory. Nobody is refused who comes at a bad moment, and a client that has to wait is not made to try again. While
/// some wait, answers over HTTP/1.1 close their connections, so that one which rests between two requests holds up nobody
/// who has one to make.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    room: Option<Room>,
    open: Gauge,
    /// Times that one had to wait.
    full: Counter,
    said: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    most: usize,
    /// Above 0 while one waits for a place.
    wanted: AtomicU64,
}

/// A place for a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// At most so many, in a process that may open so many files more: where those are too few the limit is three quarters of
    /// them, and the log says so. The others are for volumes to come and for the admin address.
    pub fn at_most(most: Option<NonZeroU32>, files: Option<u64>) -> Self {
        let asked = most.map(|most| u64::from(most.get()));
        let possible = files.map(|files| (files - files / KEPT).max(1));
        let limit = match (asked, possible) {
            (Some(asked), Some(possible)) if asked > possible => {
                tracing::warn!(
                    max_connections = asked,
                    open_files = files,
                    "at most {possible} connections are taken, for the process may not open more files beside those it has: raise LimitNOFILE \
                     (or ulimit -Hn), or lower --max-connections"
                );
                Some(possible)
            }
            (asked, _) => asked,
        };
        let room = limit.map(|limit| {
            let most = usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
            Room { places: Arc::new(Semaphore::new(most)), most, wanted: AtomicU64::new(0) }
        });
        Self(Arc::new(Inner { room, ..Inner::default() }))
    }

    /// Shows them among the metrics of the process, once.
    pub fn register(&self, metrics: &Metrics) {
        let most = Gauge::<i64>::default();
        most.set(self.most().map_or(0, |most| i64::try_from(most).unwrap_or(i64::MAX)));
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("http");
            registry.register("connections", "Connections of clients that are served", self.0.open.clone());
            registry.register("connections_most", "As many as are taken at once; 0 for no limit", most);
            let full = "Times that a connection could not be taken before another was closed";
            registry.register("connections_full", full, self.0.full.clone());
        });
    }

    /// As many as there may be.
    fn most(&self) -> Option<usize> {
        self.0.room.as_ref().map(|room| room.most)
    }

    /// Whether the next one waits for one of these to be closed.
    pub(super) fn are_wanted(&self) -> bool {
        self.0.room.as_ref().is_some_and(|room| room.wanted.load(Ordering::Relaxed) > 0)
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Place {
        let permit = match &self.0.room {
            Some(room) => Some(self.permit(room).await),
            None => None,
        };
        self.0.open.inc();
        Place { connections: self.clone(), _permit: permit }
    }

    async fn permit(&self, room: &Room) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&room.places).try_acquire_owned() {
            return permit;
        }
        self.0.full.inc();
        self.say(room.most);
        let _wanted = Wanted::mark(&room.wanted);
        Arc::clone(&room.places).acquire_owned().await.expect("it is never closed")
    }

    fn say(&self, most: usize) {
        let mut said = self.0.said.lock();
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(
                "all {most} connections are in use, and more wait until one is closed; raise --max-connections if clients \
                 are to be served that are so many"
            );
        }
    }
}

/// Says that a place is waited for, until it is dropped.
struct Wanted<'a>(&'a AtomicU64);

impl<'a> Wanted<'a> {
    fn mark(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.0.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_leaves_files_for_all_else() {
        let limit = |asked: u32, files| Connections::at_most(NonZeroU32::new(asked), files).most();
        assert_eq!(limit(0, Some(1024)), None, "off is off");
        assert_eq!(limit(10_000, Some(1 << 20)), Some(10_000));
        assert_eq!(limit(10_000, None), Some(10_000));
        assert_eq!(limit(10_000, Some(1024)), Some(768));
        assert_eq!(limit(768, Some(1024)), Some(768));
        assert_eq!(limit(5, Some(1)), Some(1));
    }
}
