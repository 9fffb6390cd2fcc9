use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::penalties::Penalties;
use super::{Group, Ring, RingError, Topology};
use crate::id::{GroupId, Owner};
use crate::sync::Mutex;

/// Chooses the group for a new chunk: the ring's choice among the groups that take chunks, or its successor when that one is
/// short of room, has just failed, or has more than its share of what is being written.
///
/// The last is consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016): a group that is slow fills up with
/// writes that it has not answered, and is passed over until it has; the others take what it can't, and none gets
/// more than 1.25 times its share of that either.
#[derive(Debug)]
pub struct GroupChooser {
    latest: Mutex<Latest>,
    failed: Penalties<GroupId>,
    /// Bytes that are being written to each group.
    pending: Mutex<HashMap<GroupId, u64>>,
}

/// A write that is under way; it counts until this is dropped.
#[derive(Debug)]
#[must_use = "the write counts only while this lives"]
pub struct PendingWrite<'a> {
    chooser: &'a GroupChooser,
    group: GroupId,
    bytes: u64,
}

impl Drop for PendingWrite<'_> {
    fn drop(&mut self) {
        let mut pending = self.chooser.pending.lock();
        if let Some(bytes) = pending.get_mut(&self.group) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                pending.remove(&self.group);
            }
        }
    }
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

    /// Bytes that any group may have pending, whatever its share: one chunk of the greatest length, or a few.
    pub const LIGHT_LOAD: u64 = 64 << 20;

    /// A chooser that knows of no failures and no writes.
    pub fn new() -> Self {
        Self { latest: Mutex::default(), failed: Penalties::new(), pending: Mutex::default() }
    }

    /// Notes that a chunk of so many bytes is being written to a group.
    pub fn begin(&self, group: GroupId, bytes: u64) -> PendingWrite<'_> {
        *self.pending.lock().entry(group).or_default() += bytes;
        PendingWrite { chooser: self, group, bytes }
    }

    /// The groups that have more pending than they should with a chunk of `length` bytes added.
    fn overloaded(&self, topology: &Topology, length: u64) -> Vec<GroupId> {
        let pending = self.pending.lock();
        if pending.values().all(|bytes| bytes.saturating_add(length) <= Self::LIGHT_LOAD) {
            return Vec::new();
        }
        let groups = || topology.groups.iter().filter(|group| group.is_writable());
        let total: u128 =
            groups().filter_map(|group| pending.get(&group.id)).map(|bytes| u128::from(*bytes)).sum();
        let weights: u128 = groups().map(|group| u128::from(group.weight)).sum();
        let is_over = |group: &&Group| {
            let bytes = u128::from(pending.get(&group.id).copied().unwrap_or_default()) + u128::from(length);
            // Five fourths of its share.
            let share = (total + u128::from(length)) * u128::from(group.weight) * 5;
            bytes > u128::from(Self::LIGHT_LOAD) && bytes * weights * 4 > share
        };
        groups().filter(is_over).map(|group| group.id).collect()
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
        let overloaded = self.overloaded(topology, length);
        // The sort is stable, so within each rank the order is the ring's.
        groups.sort_by_key(|&id| {
            let short = topology.group(id).is_some_and(|group| is_short_of_room(group, length));
            (short, self.failed.holds(id), overloaded.contains(&id))
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
