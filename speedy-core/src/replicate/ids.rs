use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::ReplicationOptions;
use crate::id::{ChunkId, GroupId};
use crate::placement::{Master, MasterError};
use crate::sync::{Arc, Mutex};

/// Hands out fresh chunk ids, from ranges that it takes from the master ahead of need.
///
/// # Uniqueness
/// Only ids of a range that the master answered are handed out, each once. When an answer is lost or comes too late
/// its range is wasted, and nobody ever gets it. A range that overlaps what this process already had is refused.
///
/// # Without a master
/// The next range is fetched in the background as soon as half of one is used, so ids go on for at least half a range
/// while the master is away.
#[derive(Clone, Debug)]
pub struct IdSource {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    master: Arc<dyn Master>,
    range: u32,
    groups: Mutex<HashMap<GroupId, Ids>>,
}

/// What is known of the ids of one group.
#[derive(Debug)]
struct Ids {
    ranges: VecDeque<Range<u64>>,
    /// All ids below were once in `ranges`, or are nobody's.
    next_range: u64,
    fetching: bool,
    /// The outcome of the last fetch, for those who wait for it. `Ok` before the first.
    fetched: watch::Sender<Result<(), MasterError>>,
    failed_at: Option<Instant>,
}

/// How long the master may take to answer. Ranges are durable before they are handed out, so this is no mere lookup.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failure the master is left alone for so long.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

enum Next {
    Id(ChunkId),
    Wait(watch::Receiver<Result<(), MasterError>>),
    Failed(MasterError),
}

impl IdSource {
    /// A source of ids that takes as many at a time, for each group, as the options say.
    pub fn new(master: Arc<dyn Master>, options: &ReplicationOptions) -> Self {
        let groups = Mutex::new(HashMap::new());
        Self { shared: Arc::new(Shared { master, range: options.id_range, groups }) }
    }

    /// A chunk id of this group that nobody ever had.
    ///
    /// # Errors
    /// The master's, when no id is left and it gave no more. Nothing was handed out then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn next(&self, group: GroupId) -> Result<ChunkId, MasterError> {
        loop {
            match self.take(group) {
                Next::Id(id) => return Ok(id),
                Next::Failed(error) => return Err(error),
                Next::Wait(mut fetched) => {
                    fetched.changed().await.expect("the sender is never removed from the groups");
                    // On success somebody else may have been faster and used it all up: then wait for the next.
                    fetched.borrow_and_update().clone()?;
                }
            }
        }
    }

    /// An id if one is left; otherwise what to wait for. Starts a fetch where one is due.
    fn take(&self, group: GroupId) -> Next {
        let mut groups = self.shared.groups.lock();
        let ids = groups.entry(group).or_insert_with(Ids::new);
        let id = ids.pop();
        let low = ids.left() <= u64::from(self.shared.range) / 2;
        let resting = ids.failed_at.is_some_and(|at| at.elapsed() < RETRY_PAUSE);
        if low && !ids.fetching && !resting {
            ids.fetching = true;
            Fetch::start(&self.shared, group);
        }
        match id {
            Some(id) => Next::Id(id),
            None if ids.fetching => Next::Wait(ids.fetched.subscribe()),
            None => {
                let last = ids.fetched.borrow().clone();
                Next::Failed(
                    last.err().unwrap_or_else(|| MasterError::Unavailable("no chunk id is left".into())),
                )
            }
        }
    }
}

impl Ids {
    fn new() -> Self {
        Self {
            ranges: VecDeque::new(),
            next_range: 0,
            fetching: false,
            fetched: watch::channel(Ok(())).0,
            failed_at: None,
        }
    }

    fn left(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    fn pop(&mut self) -> Option<ChunkId> {
        let range = self.ranges.front_mut()?;
        let id = range.next();
        if range.is_empty() {
            self.ranges.pop_front();
        }
        id.map(ChunkId::new)
    }

    fn add(&mut self, group: GroupId, range: Range<u64>) -> Result<(), MasterError> {
        if range.is_empty() || range.start < self.next_range {
            let below = self.next_range;
            return Err(MasterError::Refused(format!(
                "it handed out chunk ids {range:?} of group {group}, though all below {below} were handed out before. \
                 Was it restored from a backup? Ids must go on above the highest that the nodes hold"
            )));
        }
        self.next_range = range.end;
        self.ranges.push_back(range);
        Ok(())
    }
}

/// A fetch under way. However it ends, also when its task is cancelled or panics, those who wait hear of it.
struct Fetch {
    shared: Arc<Shared>,
    group: GroupId,
    answer: Result<Range<u64>, MasterError>,
}

impl Fetch {
    /// Fetches one range. It runs in a task of its own, so that a caller that goes away does not lose a range that the
    /// others wait for.
    fn start(shared: &Arc<Shared>, group: GroupId) {
        let answer = Err(MasterError::Unavailable("the fetch of chunk ids was cut short".into()));
        let fetch = Self { shared: Arc::clone(shared), group, answer };
        tokio::spawn(async move {
            let asked = fetch.shared.master.allocate_chunks(group, fetch.shared.range);
            let late = || MasterError::Unavailable(format!("no chunk ids within {FETCH_TIMEOUT:?}"));
            let answer = timeout(FETCH_TIMEOUT, asked).await.unwrap_or_else(|_| Err(late()));
            fetch.end(answer);
        });
    }

    fn end(mut self, answer: Result<Range<u64>, MasterError>) {
        self.answer = answer;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut groups = self.shared.groups.lock();
        let ids = groups.entry(self.group).or_insert_with(Ids::new);
        let outcome = self.answer.clone().and_then(|range| ids.add(self.group, range));
        if let Err(error) = &outcome {
            warn!(group = %self.group, %error, left = ids.left(), "no new chunk ids; going on with those left");
        }
        ids.fetching = false;
        ids.failed_at = outcome.is_err().then(Instant::now);
        drop(ids.fetched.send_replace(outcome));
    }
}

#[cfg(test)]
mod tests;
