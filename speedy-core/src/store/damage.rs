//! What is known to be damaged, and who wants to know.

use std::collections::BTreeMap;
use std::fmt;

use super::ReadError;
use crate::id::ChunkId;
use crate::sync::{Arc, Mutex};

/// So many damaged chunks are remembered by name. A disk that loses more is to be replaced, not listed.
pub(super) const REMEMBERED: usize = 65_536;

type Listener = Arc<dyn Fn(ChunkId, &str) + Send + Sync>;

/// Chunks whose bytes are not those that were written, as far as anybody has looked since the store was opened.
#[derive(Default)]
pub(super) struct Damages {
    found: Mutex<BTreeMap<ChunkId, String>>,
    listener: Mutex<Option<Listener>>,
}

impl fmt::Debug for Damages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damages").field("found", &*self.found.lock()).finish_non_exhaustive()
    }
}

impl Damages {
    /// Whoever is to be told from now on.
    pub(super) fn tell(&self, listener: Listener) {
        *self.listener.lock() = Some(listener);
    }

    /// Takes note of a read that found damage; of no other error.
    pub(super) fn saw(&self, error: &ReadError) {
        if let ReadError::Damaged { id, reason } = error {
            self.add(*id, reason);
        }
    }

    /// Remembers a damaged chunk, and tells of it the first time.
    pub(super) fn add(&self, id: ChunkId, reason: &str) {
        {
            let mut found = self.found.lock();
            if found.contains_key(&id) || found.len() >= REMEMBERED {
                return;
            }
            found.insert(id, reason.to_owned());
        }
        tracing::error!(chunk = %id, reason, "a chunk is damaged: heal it from a replica");
        // Not under the lock: the listener may ask for the list.
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener(id, reason);
        }
    }

    /// The chunk was healed or deleted.
    pub(super) fn forget(&self, id: ChunkId) {
        self.found.lock().remove(&id);
    }

    /// All that are remembered, in the order of their ids.
    pub(super) fn list(&self) -> Vec<(ChunkId, String)> {
        self.found.lock().iter().map(|(id, reason)| (*id, reason.clone())).collect()
    }
}
