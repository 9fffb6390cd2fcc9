//! Whose bytes go to a group next.
//!
//! Writes that share a link evenly all end late and together: then their writers have nothing to send while the last
//! bytes become durable, and the link rests. In turn each is sent at the full speed of the link, so that the first is
//! durable, and what follows it on its way, while the others are still sent; and the nodes hold buffers for few.

use std::collections::HashMap;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::GroupId;
use crate::sync::{Arc, Mutex};

/// Bytes that are counted together.
const UNIT: u64 = 64 << 10;

/// Lets chunks go to each group in the order in which they came, so many bytes at once.
#[derive(Debug)]
pub(super) struct Turns {
    /// For each group at once.
    units: u32,
    groups: Mutex<HashMap<GroupId, Arc<Semaphore>>>,
}

/// The turn of a chunk. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many bytes at once for each group; a chunk that is longer goes alone.
    pub(super) fn new(bytes: u64) -> Self {
        Self { units: units(bytes), groups: Mutex::default() }
    }

    /// Waits until it is the turn of a chunk of so many bytes.
    pub(super) async fn wait(&self, group: GroupId, bytes: u64) -> Turn {
        let waiting = {
            let mut groups = self.groups.lock();
            Arc::clone(groups.entry(group).or_insert_with(|| Arc::new(Semaphore::new(self.units as usize))))
        };
        // It is never closed.
        let permit = waiting.acquire_many_owned(units(bytes).min(self.units)).await.ok();
        Turn { _permit: permit }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const GROUP: GroupId = GroupId::new(1);
    const MIB: u64 = 1 << 20;

    async fn is_free(turns: &Turns, group: GroupId, bytes: u64) -> bool {
        timeout(Duration::from_millis(1), turns.wait(group, bytes)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_group_are_limited_and_those_of_another_are_not() {
        let turns = Turns::new(8 * MIB);
        let _first = turns.wait(GROUP, 4 * MIB).await;
        let second = turns.wait(GROUP, 4 * MIB - 1).await;
        assert!(!is_free(&turns, GROUP, 1).await);
        assert!(is_free(&turns, GroupId::new(2), 8 * MIB).await);
        drop(second);
        assert!(is_free(&turns, GROUP, 4 * MIB).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_is_longer_than_all_that_may_go_at_once_goes_alone() {
        let turns = Turns::new(8 * MIB);
        let one = turns.wait(GROUP, 1).await;
        assert!(!is_free(&turns, GROUP, 64 * MIB).await);
        drop(one);
        let _all = turns.wait(GROUP, 64 * MIB).await;
        assert!(!is_free(&turns, GROUP, 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_overtaken() {
        let turns = Arc::new(Turns::new(4 * MIB));
        let first = turns.wait(GROUP, 3 * MIB).await;
        let long = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.wait(GROUP, 4 * MIB).await }
        });
        tokio::task::yield_now().await;
        // There would be room for this one; but then those that need more would wait for ever.
        assert!(!is_free(&turns, GROUP, 1).await);
        drop(first);
        drop(timeout(Duration::from_secs(1), long).await.expect("it is its turn").expect("no panic"));
        assert!(is_free(&turns, GROUP, 4 * MIB).await);
    }
}
