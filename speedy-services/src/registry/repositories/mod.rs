//! Repositories: which blobs, manifests and tags are in which, kept in the metadata store beside the blobs.
//!
//! # Consistency
//! Everything that one request changes is one transaction, apart from manifests that name more than one transaction
//! holds (see [`manifests`]). What was read to decide is checked in it; a conflict reads again, a bounded number of
//! times.
//!
//! # Retries
//! Linking, unlinking, putting and deleting can each be repeated without harm.

mod blobs;
#[cfg(any(test, feature = "bulk"))]
pub mod bulk;
mod collect;
mod delete;
mod held;
pub(super) mod keys;
mod listing;
mod manifests;
mod marks;
pub(super) mod records;
mod referrers;
mod renew;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use speedy_core::blob::{BlobError, BlobStore};
use speedy_core::meta::{MAX_TRANSACTION_OPERATIONS, MetaStore};

pub(crate) use collect::Fate;
pub(crate) use delete::Removal;
pub(crate) use listing::Listing;
#[cfg(test)]
pub(crate) use manifests::StoredManifest;
pub(crate) use manifests::{Condition, PutError, StoredContent};
pub(crate) use referrers::Referrer;

/// Repositories over a blob store. Cheap to clone; holds no state of its own.
#[derive(Clone, Debug)]
pub(crate) struct Repositories {
    blobs: BlobStore,
}

/// How often a change that meets others' changes is tried before it is given up. Each round that fails was another
/// writer's success.
pub(super) const TRIES: u32 = 64;
/// Operations of one transaction: what the metadata store takes, less the check that pushes are taken at all.
pub(super) const MOST_OPERATIONS: usize = MAX_TRANSACTION_OPERATIONS - 1;

impl Repositories {
    /// The repositories of this blob store.
    pub(crate) fn new(blobs: BlobStore) -> Self {
        Self { blobs }
    }

    /// The blobs.
    pub(crate) fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The metadata.
    pub(crate) fn meta(&self) -> &Arc<dyn MetaStore> {
        self.blobs.meta()
    }
}

/// Waits a moment before a change is tried again, longer the more often it has met others.
pub(super) async fn back_off(round: u32) {
    match round {
        0..4 => tokio::task::yield_now().await,
        _ => tokio::time::sleep(Duration::from_millis(u64::from(round.min(20)))).await,
    }
}

/// A change kept meeting others' changes.
pub(super) fn contended(what: impl std::fmt::Display) -> BlobError {
    BlobError::Unavailable(format!("{what} kept meeting other changes; try again"))
}
