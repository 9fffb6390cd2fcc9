//! How far a cycle is, kept in the metadata store: after a crash any process goes on from there.

use bytes::Bytes;
use prost::Message;
use speedy_core::blob::BlobError;
use speedy_core::meta::{MetaStore, Transaction, Write};

use super::report::{Finished, Tally};
use crate::registry::repositories::keys;

/// The steps of a cycle: each leaves to the [`next`](Self::next) what it sets free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Phase {
    /// No cycle is under way.
    Idle = 0,
    /// Upload sessions that nobody goes on with.
    Uploads = 1,
    /// Manifests whose put broke off.
    Pending = 2,
    /// References that broken puts and deletes left.
    Leftovers = 3,
    /// Manifests without a tag.
    Manifests = 4,
    /// Blobs in a repository of which no manifest needs them.
    Links = 5,
    /// Blobs that no repository has.
    Blobs = 6,
    /// Chunks of the dead.
    Dead = 7,
    /// Repositories without manifests.
    Repositories = 8,
    /// Chunks without a place in any blob.
    Orphans = 9,
    /// Images of v1 that no tag reaches.
    Images = 10,
}

impl Phase {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Idle => Self::Uploads,
            Self::Uploads => Self::Pending,
            Self::Pending => Self::Leftovers,
            Self::Leftovers => Self::Manifests,
            Self::Manifests => Self::Links,
            Self::Links => Self::Images,
            Self::Images => Self::Blobs,
            Self::Blobs => Self::Dead,
            Self::Dead => Self::Repositories,
            Self::Repositories => Self::Orphans,
            Self::Orphans => Self::Idle,
        }
    }

    /// What it looks at, for people.
    pub(super) fn looks_at(self) -> &'static str {
        match self {
            Self::Idle => "nothing",
            Self::Uploads => "upload sessions",
            Self::Pending => "manifests whose push broke off",
            Self::Leftovers => "leftover references",
            Self::Manifests => "untagged manifests",
            Self::Links => "blobs of repositories",
            Self::Images => "images of v1 without a tag",
            Self::Blobs => "blobs of no repository",
            Self::Dead => "dead blobs",
            Self::Repositories => "empty repositories",
            Self::Orphans => "chunks of no blob",
        }
    }
}

/// `c/gc`: how far the collector is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Progress {
    #[prost(enumeration = "Phase", tag = "1")]
    pub(super) phase: i32,
    /// The key to go on from in this phase; empty for its beginning.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) from: Bytes,
    /// When the cycle began, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "3")]
    pub(super) began: u64,
    /// What it has done so far.
    #[prost(message, optional, tag = "4")]
    pub(super) tally: Option<Tally>,
    /// The last cycle that came to its end.
    #[prost(message, optional, tag = "5")]
    pub(super) last: Option<Finished>,
}

impl Progress {
    /// What is kept. What can't be read is of a later version, and the cycle begins anew.
    pub(super) async fn load(meta: &dyn MetaStore) -> Result<Self, BlobError> {
        let entry = meta.get(keys::PROGRESS).await?;
        Ok(entry.and_then(|entry| Self::decode(entry.value).ok()).unwrap_or_default())
    }

    /// Keeps it. A crash may lose it: then something is looked at once more.
    pub(super) async fn save(&self, meta: &dyn MetaStore) -> Result<(), BlobError> {
        let write = Write::Put(keys::PROGRESS, self.encode_to_vec().into());
        // Without a check nothing can be in its way.
        let _ = meta.transact(Transaction::new().write(write).relaxed()).await?;
        Ok(())
    }

    pub(super) fn done(&mut self) -> &mut Tally {
        self.tally.get_or_insert_default()
    }
}
