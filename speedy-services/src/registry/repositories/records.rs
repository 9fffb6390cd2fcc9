//! What the repositories keep in the metadata store. Values are protocol buffers: a field is added with a new number
//! and none ever changes its meaning.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use speedy_core::blob::{BlobError, BlobInfo};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::Entry;

/// `R/r/`: a repository.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RepositoryRecord {
    /// When its first manifest came, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "1")]
    pub created: u64,
}

/// `R/b/`: a blob in a repository.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LinkRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub blob: Bytes,
    #[prost(uint64, tag = "2")]
    pub size: u64,
}

/// `R/m/`: a manifest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ManifestRecord {
    #[prost(string, tag = "1")]
    pub media_type: String,
    /// Its bytes, where they are few.
    #[prost(bytes = "bytes", tag = "2")]
    pub content: Bytes,
    /// The blob of its bytes, where they are many.
    #[prost(bytes = "bytes", tag = "3")]
    pub blob: Bytes,
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// The digest of its subject; empty where it has none.
    #[prost(string, tag = "5")]
    pub subject: String,
}

/// `R/n/`: a manifest whose references are being written.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PendingRecord {
    /// When its writing began, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}

/// `R/i/` and `R/u/`: since when the collector has found something to be of no use and nobody to count on it, in milliseconds
/// by the metadata store's clock.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MarkRecord {
    #[prost(uint64, tag = "1")]
    pub since: u64,
    /// The version of the entry that it is about: an entry that was written again since has no mark.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// When it was first found, where that is not `since`, for it was spared until then.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// Whether it was spared by the last walk.
    #[prost(bool, tag = "4")]
    pub is_spared: bool,
}

/// `R/t/`: a tag.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TagRecord {
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// `R/s/`: the descriptor of a referrer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReferrerRecord {
    #[prost(string, tag = "1")]
    pub media_type: String,
    #[prost(uint64, tag = "2")]
    pub size: u64,
    #[prost(string, tag = "3")]
    pub artifact_type: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub annotations: BTreeMap<String, String>,
    /// The annotations are too long for this record: they are read from the manifest.
    #[prost(bool, tag = "5")]
    pub annotations_elsewhere: bool,
}

impl LinkRecord {
    pub(super) fn of(blob: &BlobInfo) -> Self {
        Self { blob: Bytes::copy_from_slice(blob.id.as_bytes()), size: blob.size }
    }

    /// Whether it links this blob.
    pub(super) fn is(&self, blob: BlobId) -> bool {
        self.blob[..] == blob.as_bytes()[..]
    }
}

/// A record as a value.
pub(in crate::registry) fn encode(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

/// The record in an entry.
pub(in crate::registry) fn decode<R: Message + Default>(entry: &Entry) -> Result<R, BlobError> {
    R::decode(entry.value.clone()).map_err(|error| unreadable(entry, &error.to_string()))
}

/// The digest that a tag's entry points to.
pub(super) fn tagged(entry: &Entry) -> Result<Digest, BlobError> {
    let record: TagRecord = decode(entry)?;
    record.digest.parse().map_err(|_| unreadable(entry, "it names no digest"))
}

/// What is stored under a key makes no sense. Nothing the client can do, and nothing that passes by itself.
pub(in crate::registry) fn unreadable(entry: &Entry, reason: &str) -> BlobError {
    BlobError::Damaged {
        blob: BlobId::from_bytes([0; 16]),
        reason: format!("the metadata at {} cannot be read: {reason}", entry.key.escape_ascii()),
    }
}
