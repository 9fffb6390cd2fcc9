//! Where each chunk is: all chunks and tombstones of a store, in memory.
//!
//! A chunk takes 20 bytes and what its leaf leaves unused, whatever the order in which ids come.

mod entry;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use entry::{Entry, Row};
use shard::Shard;

use crate::id::ChunkId;
use crate::sync::{Mutex, RwLock};

const SHARDS: usize = 16;

/// What of a volume is in use: what the index points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct VolumeUsage {
    /// Chunks that can be read.
    pub(super) chunks: u64,
    /// Bytes of those chunks.
    pub(super) chunk_bytes: u64,
    pub(super) tombstones: u64,
    /// Ids whose chunk is set aside as damaged.
    pub(super) quarantined: u64,
    /// Bytes of all these records, with headers, footers and padding.
    pub(super) record_bytes: u64,
}

impl VolumeUsage {
    fn add(&mut self, entry: Entry) {
        let (count, bytes) = self.of(entry);
        *count += 1;
        self.chunk_bytes += bytes;
        self.record_bytes += entry.record_bytes();
    }

    fn subtract(&mut self, entry: Entry) {
        let (count, bytes) = self.of(entry);
        *count -= 1;
        self.chunk_bytes -= bytes;
        self.record_bytes -= entry.record_bytes();
    }

    fn of(&mut self, entry: Entry) -> (&mut u64, u64) {
        if entry.is_tombstone() {
            (&mut self.tombstones, 0)
        } else if entry.is_quarantined() {
            (&mut self.quarantined, 0)
        } else {
            (&mut self.chunks, entry.length())
        }
    }
}

/// All chunks and tombstones of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Neighbouring ids, which are written at the same time, are spread over the shards.
    shards: [RwLock<Shard>; SHARDS],
    /// Locked after a shard, never before.
    volumes: Mutex<BTreeMap<u32, VolumeUsage>>,
}

impl Index {
    fn shard(&self, id: u64) -> &RwLock<Shard> {
        &self.shards[(id % SHARDS as u64) as usize]
    }

    pub(super) fn get(&self, id: ChunkId) -> Option<Entry> {
        self.shard(id.get()).read().get(id.get())
    }

    /// Sets what an id is.
    pub(super) fn insert(&self, id: ChunkId, entry: Entry) {
        let mut shard = self.shard(id.get()).write();
        let old = shard.insert(Row::new(id, entry));
        // Under the shard's lock, so that the counts of one id never go below zero.
        self.count(old, entry);
    }

    /// Sets what an id is, if it is still `old`; whether it was.
    pub(super) fn replace(&self, id: ChunkId, old: Entry, new: Entry) -> bool {
        let mut shard = self.shard(id.get()).write();
        let is_old = shard.get(id.get()) == Some(old);
        if is_old {
            shard.insert(Row::new(id, new));
            self.count(Some(old), new);
        }
        is_old
    }

    fn count(&self, old: Option<Entry>, new: Entry) {
        let mut volumes = self.volumes.lock();
        if let Some(old) = old
            && let Some(usage) = volumes.get_mut(&old.volume)
        {
            usage.subtract(old);
        }
        volumes.entry(new.volume).or_default().add(new);
    }

    /// Fills an empty index with rows in the order of their ids.
    pub(super) fn load(&self, rows: impl Iterator<Item = Row>) {
        let mut shards = self.shards.each_ref().map(|shard| shard.write());
        let mut volumes = self.volumes.lock();
        // Neighbouring rows mostly lie in one volume: it is looked up once.
        let mut usage = VolumeUsage::default();
        let mut current = None;
        for row in rows {
            let entry = row.entry();
            if current != Some(entry.volume) {
                if let Some(number) = current.replace(entry.volume) {
                    volumes.insert(number, usage);
                }
                usage = volumes.get(&entry.volume).copied().unwrap_or_default();
            }
            shards[(row.id() % SHARDS as u64) as usize].push(row);
            usage.add(entry);
        }
        if let Some(number) = current {
            volumes.insert(number, usage);
        }
    }

    /// Up to `limit` chunks above `after` in order, and whether there are more. Tombstones are left out.
    pub(super) fn list(&self, after: Option<ChunkId>, limit: usize) -> (Vec<(ChunkId, Entry)>, bool) {
        self.gather(after, limit, |entry| entry.is_chunk())
    }

    /// Up to `limit` rows above `after` in order, of whatever kind, and whether there are more.
    pub(super) fn page(&self, after: Option<ChunkId>, limit: usize) -> (Vec<(ChunkId, Entry)>, bool) {
        self.gather(after, limit, |_| true)
    }

    fn gather(
        &self,
        after: Option<ChunkId>,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> (Vec<(ChunkId, Entry)>, bool) {
        let mut found: Vec<(ChunkId, Entry)> = Vec::new();
        let mut after = after.map(ChunkId::get);
        loop {
            // A little more than its share from each shard; what lies above the least that one has been read to is
            // left for the next turn.
            let share = (limit.saturating_add(1) - found.len()).div_ceil(SHARDS) + 16;
            let mut read_to = u64::MAX;
            let begin = found.len();
            let mut is_all = true;
            for shard in &self.shards {
                let shard = shard.read();
                let mut rows = shard.after(after).filter(|row| wanted(&row.entry()));
                found.extend(rows.by_ref().take(share).map(|row| (ChunkId::new(row.id()), row.entry())));
                if rows.next().is_some() {
                    is_all = false;
                    read_to = read_to.min(found.last().map_or(0, |(id, _)| id.get()));
                }
            }
            found[begin..].sort_unstable_by_key(|&(id, _)| id);
            let kept = found[begin..].partition_point(|(id, _)| id.get() <= read_to);
            found.truncate(begin + kept);
            if is_all || found.len() > limit {
                break;
            }
            after = Some(read_to);
        }
        let more = found.len() > limit;
        found.truncate(limit);
        (found, more)
    }

    /// All entries whose record is in a volume, in the order of their offsets.
    pub(super) fn entries_of(&self, volume: u32) -> Vec<(ChunkId, Entry)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            let rows = shard.rows().filter(|row| row.entry().volume == volume);
            found.extend(rows.map(|row| (ChunkId::new(row.id()), row.entry())));
        }
        found.sort_unstable_by_key(|(_, entry)| entry.offset());
        found
    }

    /// Calls `each` with all chunks and tombstones, in the order of their ids within each shard.
    pub(super) fn visit(&self, mut each: impl FnMut(ChunkId, Entry)) {
        for shard in &self.shards {
            for row in shard.read().rows() {
                each(ChunkId::new(row.id()), row.entry());
            }
        }
    }

    /// The highest id of all, also of those deleted.
    pub(super) fn highest(&self) -> Option<ChunkId> {
        self.shards.iter().filter_map(|shard| shard.read().last()).max().map(ChunkId::new)
    }

    /// What of a volume is in use.
    pub(super) fn usage_of(&self, volume: u32) -> VolumeUsage {
        self.volumes.lock().get(&volume).copied().unwrap_or_default()
    }

    /// What of all volumes is in use.
    pub(super) fn usage(&self) -> VolumeUsage {
        let mut total = VolumeUsage::default();
        for usage in self.volumes.lock().values() {
            total.chunks += usage.chunks;
            total.chunk_bytes += usage.chunk_bytes;
            total.tombstones += usage.tombstones;
            total.quarantined += usage.quarantined;
            total.record_bytes += usage.record_bytes;
        }
        total
    }
}
