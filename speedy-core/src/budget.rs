//! One byte budget for everything that a process holds in memory on behalf of requests.
//!
//! Whoever is about to hold bytes reserves them first and waits while the budget is spent, so that pressure goes
//! back to the socket instead of into memory. Waiters are served in order of arrival.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be held at once. Cheap to clone; clones share the budget.
#[derive(Clone, Debug)]
pub struct Budget {
    // A permit is one unit, because a semaphore permit count must fit in 32 bits at acquisition.
    units: Arc<Semaphore>,
    total: u64,
}

const UNIT: u64 = 1024;

impl Budget {
    /// The default of a process: 256 MiB.
    pub const DEFAULT: u64 = 256 << 20;

    /// A budget of `bytes`, counted in KiB and rounded up.
    pub fn new(bytes: u64) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS as u64);
        Self { units: Arc::new(Semaphore::new(units as usize)), total: units * UNIT }
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
        let units = self.units_for(bytes);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Reservation(permit.expect("the semaphore of a budget is never closed"))
    }

    /// Reserves `bytes` if they are free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok().map(Reservation)
    }

    fn units_for(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(UNIT).min(self.total / UNIT);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
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

    /// Takes another reservation of the same budget into this one.
    ///
    /// # Panics
    /// If it is of another budget.
    pub fn merge(&mut self, other: Reservation) {
        self.0.merge(other.0);
    }

    /// Splits off `bytes`, rounded down to whole KiB and at most all; the rest stays here.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let units = ((bytes / UNIT) as usize).min(self.0.num_permits());
        Reservation(self.0.split(units).expect("no more is split off than is held"))
    }
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
}
