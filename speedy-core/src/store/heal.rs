//! Replacing a chunk whose bytes are damaged by the same bytes from elsewhere.

use std::collections::HashMap;

use super::Shared;
use crate::id::ChunkId;
use crate::sync::{Arc, Mutex};

/// Ids that somebody writes a healthy copy of just now. Their records stay where they are meanwhile: a note of
/// quarantine that was written after the healthy copy has begun would outrank it at the next start.
#[derive(Debug, Default)]
pub(super) struct Healing {
    ids: Mutex<HashMap<ChunkId, u32>>,
}

impl Healing {
    pub(super) fn has(&self, id: ChunkId) -> bool {
        self.ids.lock().contains_key(&id)
    }
}

/// Keeps a record where it is while it exists.
#[derive(Debug)]
pub(super) struct Pin {
    store: Arc<Shared>,
    id: ChunkId,
}

impl Pin {
    /// Under the claim of the id, so that no record of it is being moved.
    pub(super) fn new(store: &Arc<Shared>, id: ChunkId) -> Self {
        let _claim = store.claims.claim(id);
        *store.healing.ids.lock().entry(id).or_default() += 1;
        Self { store: Arc::clone(store), id }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut ids = self.store.healing.ids.lock();
        let left = ids.get_mut(&self.id).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            ids.remove(&self.id);
        }
    }
}
