//! Where each chunk is.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use crate::id::ChunkId;
use crate::sync::{AtomicU64, Ordering, RwLock};

const SHARDS: usize = 16;

/// The record that decides what an id is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Number of the volume.
    pub(super) volume: u32,
    /// Offset of the record in eighths: records begin on multiples of 8 and volumes end at 32 GiB.
    eighth: u32,
    /// Length of the chunk; 0 for a tombstone, since no chunk is empty.
    length: u32,
}

impl Entry {
    pub(super) fn chunk(volume: u32, offset: u64, length: u64) -> Self {
        Self { volume, eighth: eighth(offset), length: u32::try_from(length).expect("chunks end at 64 MiB") }
    }

    pub(super) fn tombstone(volume: u32, offset: u64) -> Self {
        Self { volume, eighth: eighth(offset), length: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        u64::from(self.eighth) * 8
    }

    pub(super) fn length(&self) -> u64 {
        self.length.into()
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.length == 0
    }
}

fn eighth(offset: u64) -> u32 {
    u32::try_from(offset / 8).expect("volumes end at 32 GiB")
}

/// All chunks and tombstones of a store, in memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Neighbouring ids, which are written at the same time, are spread over the shards.
    shards: [RwLock<BTreeMap<u64, Entry>>; SHARDS],
    chunks: AtomicU64,
    bytes: AtomicU64,
    tombstones: AtomicU64,
}

impl Index {
    fn shard(&self, id: ChunkId) -> &RwLock<BTreeMap<u64, Entry>> {
        &self.shards[(id.get() % SHARDS as u64) as usize]
    }

    pub(super) fn get(&self, id: ChunkId) -> Option<Entry> {
        self.shard(id).read().get(&id.get()).copied()
    }

    /// Sets what an id is.
    pub(super) fn insert(&self, id: ChunkId, entry: Entry) {
        let mut shard = self.shard(id).write();
        let old = match shard.entry(id.get()) {
            btree_map::Entry::Vacant(slot) => {
                slot.insert(entry);
                None
            }
            btree_map::Entry::Occupied(mut slot) => Some(slot.insert(entry)),
        };
        // Under the shard's lock, so that the counts of one id never go below zero.
        if let Some(old) = old {
            let (count, bytes) = self.counts(old);
            count.fetch_sub(1, Ordering::Relaxed);
            bytes.fetch_sub(old.length(), Ordering::Relaxed);
        }
        let (count, bytes) = self.counts(entry);
        count.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(entry.length(), Ordering::Relaxed);
    }

    fn counts(&self, entry: Entry) -> (&AtomicU64, &AtomicU64) {
        (if entry.is_tombstone() { &self.tombstones } else { &self.chunks }, &self.bytes)
    }

    /// Up to `limit` chunks above `after` in order, and whether there are more. Tombstones are left out.
    pub(super) fn list(&self, after: Option<ChunkId>, limit: usize) -> (Vec<(ChunkId, Entry)>, bool) {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.get()));
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            let live = shard.range((from, Bound::Unbounded)).filter(|(_, entry)| !entry.is_tombstone());
            found.extend(live.take(limit.saturating_add(1)).map(|(&id, &entry)| (ChunkId::new(id), entry)));
        }
        found.sort_unstable_by_key(|&(id, _)| id);
        let more = found.len() > limit;
        found.truncate(limit);
        (found, more)
    }

    /// The highest id of all, also of those deleted.
    pub(super) fn highest(&self) -> Option<ChunkId> {
        let last = |shard: &RwLock<BTreeMap<u64, Entry>>| shard.read().last_key_value().map(|(&id, _)| id);
        self.shards.iter().filter_map(last).max().map(ChunkId::new)
    }

    /// Live chunks, their bytes, and tombstones.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.chunks), load(&self.bytes), load(&self.tombstones))
    }
}
