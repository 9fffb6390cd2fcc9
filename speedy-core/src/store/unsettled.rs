//! Writes and deletes that failed on their way to the disk, and of which only the next start knows how they ended.

use std::collections::{HashMap, HashSet};

use super::{NewChunk, WriteError};
use crate::id::ChunkId;
use crate::sync::Mutex;

/// What may turn out to be on the disk. It is forgotten when the store is closed, for opening it finds out and settles
/// it; in between an id must not become anything that would contradict.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Length and checksum of what was tried first.
    writes: Mutex<HashMap<ChunkId, (u64, u32)>>,
    deletes: Mutex<HashSet<ChunkId>>,
}

impl Unsettled {
    /// Refuses an id of which a tombstone may be there.
    pub(super) fn check_id(&self, id: ChunkId) -> Result<(), WriteError> {
        if self.deletes.lock().contains(&id) { Err(WriteError::Deleted(id)) } else { Ok(()) }
    }

    /// Whether a write of an id has failed that may be there all the same.
    pub(super) fn has_write(&self, id: ChunkId) -> bool {
        self.writes.lock().contains_key(&id)
    }

    /// Makes a try to write a chunk, under the claim of its id; refuses it where other bytes may be there, which would
    /// be found should the record that is written now ever be damaged.
    pub(super) fn write<T>(
        &self,
        chunk: &NewChunk,
        checksum: u32,
        write: impl FnOnce() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let tried = (chunk.length, checksum);
        if self.writes.lock().get(&chunk.id).is_some_and(|before| *before != tried) {
            return Err(WriteError::Conflict(chunk.id));
        }
        let result = write();
        match &result {
            Ok(_) => drop(self.writes.lock().remove(&chunk.id)),
            Err(WriteError::Disk { .. }) => self.may_be_there(chunk, checksum),
            // Whoever finds the disk full on the way has not written all of it.
            Err(_) => {}
        }
        result
    }

    /// Notes that all of a chunk was written, and that it is not known whether it got to the disk.
    pub(super) fn may_be_there(&self, chunk: &NewChunk, checksum: u32) {
        self.writes.lock().insert(chunk.id, (chunk.length, checksum));
    }

    /// Makes a try to delete, under the claim of the id.
    pub(super) fn delete<T>(
        &self,
        id: ChunkId,
        delete: impl FnOnce() -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let result = delete();
        if result.is_ok() {
            self.deletes.lock().remove(&id);
            self.writes.lock().remove(&id);
        } else {
            self.deletes.lock().insert(id);
        }
        result
    }
}
