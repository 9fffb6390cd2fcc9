use std::sync::Arc;
use std::time::Duration;

use super::penalties::Penalties;
use super::{Group, Ring, RingError, Topology};
use crate::id::{GroupId, Owner};
use crate::sync::Mutex;

/// Chooses the group for a new chunk: the ring's choice among the groups that take chunks, or its successor when that one is
/// short of room or has just failed.
#[derive(Debug)]
pub struct GroupChooser {
    latest: Mutex<Latest>,
    failed: Penalties<GroupId>,
}

/// The ring that was built last, and of what.
#[derive(Debug, Default)]
struct Latest {
    weights: Vec<(GroupId, u32)>,
    ring: Arc<Ring>,
}

impl GroupChooser {
    /// A group is chosen after all others when some member's free space is less than this, or than a tenth of its
    /// disks where those are small, with the chunk added.
    /// The nodes themselves keep a reserve and say so when they are full; this stops most writes before that.
    pub const LOW_SPACE: u64 = 256 << 20;

    /// A chooser that knows of no failures.
    pub fn new() -> Self {
        Self { latest: Mutex::default(), failed: Penalties::new() }
    }

    /// The groups that take chunks, in the order in which a chunk of `length` bytes should be offered to them.
    ///
    /// # Errors
    /// When the weights of the topology make no ring.
    pub fn candidates(
        &self,
        topology: &Topology,
        owner: Owner,
        length: u64,
    ) -> Result<Vec<GroupId>, RingError> {
        let ring = self.ring(topology)?;
        let mut groups: Vec<_> = ring.successors(Ring::position(owner)).collect();
        // The sort is stable, so within each rank the order is the ring's.
        groups.sort_by_key(|&id| {
            let short = topology.group(id).is_some_and(|group| is_short_of_room(group, length));
            (short, self.failed.holds(id))
        });
        Ok(groups)
    }

    /// Notes that a group has just failed to take a chunk: for `length` others are chosen before it.
    pub fn failed(&self, group: GroupId, length: Duration) {
        self.failed.punish(group, length);
    }

    /// Notes that a group has taken a chunk.
    pub fn succeeded(&self, group: GroupId) {
        self.failed.forgive(group);
    }

    /// The ring of the groups of a topology that take chunks. Another group is left out, which is the same as
    /// to pass over its points: its keys go to their successors and come back with it.
    fn ring(&self, topology: &Topology) -> Result<Arc<Ring>, RingError> {
        let writable = topology.groups.iter().filter(|group| group.is_writable());
        let weights = writable.map(|group| (group.id, group.weight));
        {
            // Most revisions of a topology leave the weights as they were, and the ring with them.
            let latest = self.latest.lock();
            if weights.clone().eq(latest.weights.iter().copied()) {
                return Ok(Arc::clone(&latest.ring));
            }
        }
        let ring = Arc::new(Ring::new(weights.clone())?);
        *self.latest.lock() = Latest { weights: weights.collect(), ring: Arc::clone(&ring) };
        Ok(ring)
    }
}

impl Default for GroupChooser {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether some member has no room to speak of. One that has not said how large it is counts as having room.
fn is_short_of_room(group: &Group, length: u64) -> bool {
    let short = |free: u64, total: u64| {
        total > 0 && free < GroupChooser::LOW_SPACE.min(total / 10).saturating_add(length)
    };
    group.in_sync().any(|member| short(member.free_bytes, member.total_bytes))
}

#[cfg(test)]
mod tests;
