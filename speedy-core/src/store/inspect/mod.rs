//! Looking at a store: what its volumes hold, whether all of it is whole, and every record by itself. Nothing here
//! changes anything, so it also serves a store that was opened [to be read](super::StoreOptions::read_only).

mod check;
mod dump;

use std::path::PathBuf;

pub use check::{CheckOptions, CheckReport};
pub use dump::{RecordInfo, RecordOf, RecordState};

use super::format::{FIRST_RECORD, VolumeKind};
use super::index::VolumeUsage;
use super::{ChunkStore, ReadError};

/// One volume, as [`ChunkStore::volumes`] tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its number: no two volumes of a store have the same.
    pub number: u32,
    /// Its file.
    pub path: PathBuf,
    /// Whether it holds chunks of 256 KiB and more, aligned to pages; otherwise smaller ones and tombstones, packed.
    pub is_aligned: bool,
    /// Whether it takes records.
    pub is_open: bool,
    /// Bytes of its file.
    pub size: u64,
    /// Chunks that can be read from it.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub chunk_bytes: u64,
    /// Tombstones in it.
    pub tombstones: u64,
    /// Notes that a chunk is in quarantine.
    pub quarantined: u64,
    /// Bytes that compaction would give back: of records that do not count any more, of marks, and of writes that were cut
    /// off. A write that is under way looks dead.
    pub dead_bytes: u64,
}

impl ChunkStore {
    /// The volumes of the store, in the order of their numbers.
    ///
    /// # Errors
    /// Where the system does not tell how long a file is.
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, ReadError> {
        let store = &*self.shared;
        let volumes = store.volumes.all().into_iter();
        volumes
            .map(|volume| {
                let number = volume.header.number;
                let path = volume.path.clone();
                let size =
                    volume.file.len().map_err(|source| ReadError::Io { path: path.clone(), source })?;
                let usage = store.index.usage_of(number);
                let VolumeUsage { chunks, chunk_bytes, tombstones, quarantined, record_bytes } = usage;
                Ok(VolumeInfo {
                    number,
                    path,
                    is_aligned: volume.kind() == VolumeKind::Aligned,
                    is_open: store.volumes.is_open(&volume),
                    size,
                    chunks,
                    chunk_bytes,
                    tombstones,
                    quarantined,
                    // What it has grown ahead is not dead.
                    dead_bytes: volume.open_end().unwrap_or(size).saturating_sub(FIRST_RECORD + record_bytes),
                })
            })
            .collect()
    }
}
