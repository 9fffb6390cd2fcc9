//! One byte budget for everything that a process holds in memory on behalf of requests.
//!
//! Whoever is about to hold bytes reserves them first and waits while the budget is spent, so that pressure goes
//! back to the socket instead of into memory. Waiters are served in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be held at once. Cheap to clone; clones share the budget.
#[derive(Clone, Debug)]
pub struct Budget {
    // A permit is one unit, because a semaphore permit count must fit in 32 bits at acquisition.
    units: Arc<Semaphore>,
    /// What of them readers may hold, who rest with it as long as their clients do. The others are never behind them.
    for_reading: Arc<Semaphore>,
    most_for_reading: u64,
    total: u64,
    waiting: Arc<AtomicUsize>,
}

const UNIT: u64 = 1024;
/// The part that readers never hold: a fourth.
const KEPT_FROM_READING: u64 = 4;

impl Budget {
    /// The default of a process: 256 MiB.
    pub const DEFAULT: u64 = 256 << 20;

    /// A budget of `bytes`, counted in KiB and rounded up.
    pub fn new(bytes: u64) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS as u64);
        let most_for_reading = (units - units / KEPT_FROM_READING).max(units.min(1));
        Self {
            units: Arc::new(Semaphore::new(units as usize)),
            for_reading: Arc::new(Semaphore::new(most_for_reading as usize)),
            most_for_reading,
            total: units * UNIT,
            waiting: Arc::default(),
        }
    }

    /// The whole budget in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that nobody holds now.
    pub fn available(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    /// Waits until `bytes` are free and reserves them. A request above the whole budget takes the whole budget:
    /// one such request then runs alone rather than never.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        // Those who wait are served first: the semaphore leaves nothing free while somebody is in its queue.
        if let Some(free) = self.try_reserve(bytes) {
            return free;
        }
        let _waiting = Waiting::enter(&self.waiting);
        let permit = Arc::clone(&self.units).acquire_many_owned(self.units_for(bytes)).await;
        Reservation(permit.expect("the semaphore of a budget is never closed"))
    }

    /// Reserves `bytes` if they are free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok().map(Reservation)
    }

    /// Like [`reserve`](Self::reserve), for bytes that may be held until a slow client takes them: all of this kind
    /// together are at most three quarters of the budget.
    pub async fn reserve_for_reading(&self, bytes: u64) -> ReadReservation {
        if let Some(free) = self.try_reserve_for_reading(bytes) {
            return free;
        }
        let share = {
            let _waiting = Waiting::enter(&self.waiting);
            Arc::clone(&self.for_reading).acquire_many_owned(self.units_for_reading(bytes)).await
        };
        let share = share.expect("the semaphore of a budget is never closed");
        ReadReservation { _share: share, _held: self.reserve(bytes).await }
    }

    /// Reserves `bytes` for reading if they are free now.
    pub fn try_reserve_for_reading(&self, bytes: u64) -> Option<ReadReservation> {
        let units = self.units_for_reading(bytes);
        let share = Arc::clone(&self.for_reading).try_acquire_many_owned(units).ok()?;
        self.try_reserve(bytes).map(|held| ReadReservation { _share: share, _held: held })
    }

    /// Whether somebody waits for bytes now. Who holds some without need should give them back.
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn units_for(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(UNIT).min(self.total / UNIT);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    fn units_for_reading(&self, bytes: u64) -> u32 {
        self.units_for(bytes).min(u32::try_from(self.most_for_reading).unwrap_or(u32::MAX))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

/// Counts a waiter for as long as it waits, also when it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes held; they return to the budget when this is dropped.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its bytes back at once"]
pub struct Reservation(OwnedSemaphorePermit);

impl Reservation {
    /// Bytes held by this reservation.
    pub fn bytes(&self) -> u64 {
        self.0.num_permits() as u64 * UNIT
    }

    /// Splits off a reservation of up to `bytes`; the rest stays here.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let units = (bytes.div_ceil(UNIT) as usize).min(self.0.num_permits());
        Reservation(self.0.split(units).expect("no more is split off than is held"))
    }

    /// Adds another reservation to this one.
    ///
    /// # Panics
    /// If the two are not of one budget.
    pub fn merge(&mut self, other: Reservation) {
        self.0.merge(other.0);
    }
}

/// Bytes held [for reading](Budget::reserve_for_reading); they return to the budget when this is dropped.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its bytes back at once"]
pub struct ReadReservation {
    _held: Reservation,
    _share: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back() {
        let budget = Budget::new(10 * UNIT);
        let mut held = budget.reserve(4000).await;
        assert_eq!(held.bytes(), 4096);
        assert!(budget.try_reserve(7 * UNIT).is_none());
        drop(held.split(1024));
        assert_eq!(budget.available(), 7 * UNIT);
        drop(held);
        assert_eq!(budget.available(), budget.total());
    }

    #[tokio::test]
    async fn a_request_above_the_budget_runs_alone() {
        let budget = Budget::new(2 * UNIT);
        let held = budget.reserve(1 << 40).await;
        assert_eq!(held.bytes(), 2 * UNIT);
        assert!(budget.try_reserve(1).is_none());
    }

    #[tokio::test]
    async fn readers_leave_a_fourth_to_others_and_wait_for_each_other() {
        let budget = Budget::new(8 * UNIT);
        let read: Vec<_> = (0..6).map(|_| budget.try_reserve_for_reading(UNIT).unwrap()).collect();
        assert!(budget.try_reserve_for_reading(UNIT).is_none());
        let mut next = std::pin::pin!(budget.reserve_for_reading(UNIT));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert!(budget.is_contended(), "readers that rest are to give way");
        let written = budget.try_reserve(2 * UNIT).expect("readers that wait hold up nobody else");
        drop(read);
        drop((next.await, written));
        assert_eq!(budget.available(), budget.total());
        // One that wants more than there is for all has what there is.
        drop(Budget::new(1).try_reserve_for_reading(1 << 40).unwrap());
        let all = budget.try_reserve_for_reading(1 << 40).unwrap();
        assert!(budget.try_reserve_for_reading(1).is_none());
        drop(all);
    }

    #[tokio::test]
    async fn a_waiter_is_seen_until_it_is_served_or_gives_up() {
        let budget = Budget::new(2 * UNIT);
        let mut held = budget.reserve(UNIT).await;
        held.merge(budget.reserve(UNIT).await);
        assert_eq!(held.bytes(), 2 * UNIT);
        assert!(!budget.is_contended());
        {
            let mut waiting = std::pin::pin!(budget.reserve(UNIT));
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            assert!(budget.is_contended());
            drop(held.split(UNIT));
            drop(waiting.await);
        }
        assert!(!budget.is_contended());
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), budget.reserve(2 * UNIT));
        assert!(waiting.await.is_err());
        assert!(!budget.is_contended());
    }
}
