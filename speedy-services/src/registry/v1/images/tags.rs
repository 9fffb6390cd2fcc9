//! Tags: names of images in a repository.

use std::collections::BTreeMap;

use bytes::Bytes;
use speedy_core::blob::BlobError;
use speedy_core::meta::{Check, Entry, Transaction, Write};

use super::super::names::ImageId;
use super::records::{TagRecord, decode, encode, unreadable};
use super::{ImageError, Images, TRIES, back_off, contended, keys};
use crate::registry::names::{RepositoryName, Tag};

/// What is known of a tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::registry::v1) struct TagInfo {
    pub image: ImageId,
    /// When it was put, in milliseconds since 1970.
    pub updated: u64,
    /// What the client that put it calls itself.
    pub agent: String,
}

impl TagInfo {
    fn of(entry: &Entry) -> Result<Self, BlobError> {
        let record: TagRecord = decode(entry)?;
        let image =
            ImageId::from_bytes(&record.image).ok_or_else(|| unreadable(entry, "it names no image"))?;
        Ok(Self { image, updated: record.updated, agent: record.agent })
    }
}

impl Images {
    /// What a tag points to.
    pub(in crate::registry::v1) async fn tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<TagInfo>, BlobError> {
        let entry = self.meta().get(keys::tag(name, tag)).await?;
        entry.as_ref().map(TagInfo::of).transpose()
    }

    /// The tags of a repository; `None` where there is no such repository.
    pub(in crate::registry::v1) async fn tags(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<BTreeMap<String, ImageId>>, BlobError> {
        let prefix = keys::tags(name).start.len();
        let entries = self.all(keys::tags(name)).await?;
        if entries.is_empty() && self.meta().get(keys::repository(name)).await?.is_none() {
            return Ok(None);
        }
        let mut tags = BTreeMap::new();
        for entry in &entries {
            if let Some(tag) = keys::text_after(&entry.key, prefix) {
                tags.insert(tag.to_owned(), TagInfo::of(entry)?.image);
            }
        }
        Ok(Some(tags))
    }

    /// Points a tag at an image that is complete. `agent` is what the client calls itself.
    pub(in crate::registry::v1) async fn put_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        image: &ImageId,
        agent: &str,
    ) -> Result<(), ImageError> {
        let key = keys::tag(name, tag);
        for round in 0..TRIES {
            let (record, version) = self.record(image).await?.ok_or(ImageError::NotFound)?;
            if !record.complete {
                return Err(ImageError::Uploading);
            }
            let (transaction, _) = self.repository_there(name).await?;
            let entry = self.meta().get(key.clone()).await?;
            let before = entry.as_ref().map(TagInfo::of).transpose()?;
            let now = TagRecord {
                image: Bytes::copy_from_slice(image.as_bytes()),
                updated: self.meta().now().await?.0,
                agent: agent.to_owned(),
            };
            let mut transaction = transaction
                .check(Check::Version(keys::image(image), version))
                .unchanged(key.clone(), entry.as_ref())
                .write(Write::Put(key.clone(), encode(&now)))
                .write(Write::Put(keys::tag_of(image, name, tag), Bytes::new()));
            let moved = before.filter(|before| before.image != *image);
            if let Some(before) = &moved {
                transaction =
                    transaction.and(Self::let_go(&before.image, keys::tag_of(&before.image, name, tag)));
            }
            if self.meta().transact(transaction).await?.is_committed() {
                if moved.is_some() {
                    self.remove_loose().await?;
                }
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("tag {tag} of {name}")).into())
    }

    /// Removes a tag; answers whether it was there. Its image goes where nothing else holds it.
    pub(in crate::registry::v1) async fn delete_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, BlobError> {
        let key = keys::tag(name, tag);
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(key.clone()).await? else { return Ok(false) };
            let image = TagInfo::of(&entry)?.image;
            let transaction = Transaction::new()
                .check(Check::Version(key.clone(), entry.version))
                .write(Write::Delete(key.clone()))
                .and(Self::let_go(&image, keys::tag_of(&image, name, tag)));
            if self.meta().transact(transaction).await?.is_committed() {
                self.remove_loose().await?;
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of tag {tag} of {name}")))
    }
}
