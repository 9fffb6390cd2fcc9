//! Reads, and the choice of where they run.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::failed;
use super::tables::{ENTRIES, bounds, entry};
use crate::meta::{Entry, KeyRange, MAX_TRANSACTION_BYTES, MetaError, Page};
use crate::sync::{AtomicU64, Ordering};

/// The entries of these keys, from one snapshot.
pub(super) fn get_many(database: &Database, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let get = |key: &Bytes| {
        let row = table.get(&key[..])?;
        row.map(|row| entry(key.clone(), row.value())).transpose().map_err(corrupted)
    };
    keys.iter().map(get).collect()
}

/// Up to `limit` entries of a range, from one snapshot.
pub(super) fn scan(database: &Database, range: &KeyRange, limit: usize) -> Result<Page, redb::Error> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut page = Page::default();
    let mut bytes = 0;
    let Some(bounds) = bounds(range) else { return Ok(page) };
    for row in ReadableTable::range::<&[u8]>(&table, bounds)? {
        let (key, row) = row?;
        if page.entries.len() == limit || bytes >= MAX_TRANSACTION_BYTES {
            page.next = page.entries.last().map(|last| range.after(&last.key));
            break;
        }
        let entry = entry(Bytes::copy_from_slice(key.value()), row.value()).map_err(corrupted)?;
        bytes += entry.key.len() + entry.value.len();
        page.entries.push(entry);
    }
    Ok(page)
}

/// A damaged entry, among the engine's errors.
pub(super) fn corrupted(damaged: super::tables::Damaged) -> redb::Error {
    redb::Error::Corrupted(damaged.to_string())
}

/// A read's failure for its caller.
pub(super) fn read_error(error: redb::Error) -> MetaError {
    match error {
        // The engine's own text for this begins with words of no use to an operator.
        redb::Error::Corrupted(reason) => MetaError::Failed(reason),
        // The writer is opening the engine anew.
        redb::Error::PreviousIo => {
            MetaError::Unavailable("it recovers from a failed write; try again".into())
        }
        error => failed(&error),
    }
}

/// A read that took longer has waited for the disk.
const SLOW: Duration = Duration::from_millis(1);
/// How long reads keep away from async workers after one was slow.
const CAREFUL_FOR: Duration = Duration::from_secs(1);

/// Decides whether a small read runs where it is asked for, which takes a few microseconds where the pages are in
/// memory, or on a thread that may block, which costs tens of microseconds more.
///
/// Nobody can tell beforehand whether pages are in memory. So reads run in place until one was slow, and elsewhere for
/// a second after that: a slow disk holds up a worker once a second rather than at every read.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// Milliseconds since `started` until which reads run elsewhere.
    careful_until: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), careful_until: AtomicU64::new(0) }
    }

    /// Whether a small read may run on an async worker now.
    pub(super) fn in_place(&self) -> bool {
        self.elapsed() >= self.careful_until.load(Ordering::Relaxed)
    }

    /// Runs a read and takes note of the time.
    pub(super) fn timed<T>(&self, read: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = read();
        if started.elapsed() > SLOW {
            let until = self.elapsed() + CAREFUL_FOR.as_millis() as u64;
            self.careful_until.fetch_max(until, Ordering::Relaxed);
        }
        result
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_read_sends_the_next_ones_elsewhere() {
        let pace = Pace::new();
        assert!(pace.in_place());
        pace.timed(|| ());
        assert!(pace.in_place());
        pace.timed(|| std::thread::sleep(SLOW * 2));
        assert!(!pace.in_place());
    }
}
