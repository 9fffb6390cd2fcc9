//! Volumes that a checkpoint knows and that are not there any more, or shorter than they were.
//!
//! Compaction removes a volume only when whatever counted in it is in another one, durably (`docs/format.md`, invariant D). So what a
//! checkpoint has of a volume that is gone is in the index all the same, from another record; where it is not, the
//! file was lost, or somebody took it away, or what compaction made of it can't be read.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::index::Index;
use super::volumes::file_name;
use crate::id::ChunkId;

/// A volume that is gone, or cut off, with records that are nowhere else in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostVolume {
    /// Where its file was, or still is.
    pub path: PathBuf,
    /// How many chunks of it the store has nowhere.
    pub chunks: u64,
    /// How many tombstones and notes of damage: what was deleted may be there again.
    pub tombstones: u64,
}

/// What checkpoints have of volumes that can't be taken over from them.
#[derive(Default)]
pub(super) struct Gone {
    checkpoints: Vec<(PathBuf, Checkpoint)>,
    volumes: HashSet<u32>,
}

impl Gone {
    /// Remembers the volumes of a checkpoint in this directory that are not as it says.
    pub(super) fn add(&mut self, directory: &Path, checkpoint: Checkpoint, volumes: Vec<u32>) {
        self.checkpoints.push((directory.to_owned(), checkpoint));
        self.volumes.extend(volumes);
    }

    /// The numbers of these volumes.
    pub(super) fn volumes(&self) -> &HashSet<u32> {
        &self.volumes
    }

    /// Those of which records are missing in the index, once it has all that could be read.
    pub(super) fn lost(&self, index: &Index) -> Vec<LostVolume> {
        let mut lost = BTreeMap::new();
        for (directory, checkpoint) in &self.checkpoints {
            for row in checkpoint.rows().filter(|row| self.volumes.contains(&row.entry().volume)) {
                let entry = row.entry();
                let found = index.get(ChunkId::new(row.id()));
                // A chunk that is there while its tombstone is not has come back.
                if found.is_none_or(|found| entry.is_tombstone() && !found.is_tombstone()) {
                    let path = directory.join(file_name(entry.volume));
                    let (chunks, tombstones) = lost.entry(path).or_insert((0, 0));
                    *(if entry.is_chunk() { chunks } else { tombstones }) += 1;
                }
            }
        }
        let volume = |(path, (chunks, tombstones))| LostVolume { path, chunks, tombstones };
        lost.into_iter().map(volume).collect()
    }
}
