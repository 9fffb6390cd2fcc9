//! Places for requests with a body, and those that wait for one.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{Client, Exceeded};

/// At least so many may wait before nobody is let in any more who would stand in line behind them. A client that pushes one
/// image has no more than some six under way at once.
const LINE: usize = 16;

/// The places of all clients together, and those of each.
#[derive(Debug)]
pub(super) struct Places {
    all: Option<Arc<Line>>,
    each: Option<NonZeroU32>,
    /// Of the clients that have a place or wait for one.
    clients: Mutex<HashMap<Client, Arc<Line>>>,
}

/// So many places, and those that have one or wait for one, in the order in which they came.
#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    most: NonZeroU32,
    standing: AtomicUsize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    // The permits go first: whoever stands nowhere any more holds nothing.
    _permits: [Option<OwnedSemaphorePermit>; 2],
    _standing: [Option<Standing>; 2],
    /// Whether it had to be waited for.
    pub(crate) waited: bool,
}

/// One of those in a line, until it is dropped.
#[derive(Debug)]
struct Standing {
    places: Arc<Places>,
    line: Arc<Line>,
    /// Whose line it is, where it is not that of all.
    client: Option<Client>,
}

impl Line {
    fn new(most: NonZeroU32) -> Self {
        let places = usize::try_from(most.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), most, standing: AtomicUsize::new(0) }
    }

    /// Whether as many wait as have a place, or quite some.
    fn is_long(&self) -> bool {
        let most = usize::try_from(self.most.get()).unwrap_or(usize::MAX);
        self.standing.load(Ordering::Relaxed).saturating_sub(most) >= most.max(LINE)
    }
}

impl Places {
    pub(super) fn new(all: Option<NonZeroU32>, each: Option<NonZeroU32>) -> Self {
        Self { all: all.map(|most| Arc::new(Line::new(most))), each, clients: Mutex::default() }
    }

    /// Whether anybody has to have a place.
    pub(super) fn are_limited(&self) -> bool {
        self.all.is_some() || self.each.is_some()
    }

    /// Waits for a place, of the client's first, until then.
    pub(super) async fn place(
        self: &Arc<Self>,
        client: Option<Client>,
        until: Instant,
    ) -> Result<Place, Exceeded> {
        let own = self.each.zip(client).map(|(most, client)| self.stand_with(client, most));
        let own_place = match &own {
            Some(own) => Some(own.wait(until).await.ok_or_else(|| own.exceeded())?),
            None => None,
        };
        let all = self.all.as_ref().map(|line| self.stand(line, None));
        let place = match &all {
            Some(all) => Some(all.wait(until).await.ok_or_else(|| all.exceeded())?),
            None => None,
        };
        let waited = [&own_place, &place].into_iter().flatten().any(|(_, waited)| *waited);
        let permits = [own_place, place].map(|place| place.map(|(permit, _)| permit));
        Ok(Place { _permits: permits, _standing: [own, all], waited })
    }

    /// Whether the lines are short enough that somebody who begins now gets to his turn.
    pub(super) fn room(&self, client: Option<Client>) -> Result<(), Exceeded> {
        if let Some(line) = self.all.as_ref().filter(|line| line.is_long()) {
            return Err(Exceeded::Uploads(line.most.get()));
        }
        let clients = self.clients.lock();
        match client.and_then(|client| clients.get(&client)).filter(|line| line.is_long()) {
            Some(line) => Err(Exceeded::ClientUploads(line.most.get())),
            None => Ok(()),
        }
    }

    fn stand_with(self: &Arc<Self>, client: Client, most: NonZeroU32) -> Standing {
        let mut clients = self.clients.lock();
        let line = clients.entry(client).or_insert_with(|| Arc::new(Line::new(most)));
        self.stand(line, Some(client))
    }

    fn stand(self: &Arc<Self>, line: &Arc<Line>, client: Option<Client>) -> Standing {
        line.standing.fetch_add(1, Ordering::Relaxed);
        Standing { places: Arc::clone(self), line: Arc::clone(line), client }
    }

    #[cfg(test)]
    pub(super) fn standing(&self) -> (usize, usize) {
        let all = self.all.as_ref().map_or(0, |line| line.standing.load(Ordering::Relaxed));
        (all, self.clients.lock().len())
    }
}

impl Standing {
    /// Waits for a place and says whether it had to; `None` where none became free in time.
    async fn wait(&self, until: Instant) -> Option<(OwnedSemaphorePermit, bool)> {
        let places = &self.line.places;
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Some((permit, false));
        }
        let permit = timeout_at(until, Arc::clone(places).acquire_owned()).await.ok()?;
        Some((permit.expect("it is never closed"), true))
    }

    fn exceeded(&self) -> Exceeded {
        let most = self.line.most.get();
        if self.client.is_some() { Exceeded::ClientUploads(most) } else { Exceeded::Uploads(most) }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // Under the lock, or else another could join a line that is being forgotten.
        let mut clients = self.client.map(|client| (self.places.clients.lock(), client));
        if self.line.standing.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some((clients, client)) = &mut clients
        {
            clients.remove(client);
        }
    }
}
