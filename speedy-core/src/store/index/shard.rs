//! A sorted map in little more room than its rows take.
//!
//! Rows are never removed: an id that was ever accepted stays known.

use super::entry::{Entry, Row};

/// Rows of a leaf at most: 8 KiB.
const LEAF: usize = (8 << 10) / Row::LEN;

/// Bytes for which a leaf grows, one after the other: the size classes of common allocators, so that no room is lost
/// between what is asked for and what is given.
const SIZES: [usize; 13] =
    [160, 320, 640, 1280, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, LEAF * Row::LEN];

/// Leaves in order; each a sorted array.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The first id of each leaf, apart from the leaves: a lookup goes through little memory.
    firsts: Vec<u64>,
    leaves: Vec<Vec<Row>>,
}

impl Shard {
    pub(super) fn get(&self, id: u64) -> Option<Entry> {
        let leaf = &self.leaves[self.leaf_of(id)?];
        Some(leaf[find(leaf, id).ok()?].entry())
    }

    /// The highest id.
    pub(super) fn last(&self) -> Option<u64> {
        self.leaves.last().and_then(|leaf| leaf.last()).map(Row::id)
    }

    /// Rows above `after`, in order.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = &Row> {
        let (leaf, row) = match after.and_then(|id| Some((id, self.leaf_of(id)?))) {
            Some((id, leaf)) => (leaf, self.leaves[leaf].partition_point(|row| row.id() <= id)),
            None => (0, 0),
        };
        self.leaves.iter().skip(leaf).flatten().skip(row)
    }

    /// All rows, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.leaves.iter().flatten()
    }

    /// Sets an entry; answers what was there.
    pub(super) fn insert(&mut self, row: Row) -> Option<Entry> {
        let Some(at) = self.leaf_of(row.id()) else {
            // Below all that there is: to the front of the first leaf.
            if self.leaves.is_empty() {
                self.push_leaf(row);
            } else {
                self.insert_at(0, 0, row);
            }
            return None;
        };
        match find(&self.leaves[at], row.id()) {
            Ok(found) => {
                let old = self.leaves[at][found].entry();
                self.leaves[at][found].set(row.entry());
                Some(old)
            }
            Err(position) => {
                self.insert_at(at, position, row);
                None
            }
        }
    }

    /// Adds a row that is above all others.
    pub(super) fn push(&mut self, row: Row) {
        debug_assert!(self.last().is_none_or(|last| last < row.id()));
        match self.leaves.last_mut() {
            Some(leaf) if leaf.len() < LEAF => {
                grow(leaf);
                leaf.push(row);
            }
            _ => self.push_leaf(row),
        }
    }

    /// Bytes that rows and their directory have been given.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let leaves: usize = self.leaves.iter().map(|leaf| leaf.capacity() * size_of::<Row>()).sum();
        leaves + self.leaves.capacity() * size_of::<Vec<Row>>() + self.firsts.capacity() * size_of::<u64>()
    }

    /// The leaf that has an id, or would have it. `None` below the first.
    fn leaf_of(&self, id: u64) -> Option<usize> {
        self.firsts.partition_point(|&first| first <= id).checked_sub(1)
    }

    /// Begins a leaf above all others. It will be filled, as ids mostly rise, so it gets all its room at once: leaves that
    /// grow leave holes in the allocator's memory. The first one of a small store grows.
    fn push_leaf(&mut self, row: Row) {
        let room = if self.leaves.is_empty() { capacity_for(1) } else { LEAF };
        let mut leaf = Vec::with_capacity(room);
        leaf.push(row);
        self.firsts.push(row.id());
        self.leaves.push(leaf);
    }

    fn insert_leaf(&mut self, at: usize, row: Row) {
        let mut leaf = Vec::with_capacity(capacity_for(1));
        leaf.push(row);
        self.firsts.insert(at, row.id());
        self.leaves.insert(at, leaf);
    }

    fn insert_at(&mut self, mut at: usize, mut position: usize, row: Row) {
        if self.leaves[at].len() == LEAF {
            let is_last = at + 1 == self.leaves.len();
            if position == LEAF {
                // A run of ids that rises: this leaf stays full.
                return if is_last { self.push_leaf(row) } else { self.insert_leaf(at + 1, row) };
            }
            // Where the newest ids come, several runs of them rise beside each other: the lower part stays as full
            // as it is, for the run that ends there will fill it up.
            let cut = if is_last && position >= LEAF / 2 { position } else { LEAF / 2 };
            self.split(at, cut);
            if position >= cut {
                (at, position) = (at + 1, position - cut);
            }
        }
        let leaf = &mut self.leaves[at];
        grow(leaf);
        leaf.insert(position, row);
        self.firsts[at] = leaf[0].id();
    }

    fn split(&mut self, at: usize, cut: usize) {
        let leaf = &mut self.leaves[at];
        let mut upper = Vec::with_capacity(capacity_for(leaf.len() - cut));
        upper.extend_from_slice(&leaf[cut..]);
        leaf.truncate(cut);
        leaf.shrink_to(capacity_for(cut));
        self.firsts.insert(at + 1, upper[0].id());
        self.leaves.insert(at + 1, upper);
    }
}

fn find(leaf: &[Row], id: u64) -> Result<usize, usize> {
    leaf.binary_search_by_key(&id, Row::id)
}

fn capacity_for(rows: usize) -> usize {
    let size = SIZES.into_iter().find(|size| size / Row::LEN >= rows);
    size.expect("a leaf has a greatest size") / Row::LEN
}

/// Makes room for one more row.
fn grow(leaf: &mut Vec<Row>) {
    if leaf.len() == leaf.capacity() {
        leaf.reserve_exact(capacity_for(leaf.len() + 1) - leaf.len());
    }
}
