//! Volumes that a checkpoint knows and that are not there any more, or shorter than they were.
//!
//! Compaction removes a volume only when whatever counted in it is in another one, durably (`docs/format.md`, invariant D). So what a
//! checkpoint has of a volume that is gone is in the index all the same, from another record; where it is not, the
//! file was lost, or somebody took it away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::index::Index;
use super::volumes::file_name;
use crate::id::ChunkId;

/// A volume that is gone, or cut off, with chunks that are nowhere else in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostVolume {
    /// Where its file was, or still is.
    pub path: PathBuf,
    /// How many chunks of it the store has nowhere.
    pub chunks: u64,
}

/// What checkpoints have of volumes that can't be taken over from them.
#[derive(Default)]
pub(super) struct Gone(Vec<(PathBuf, Checkpoint, Vec<u32>)>);

impl Gone {
    /// Remembers the volumes of a checkpoint in this directory that are not as it says.
    pub(super) fn add(&mut self, directory: &Path, checkpoint: Checkpoint, volumes: Vec<u32>) {
        self.0.push((directory.to_owned(), checkpoint, volumes));
    }

    /// Those of which chunks are missing in the index, once it has all that could be read.
    pub(super) fn lost(&self, index: &Index) -> Vec<LostVolume> {
        let mut lost = BTreeMap::new();
        for (directory, checkpoint, volumes) in &self.0 {
            for row in checkpoint.rows() {
                let entry = row.entry();
                let is_lost = || index.get(ChunkId::new(row.id())).is_none();
                if entry.is_chunk() && volumes.contains(&entry.volume) && is_lost() {
                    *lost.entry(directory.join(file_name(entry.volume))).or_insert(0) += 1;
                }
            }
        }
        lost.into_iter().map(|(path, chunks)| LostVolume { path, chunks }).collect()
    }
}
