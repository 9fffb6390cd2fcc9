//! Which chunks make a blob: the path from its first byte on that gets furthest.

use std::collections::HashMap;

use crate::blob::Fragment;

/// The chunks of a blob that follow on one another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// From the start on, without a gap.
    pub(super) path: Vec<Fragment>,
    /// Chunks that begin after its end: bytes between are missing.
    pub(super) beyond: u64,
    /// Chunks that are not on the path although they begin before its end: tries that were given up, say.
    pub(super) unused: u64,
}

impl Plan {
    /// The path through these chunks from `start` on that gets furthest. A write that was tried again may have left
    /// two chunks at one offset, cut differently: where both get as far, the one with the higher id counts, which is
    /// nearly always the later one. All chunks of a blob carry bytes of the same content, so either is right.
    pub(super) fn new(start: u64, mut chunks: Vec<Fragment>) -> Self {
        // From the last one back: what follows a chunk is known when it is met.
        chunks.sort_by_key(|chunk| std::cmp::Reverse((chunk.offset, chunk.file.chunk)));
        let mut best: HashMap<u64, (u64, Fragment)> = HashMap::new();
        for chunk in &chunks {
            let Some(end) = chunk.offset.checked_add(chunk.length) else { continue };
            let reach = best.get(&end).map_or(end, |(reach, _)| *reach);
            let there = best.entry(chunk.offset).or_insert((reach, *chunk));
            if reach > there.0 {
                *there = (reach, *chunk);
            }
        }
        let (mut plan, mut end) = (Self::default(), start);
        while let Some((_, chunk)) = best.get(&end) {
            plan.path.push(*chunk);
            end += chunk.length;
        }
        plan.beyond = chunks.iter().filter(|chunk| chunk.offset > end).count() as u64;
        plan.unused = chunks.len() as u64 - plan.path.len() as u64 - plan.beyond;
        plan
    }

    /// The offset after its last byte; `start` where there is none.
    pub(super) fn end(&self, start: u64) -> u64 {
        self.path.last().map_or(start, |last| last.offset + last.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChunkId, FileId, GroupId};

    fn chunk(id: u64, offset: u64, length: u64) -> Fragment {
        Fragment { offset, length, file: FileId::new(GroupId::new(1), ChunkId::new(id)), checksum: 0 }
    }

    fn plan(start: u64, chunks: &[(u64, u64, u64)]) -> (Vec<u64>, u64, u64) {
        let chunks = chunks.iter().map(|&(id, offset, length)| chunk(id, offset, length)).collect();
        let plan = Plan::new(start, chunks);
        let ids = plan.path.iter().map(|chunk| chunk.file.chunk.get()).collect();
        (ids, plan.beyond, plan.unused)
    }

    #[test]
    fn the_path_that_gets_furthest_counts() {
        assert_eq!(plan(0, &[(1, 0, 10), (2, 10, 10), (3, 20, 5)]), (vec![1, 2, 3], 0, 0));
        assert_eq!(plan(0, &[(3, 20, 5), (1, 0, 10), (2, 10, 10)]), (vec![1, 2, 3], 0, 0), "in any order");
        // A long try whose session went on from a shorter one.
        assert_eq!(plan(0, &[(1, 0, 10), (2, 0, 4), (3, 4, 10)]), (vec![2, 3], 0, 1));
        // Both get as far: the later one.
        assert_eq!(plan(0, &[(1, 0, 10), (7, 0, 10), (8, 10, 1)]), (vec![7, 8], 0, 1));
        assert_eq!(plan(0, &[(7, 0, 10), (1, 0, 4), (2, 4, 6), (8, 10, 1)]), (vec![7, 8], 0, 2));
    }

    #[test]
    fn a_gap_ends_the_path() {
        assert_eq!(plan(0, &[(1, 0, 10), (2, 11, 10)]), (vec![1], 1, 0));
        assert_eq!(plan(0, &[(1, 5, 10)]), (vec![], 1, 0));
        assert_eq!(plan(0, &[]), (vec![], 0, 0));
        assert_eq!(
            plan(10, &[(1, 0, 10), (2, 10, 10)]),
            (vec![2], 0, 1),
            "what is before the start is known"
        );
        assert_eq!(plan(0, &[(1, 0, 10), (2, 10, u64::MAX)]), (vec![1], 0, 1), "no arithmetic goes over");
    }
}
