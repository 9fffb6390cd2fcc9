use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::limits::{check_keys, check_scan, check_transaction};
use super::{
    Check, Entry, KeyRange, MAX_TRANSACTION_BYTES, MetaError, MetaStore, Outcome, Page, TRANSACTION_MEMORY,
    Timestamp, Transaction, TransactionId, Version, Write,
};

/// A metadata store in memory: nothing outlives it. For tests, and the reference for what the others must do.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Bytes, (Version, Bytes)>,
    last: u64,
    clock: u64,
    committed: HashMap<TransactionId, (Version, Timestamp)>,
}

impl MemoryMeta {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn range(&self, range: &KeyRange) -> impl Iterator<Item = (&Bytes, &(Version, Bytes))> {
        let end = match &range.end {
            // `BTreeMap::range` panics on a start after its end.
            Some(end) => Bound::Excluded(end.clone().max(range.start.clone())),
            None => Bound::Unbounded,
        };
        self.entries.range((Bound::Included(range.start.clone()), end))
    }

    fn holds(&self, check: &Check) -> bool {
        match check {
            Check::Absent(key) => !self.entries.contains_key(key),
            Check::Version(key, version) => self.entries.get(key).is_some_and(|(found, _)| found == version),
            Check::RangeEmpty(range) => self.range(range).next().is_none(),
        }
    }

    fn now(&mut self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.clock = self.clock.max(wall);
        Timestamp(self.clock)
    }
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        check_keys(keys)?;
        let state = self.state.lock();
        let get = |key: &Bytes| {
            let (version, value) = state.entries.get(key)?;
            Some(Entry { key: key.clone(), value: value.clone(), version: *version })
        };
        Ok(keys.iter().map(get).collect())
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        check_scan(&range, limit)?;
        let state = self.state.lock();
        let mut page = Page::default();
        let mut bytes = 0;
        for (key, (version, value)) in state.range(&range) {
            if page.entries.len() == limit || bytes >= MAX_TRANSACTION_BYTES {
                page.next = page.entries.last().map(|last| range.after(&last.key));
                break;
            }
            bytes += key.len() + value.len();
            page.entries.push(Entry { key: key.clone(), value: value.clone(), version: *version });
        }
        Ok(page)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        check_transaction(&transaction)?;
        let mut state = self.state.lock();
        if let Some((version, _)) = state.committed.get(&transaction.id) {
            return Ok(Outcome::Committed(*version));
        }
        if let Some(failed) = transaction.checks.iter().position(|check| !state.holds(check)) {
            return Ok(Outcome::Conflict(failed));
        }
        state.last += 1;
        let version = Version(state.last);
        for write in transaction.writes {
            match write {
                Write::Put(key, value) => drop(state.entries.insert(key, (version, value))),
                Write::Delete(key) => drop(state.entries.remove(&key)),
            }
        }
        let now = state.now();
        state.committed.retain(|_, (_, at)| now.since(*at) <= TRANSACTION_MEMORY);
        state.committed.insert(transaction.id, (version, now));
        Ok(Outcome::Committed(version))
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        Ok(self.state.lock().now())
    }
}
