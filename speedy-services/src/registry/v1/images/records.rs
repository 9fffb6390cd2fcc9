//! What the v1 interface keeps in the metadata store. Values are protocol buffers: a field is added with a new number and
//! none ever changes its meaning.

use bytes::Bytes;
use prost::Message;
use speedy_core::blob::BlobInfo;
use speedy_core::digest::{Algorithm, Digest};
use speedy_core::id::BlobId;

use super::super::names::ImageId;
pub(super) use crate::registry::repositories::records::{decode, encode, unreadable};

/// `V/i/`: an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageRecord {
    /// Its JSON, as it came.
    #[prost(bytes = "bytes", tag = "1")]
    pub json: Bytes,
    /// The id of the image that it is built on; empty where there is none.
    #[prost(bytes = "bytes", tag = "2")]
    pub parent: Bytes,
    /// When its JSON came, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "3")]
    pub created: u64,
    #[prost(message, optional, tag = "4")]
    pub layer: Option<LayerRecord>,
    /// Its checksum was right: from now on it never changes.
    #[prost(bool, tag = "5")]
    pub complete: bool,
}

/// The layer of an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LayerRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub blob: Bytes,
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// The SHA-256 of its bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub sha256: Bytes,
    /// The SHA-256 of the image's JSON, a newline and its bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub payload: Bytes,
    /// The TarSum of the image; empty where it has none.
    #[prost(bytes = "bytes", tag = "5")]
    pub tarsum: Bytes,
    /// Why it has none.
    #[prost(string, tag = "6")]
    pub no_tarsum: String,
}

/// `V/r/`: a repository.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RepositoryRecord {
    /// When it was first heard of, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "1")]
    pub created: u64,
    /// Whether its properties say that it is private. Kept and told, and nothing else.
    #[prost(bool, tag = "2")]
    pub private: bool,
}

/// `V/n/`: an image in the list of a repository.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListedRecord {
    /// As the client sent it; empty until it did.
    #[prost(string, tag = "1")]
    pub checksum: String,
}

/// `V/t/`: a tag.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TagRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub image: Bytes,
    /// When it was put, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "2")]
    pub updated: u64,
    /// Who put it, by its own words.
    #[prost(string, tag = "3")]
    pub agent: String,
}

impl ImageRecord {
    pub(super) fn parent(&self) -> Option<ImageId> {
        ImageId::from_bytes(&self.parent)
    }
}

impl LayerRecord {
    /// The blob of its bytes.
    pub(super) fn info(&self) -> Option<BlobInfo> {
        let digest = Digest::from_bytes(Algorithm::Sha256, &self.sha256)?;
        Some(BlobInfo { id: BlobId::try_from(&self.blob[..]).ok()?, size: self.size, digest })
    }
}
