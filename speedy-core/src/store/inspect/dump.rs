//! Every record of a store, one after the other, as it stands in its volume.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::{ChunkId, GroupVersion, Owner};
use crate::store::format::{FIRST_RECORD, RecordHeader, RecordKind};
use crate::store::index::Entry;
use crate::store::scan::{FooterState, Place, body_is_whole, visit};
use crate::store::volume::Volume;
use crate::store::{ChunkStore, ReadError, Shared};

/// What stands at a place of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecordInfo {
    /// Number of the volume.
    pub volume: u32,
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// Bytes that it takes, with header, checksums and padding.
    pub size: u64,
    /// What it is.
    pub record: RecordOf,
    /// What it counts for.
    pub state: RecordState,
    /// Rises with every record of the store; 0 where no record can be read.
    pub sequence: u64,
    /// When it was written, by that machine's clock; a copy keeps the time of its original.
    pub created: Option<SystemTime>,
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecordOf {
    /// A chunk.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Its length in bytes.
        length: u64,
        /// Whom it was written for.
        owner: Owner,
        /// The version of the group under which it was written.
        version: GroupVersion,
    },
    /// An id that is spent.
    Tombstone {
        /// The id.
        id: ChunkId,
        /// The version of the group under which it was deleted.
        version: GroupVersion,
    },
    /// The note that what is left of a chunk is in quarantine.
    Quarantined {
        /// Its id.
        id: ChunkId,
        /// Its length in bytes.
        length: u64,
        /// Number of the volume in whose quarantine file it is.
        volume: u32,
    },
    /// All records before it are on stable storage.
    Mark {
        /// Whether nothing follows.
        is_final: bool,
    },
    /// No record can be read.
    Unreadable,
    /// Zeros: room that was set aside and not used.
    Empty,
}

/// What a record counts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecordState {
    /// It is what its id is.
    Live,
    /// It is what its id is, and its bytes are not those that were written.
    Damaged,
    /// Another record of its id counts: a tombstone, a copy, a heal.
    Dead,
    /// The write was cut off before its end.
    Unfinished,
    /// It is complete and not whole, and nothing vouches for it: a power cut tore the write, or it is damaged.
    Torn,
    /// It is of no id.
    None,
}

impl ChunkStore {
    /// Calls `each` with every record of every volume, in the order of their numbers and offsets, until it breaks off. With
    /// `verify` the bytes of the chunks that count are read and verified; otherwise only their checksums are.
    ///
    /// What is written meanwhile may look unfinished; what is compacted meanwhile may come twice.
    ///
    /// # Errors
    /// The first volume of which the disk does not give out the length.
    pub fn dump(
        &self,
        verify: bool,
        mut each: impl FnMut(&RecordInfo) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let store = &*self.shared;
        for volume in store.volumes.all() {
            let failed = |source: io::Error| ReadError::Io { path: volume.path.clone(), source };
            let mut ended = ControlFlow::Continue(());
            visit(&volume, FIRST_RECORD, &mut |place| {
                ended = each(&describe(store, &volume, verify, place));
                ended
            })
            .map_err(failed)?;
            if ended.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn describe(store: &Shared, volume: &Volume, verify: bool, place: Place) -> RecordInfo {
    let number = volume.header.number;
    let (header, footer, geometry) = match place {
        Place::Record { header, footer, geometry } => (header, footer, geometry),
        Place::Gap { range, is_empty, .. } => {
            return RecordInfo {
                volume: number,
                offset: range.start,
                size: range.end - range.start,
                record: if is_empty { RecordOf::Empty } else { RecordOf::Unreadable },
                state: RecordState::None,
                sequence: 0,
                created: None,
            };
        }
    };
    let RecordHeader { kind, id, owner, length, version, sequence, created } = header;
    let record = match kind {
        RecordKind::Chunk => RecordOf::Chunk { id, length, owner, version },
        RecordKind::Tombstone => RecordOf::Tombstone { id, version },
        RecordKind::Quarantined { volume } => RecordOf::Quarantined { id, length, volume },
        RecordKind::Mark { last } => RecordOf::Mark { is_final: last },
    };
    let entry = match kind {
        RecordKind::Chunk => Some(Entry::chunk(number, geometry.start, length)),
        RecordKind::Tombstone => Some(Entry::tombstone(number, geometry.start)),
        RecordKind::Quarantined { .. } => Some(Entry::quarantined(number, geometry.start, length)),
        RecordKind::Mark { .. } => None,
    };
    let known = store.index.get(id);
    let state = match entry {
        None => RecordState::None,
        Some(_) if footer == FooterState::Absent => RecordState::Unfinished,
        Some(entry) if known == Some(entry) => {
            let is_whole = footer == FooterState::Valid
                && (!verify || !entry.is_chunk() || body_is_whole(volume, geometry.start, length));
            if is_whole { RecordState::Live } else { RecordState::Damaged }
        }
        Some(_) if known.is_some() => RecordState::Dead,
        Some(_) => RecordState::Torn,
    };
    RecordInfo {
        volume: number,
        offset: geometry.start,
        size: geometry.end - geometry.start,
        record,
        state,
        sequence,
        created: Some(UNIX_EPOCH + Duration::from_millis(created)),
    }
}
