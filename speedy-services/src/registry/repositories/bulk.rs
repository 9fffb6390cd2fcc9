//! The rows of repositories, one by one, for a benchmark that fills a metadata store with millions of them in the order
//! of its keys. Nothing is checked: a registry writes them in transactions that hold what a manifest names.

use bytes::Bytes;
use speedy_core::blob::{BlobInfo, reference_key};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::{Timestamp, Write};

use super::keys;
use super::records::{LinkRecord, ManifestRecord, RepositoryRecord, TagRecord, encode};
use crate::registry::names::{RepositoryName, Tag};

/// `R/r/`: a repository.
pub fn repository(name: &RepositoryName, created: Timestamp) -> Write {
    Write::Put(keys::repository(name), encode(&RepositoryRecord { created: created.0 }))
}

/// `R/b/`: what makes a blob visible in a repository.
pub fn link(name: &RepositoryName, blob: &BlobInfo) -> Write {
    Write::Put(keys::link(name, &blob.digest), encode(&LinkRecord::of(blob)))
}

/// `R/h/`: the same, seen from the blob.
pub fn holder(name: &RepositoryName, blob: &BlobInfo) -> Write {
    Write::Put(keys::holder(blob.id, name, &blob.digest), Bytes::new())
}

/// `f/`: a manifest of the repository needs a blob.
pub fn reference(name: &RepositoryName, manifest: &Digest, blob: BlobId) -> Write {
    Write::Put(reference_key(blob, &keys::reference_holder(name, manifest)), Bytes::new())
}

/// `R/m/`: a manifest without a subject that fits into its record.
pub fn manifest(name: &RepositoryName, digest: &Digest, media_type: &str, bytes: Bytes) -> Write {
    let record = ManifestRecord {
        media_type: media_type.into(),
        size: bytes.len() as u64,
        content: bytes,
        ..ManifestRecord::default()
    };
    Write::Put(keys::manifest(name, digest), encode(&record))
}

/// `R/t/`: a tag.
pub fn tag(name: &RepositoryName, tag: &Tag, manifest: &Digest) -> Write {
    Write::Put(keys::tag(name, tag), encode(&TagRecord { digest: manifest.to_string() }))
}

/// `R/x/`: the same, seen from the manifest.
pub fn tag_of(name: &RepositoryName, tag: &Tag, manifest: &Digest) -> Write {
    Write::Put(keys::tag_of(name, manifest, tag), Bytes::new())
}
