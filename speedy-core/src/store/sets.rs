//! What a store holds, for comparing it with another one.

use std::collections::HashSet;

use super::ChunkStore;
use super::index::Entry;
use crate::id::ChunkId;
use crate::ranges::{Digester, RANGE_BITS, RangeDigest};

/// Rows that are looked up in the index at once.
const PAGE: usize = 4096;

impl ChunkStore {
    /// Summaries of all that the store holds, in order of the ranges. What is known to be damaged counts as missing, so
    /// that whoever compares sends it again.
    ///
    /// It looks at every entry of the index, in memory.
    pub fn digests(&self) -> Vec<RangeDigest> {
        let damaged = self.known_damaged();
        let mut digester = Digester::default();
        self.shared.index.visit(|id, entry| {
            if let Some(is_deleted) = held(&damaged, id, entry) {
                digester.add(id, is_deleted);
            }
        });
        digester.finish()
    }

    /// All ids of a range that the store holds or knows as deleted, in order; each with the chunk's length, or `None`
    /// for a delete.
    pub fn entries(&self, range: u64) -> Vec<(ChunkId, Option<u64>)> {
        let damaged = self.known_damaged();
        let Some(first) = range.checked_shl(RANGE_BITS).filter(|first| first >> RANGE_BITS == range) else {
            return Vec::new();
        };
        let last = first | ((1 << RANGE_BITS) - 1);
        let mut after = first.checked_sub(1).map(ChunkId::new);
        let mut entries = Vec::new();
        loop {
            let (page, more) = self.shared.index.page(after, PAGE);
            after = page.last().map(|(id, _)| *id);
            let in_range = page.iter().take_while(|(id, _)| id.get() <= last);
            entries.extend(in_range.filter_map(|&(id, entry)| {
                held(&damaged, id, entry).map(|is_deleted| (id, (!is_deleted).then(|| entry.length())))
            }));
            if !more || after.is_some_and(|after| after.get() >= last) {
                return entries;
            }
        }
    }

    fn known_damaged(&self) -> HashSet<ChunkId> {
        self.damaged().into_iter().map(|(id, _)| id).collect()
    }
}

/// Whether an entry is a delete or a chunk that can be read; `None` where it is neither.
fn held(damaged: &HashSet<ChunkId>, id: ChunkId, entry: Entry) -> Option<bool> {
    if entry.is_tombstone() {
        return Some(true);
    }
    (entry.is_chunk() && (damaged.is_empty() || !damaged.contains(&id))).then_some(false)
}
