//! Summaries of sets of chunks, by which replicas find out cheaply where they differ.
//!
//! Ids are cut into ranges of 65,536. The summary of a range counts its chunks and its deletes and adds up a hash of each,
//! so it does not depend on the order in which they came. Two sets that differ have the same sum with a chance of
//! one in 2^64: the hash is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), which maps no two ids to the same
//! value. It is no defence against somebody who chooses ids; only masters do.

use std::collections::BTreeMap;

use crate::id::ChunkId;

/// Bits of an id inside its range.
pub const RANGE_BITS: u32 = 16;

/// The range of an id.
pub fn range_of(id: ChunkId) -> u64 {
    id.get() >> RANGE_BITS
}

/// What a node holds of one range of ids, summed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeDigest {
    /// The range: the ids' high bits.
    pub range: u64,
    /// Chunks in it that can be read.
    pub chunks: u64,
    /// Ids in it that were deleted.
    pub deleted: u64,
    /// The sum of the hashes of all these ids, each with whether it was deleted.
    pub sum: u64,
}

impl RangeDigest {
    /// Of a range of which nothing is held.
    pub fn empty(range: u64) -> Self {
        Self { range, ..Self::default() }
    }

    /// Adds an id of the range.
    pub fn add(&mut self, id: ChunkId, is_deleted: bool) {
        if is_deleted {
            self.deleted += 1;
        } else {
            self.chunks += 1;
        }
        self.sum = self.sum.wrapping_add(hash(id.get(), is_deleted));
    }
}

fn hash(id: u64, is_deleted: bool) -> u64 {
    // Two constants that are far apart: a delete is not the chunk of a neighbouring id.
    let start: u64 = if is_deleted { 0x9e37_79b9_7f4a_7c15 } else { 0x3c6e_f372_fe94_f82a };
    let mut z = id.wrapping_add(start);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds up the summaries of a set. Fastest where ids of one range come one after the other.
#[derive(Debug, Default)]
pub(crate) struct Digester {
    ranges: BTreeMap<u64, RangeDigest>,
    /// That of the range of the last id.
    run: RangeDigest,
}

impl Digester {
    pub(crate) fn add(&mut self, id: ChunkId, is_deleted: bool) {
        let range = range_of(id);
        if range != self.run.range {
            let next = self.ranges.remove(&range).unwrap_or_else(|| RangeDigest::empty(range));
            let last = std::mem::replace(&mut self.run, next);
            self.ranges.insert(last.range, last);
        }
        self.run.add(id, is_deleted);
    }

    /// In order of the ranges.
    pub(crate) fn finish(mut self) -> Vec<RangeDigest> {
        self.ranges.insert(self.run.range, self.run);
        self.ranges.into_values().filter(|digest| digest.chunks + digest.deleted > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[(u64, bool)]) -> Vec<RangeDigest> {
        let mut digester = Digester::default();
        ids.iter().for_each(|&(id, is_deleted)| digester.add(ChunkId::new(id), is_deleted));
        digester.finish()
    }

    #[test]
    fn equal_sets_have_equal_digests_in_any_order_and_others_differ() {
        let set = [(1, false), (2, true), (70_000, false)];
        assert_eq!(of(&set), of(&[set[2], set[0], set[1]]));
        assert_eq!(of(&set).iter().map(|digest| digest.range).collect::<Vec<_>>(), [0, 1]);
        for other in [[(1, false), (2, false), (70_000, false)], [(1, false), (3, true), (70_000, false)]] {
            assert_ne!(of(&set)[0], of(&other)[0]);
            assert_eq!(of(&set)[1], of(&other)[1]);
        }
    }

    #[test]
    fn the_sums_are_those_that_older_releases_compute() {
        assert_eq!(of(&[(1, false), (2, true)])[0].sum, 0x5643_c37f_8226_4335);
    }
}
