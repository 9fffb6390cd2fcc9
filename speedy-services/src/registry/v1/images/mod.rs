//! Images, and which repositories list and tag them, kept in the metadata store beside the blobs of their layers.
//!
//! # What holds an image
//! A repository that lists it, a tag that points to it, or an image that is built on it. Whatever lets go of an image
//! says so under a key of its own (`V/d/`) in the same transaction; the image is then removed in a transaction which checks that
//! nothing holds it, and that lets go of its parent. A crash in between leaves the key, and the next removal goes on.
//!
//! A push that broke off leaves images that are held so and that nobody can pull, for no tag reaches them.
//! [The collector](collect) removes those, after their time.
//!
//! # Consistency
//! What one request changes is one transaction, apart from lists and removals of more images than one holds: each of
//! those is whole by itself. What was read to decide is checked in it; a conflict reads again, a bounded number of times.
//!
//! # Retries
//! Every operation can be repeated without harm. Of two clients that push one image at once both succeed: JSON, layer
//! and checksum are taken from whoever comes, and the checksum is compared with what is there then.

#[cfg(any(test, feature = "fuzzing"))]
mod audit;
mod collect;
mod keys;
mod layer;
mod listing;
mod push;
mod records;
mod remove;
mod tags;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use speedy_core::blob::{BlobError, BlobInfo, BlobStore};
use speedy_core::meta::{Entry, MetaError, MetaStore, Version};

use super::names::ImageId;
use crate::registry::repositories::{Repositories, TRIES, back_off, contended};
pub(in crate::registry) use keys::{all as all_images, repositories as all_repositories};
pub(super) use listing::Announced;
pub(super) use push::Claim;
use records::{ImageRecord, decode, unreadable};
pub(super) use tags::TagInfo;
pub(in crate::registry) use usage::Reached;

/// The most images that one is built on. Docker's own limit is 127.
pub(super) const MOST_ANCESTORS: usize = 1000;

/// Images over repositories, beside which they are kept. Cheap to clone; holds no state of its own.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Images(Repositories);

/// A complete image.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Its JSON, as it came.
    pub json: Bytes,
    /// Its layer.
    pub layer: BlobInfo,
    /// The SHA-256 of its JSON, a newline and its layer.
    pub payload: Bytes,
}

/// Why something was not done to an image.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("Image not found")]
    NotFound,
    /// Clients look for these words, and go on.
    #[error("Image already exists")]
    Exists,
    #[error("Image is being uploaded, retry later")]
    Uploading,
    #[error("Image depends on a non existing parent")]
    NoParent,
    #[error("Image is built on more than {MOST_ANCESTORS} others")]
    Deep,
    #[error("Other images are built on this one; its JSON can't change")]
    HasChildren,
    #[error("The image's JSON changed while its layer was uploaded; send the layer again")]
    Changed,
    #[error("The image's layer is not there: send it before the checksum")]
    NoLayer,
    #[error("Checksum mismatch")]
    Mismatch,
    #[error("The checksum can't be verified: {0}. Send X-Docker-Checksum-Payload as well")]
    Unverifiable(String),
    #[error("Cannot set this image checksum")]
    Settled,
    #[error(transparent)]
    Storage(#[from] BlobError),
}

impl From<MetaError> for ImageError {
    fn from(error: MetaError) -> Self {
        Self::Storage(error.into())
    }
}

impl Images {
    /// The images beside these repositories.
    pub(in crate::registry) fn new(repositories: Repositories) -> Self {
        Self(repositories)
    }

    /// The blobs.
    pub(super) fn blobs(&self) -> &BlobStore {
        self.0.blobs()
    }

    fn meta(&self) -> &Arc<dyn MetaStore> {
        self.0.meta()
    }

    /// The entry of an image. Whoever is told of it counts on it from now on.
    async fn entry(&self, id: &ImageId) -> Result<Option<Entry>, BlobError> {
        self.0.in_use(keys::image(id), keys::mark(id)).await
    }

    async fn record(&self, id: &ImageId) -> Result<Option<(ImageRecord, Version)>, BlobError> {
        let entry = self.entry(id).await?;
        entry.map(|entry| Ok((decode(&entry)?, entry.version))).transpose()
    }

    /// An image that can be pulled.
    pub(super) async fn image(&self, id: &ImageId) -> Result<Image, ImageError> {
        let entry = self.entry(id).await?.ok_or(ImageError::NotFound)?;
        let record: ImageRecord = decode(&entry)?;
        match record.layer {
            Some(layer) if record.complete => {
                let info = layer.info().ok_or_else(|| unreadable(&entry, "its layer is no blob"))?;
                Ok(Image { json: record.json, layer: info, payload: layer.payload })
            }
            _ => Err(ImageError::Uploading),
        }
    }

    /// The image and what it is built on, itself first.
    pub(super) async fn ancestry(&self, id: &ImageId) -> Result<Vec<ImageId>, ImageError> {
        let image = self.entry(id).await?.ok_or(ImageError::NotFound)?;
        let ancestry = self.meta().get(keys::ancestry(id)).await?.ok_or(ImageError::NotFound)?;
        if !decode::<ImageRecord>(&image)?.complete {
            return Err(ImageError::Uploading);
        }
        Ok(ids(&ancestry.value))
    }
}

/// The ids that are written one after the other.
fn ids(bytes: &[u8]) -> Vec<ImageId> {
    bytes.chunks_exact(32).filter_map(ImageId::from_bytes).collect()
}
