//! Who is deciding the fate of a chunk id just now.

use std::collections::HashSet;

use crate::id::ChunkId;
use crate::sync::{Condvar, Mutex};

/// Ids that are being committed or deleted. One at a time: of two writers of an id, the second decides only after
/// the first, by what that one left.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashSet<ChunkId>>,
    released: Condvar,
}

impl Claims {
    /// Waits until nobody else has a claim on the id, then holds it until the answer is dropped.
    pub(super) fn claim(&self, id: ChunkId) -> Claim<'_> {
        let mut held = self.held.lock();
        while !held.insert(id) {
            self.released.wait(&mut held);
        }
        Claim { claims: self, id }
    }
}

/// A claim on an id; dropping it lets the next one go on.
#[derive(Debug)]
#[must_use]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    id: ChunkId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held.lock().remove(&self.id);
        self.claims.released.notify_all();
    }
}
