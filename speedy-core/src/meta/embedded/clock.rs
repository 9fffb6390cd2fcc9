//! A clock that never goes back, across restarts too.
//!
//! No time is told that is later than a mark on stable storage. The mark is moved ahead of the clock a few seconds at
//! a time, so that telling the time costs a commit only once in a while. After a crash the clock stands at the mark
//! until the wall clock has caught up, which takes at most [`RESERVE`]; a clean close moves the mark back to the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::meta::Timestamp;
use crate::sync::{AtomicU64, Ordering};

/// How far ahead of the clock the mark is set.
pub(super) const RESERVE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Clock {
    opened: Instant,
    /// The time at `opened`, in milliseconds.
    base: u64,
    /// The latest time told.
    told: AtomicU64,
    /// The mark on stable storage.
    reserved: AtomicU64,
}

impl Clock {
    /// The clock of a store whose mark is at `reserved`.
    pub(super) fn new(reserved: Timestamp) -> Self {
        let base = reserved.0.max(wall());
        Self {
            opened: Instant::now(),
            base,
            told: AtomicU64::new(reserved.0),
            reserved: AtomicU64::new(reserved.0),
        }
    }

    /// The time, unless the mark must be moved first.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let time = self.reading();
        if time > self.reserved.load(Ordering::Acquire) {
            return None;
        }
        Some(Timestamp(self.told.fetch_max(time, Ordering::AcqRel).max(time)))
    }

    /// Where the mark should go now, or `None` where it is far enough ahead.
    pub(super) fn wanted_mark(&self) -> Option<Timestamp> {
        let time = Timestamp(self.reading());
        let left = Timestamp(self.reserved.load(Ordering::Acquire)).since(time);
        (left < RESERVE / 2).then(|| time.after(RESERVE))
    }

    /// The mark that a clean close leaves: no later than any time told.
    pub(super) fn closing_mark(&self) -> Timestamp {
        Timestamp(self.told.load(Ordering::Acquire))
    }

    /// Takes note that the mark is on stable storage.
    pub(super) fn reserve(&self, mark: Timestamp) {
        self.reserved.fetch_max(mark.0, Ordering::AcqRel);
    }

    /// The time for the store's own bookkeeping, which is never told and needs no mark.
    pub(super) fn unmarked(&self) -> Timestamp {
        Timestamp(self.reading())
    }

    /// The wall clock where it is ahead; otherwise time goes on from where the store was opened, so that a wall clock
    /// that is set back does not stop it.
    fn reading(&self) -> u64 {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        wall().max(self.base.saturating_add(elapsed)).max(self.told.load(Ordering::Acquire))
    }
}

/// The mark of a store that is made of a backup with this mark: after every time that the store has told since, as
/// far as the wall clocks of its hosts agree.
pub(super) fn mark_after_restore(mark: Timestamp) -> Timestamp {
    mark.max(Timestamp(wall()).after(RESERVE))
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_told_beyond_the_mark() {
        let clock = Clock::new(Timestamp(0));
        assert_eq!(clock.now(), None);
        let mark = clock.wanted_mark().unwrap();
        clock.reserve(mark);
        let told = clock.now().unwrap();
        assert!(told <= mark);
        assert_eq!(clock.wanted_mark(), None);
        assert!(clock.closing_mark() >= told);
    }

    #[test]
    fn a_mark_in_the_future_is_where_the_clock_goes_on() {
        let future = Timestamp(wall()).after(Duration::from_secs(3600));
        let clock = Clock::new(future);
        clock.reserve(clock.wanted_mark().unwrap());
        let first = clock.now().unwrap();
        assert!(first >= future);
        assert!(clock.now().unwrap() >= first);
    }
}
