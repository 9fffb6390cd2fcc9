//! What repositories list.

use std::collections::BTreeMap;

use bytes::Bytes;
use speedy_core::blob::BlobError;
use speedy_core::meta::{Entry, KeyRange, MAX_PAGE_ENTRIES, Transaction, Write};

use super::super::names::ImageId;
use super::records::{ListedRecord, RepositoryRecord, decode, encode};
use super::{Images, TRIES, back_off, contended, keys};
use crate::registry::names::RepositoryName;

/// Images that one transaction takes into a list: two writes each.
const IMAGES_AT_ONCE: usize = 50;

/// An image in the list of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::registry::v1) struct Announced {
    pub id: ImageId,
    /// The image's checksum, once the client has said it.
    pub checksum: Option<String>,
}

impl Images {
    /// Takes images, which need not be there yet, into the list of a repository, and makes the repository where there is
    /// none. From now on it holds them.
    pub(in crate::registry::v1) async fn announce(
        &self,
        name: &RepositoryName,
        announced: Vec<Announced>,
    ) -> Result<(), BlobError> {
        let mut all: BTreeMap<ImageId, Option<String>> = BTreeMap::new();
        for image in announced {
            let checksum = all.entry(image.id).or_default();
            *checksum = checksum.take().or(image.checksum);
        }
        let all: Vec<(ImageId, Option<String>)> = all.into_iter().collect();
        if all.is_empty() {
            return self.announce_some(name, &[]).await;
        }
        for some in all.chunks(IMAGES_AT_ONCE) {
            self.announce_some(name, some).await?;
        }
        Ok(())
    }

    async fn announce_some(
        &self,
        name: &RepositoryName,
        some: &[(ImageId, Option<String>)],
    ) -> Result<(), BlobError> {
        let listed: Vec<Bytes> = some.iter().map(|(id, _)| keys::listed(name, id)).collect();
        for round in 0..TRIES {
            let (mut transaction, is_new) = self.repository_there(name).await?;
            let mut changes = is_new;
            for ((id, checksum), entry) in some.iter().zip(self.meta().get_many(&listed).await?) {
                let before: Option<ListedRecord> = entry.as_ref().map(decode).transpose()?;
                let now = ListedRecord {
                    checksum: checksum
                        .clone()
                        .or_else(|| before.as_ref().map(|before| before.checksum.clone()))
                        .unwrap_or_default(),
                };
                if before.as_ref() == Some(&now) {
                    continue;
                }
                changes = true;
                transaction = transaction
                    .write(Write::Put(keys::listed(name, id), encode(&now)))
                    .write(Write::Put(keys::lister(id, name), Bytes::new()));
            }
            if !changes || self.meta().transact(transaction).await?.is_committed() {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the list of {name}")))
    }

    /// Checks that the repository's record is there, or writes it; and whether it writes it.
    pub(super) async fn repository_there(
        &self,
        name: &RepositoryName,
    ) -> Result<(Transaction, bool), BlobError> {
        let key = keys::repository(name);
        let entry = self.meta().get(key.clone()).await?;
        let transaction = Transaction::new().unchanged(key.clone(), entry.as_ref());
        if entry.is_some() {
            return Ok((transaction, false));
        }
        let record = RepositoryRecord { created: self.meta().now().await?.0, private: false };
        Ok((transaction.write(Write::Put(key, encode(&record))), true))
    }

    /// The images that a repository lists, in order of their ids; `None` where there is no such repository.
    pub(in crate::registry::v1) async fn listed(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<Vec<Announced>>, BlobError> {
        let entries = self.all(keys::list(name)).await?;
        if entries.is_empty() && self.meta().get(keys::repository(name)).await?.is_none() {
            return Ok(None);
        }
        let announced = |entry: &Entry| -> Result<Option<Announced>, BlobError> {
            let record: ListedRecord = decode(entry)?;
            let checksum = Some(record.checksum).filter(|checksum| !checksum.is_empty());
            Ok(keys::image_at_end(&entry.key).map(|id| Announced { id, checksum }))
        };
        let listed: Result<Vec<_>, _> =
            entries.iter().filter_map(|entry| announced(entry).transpose()).collect();
        listed.map(Some)
    }

    /// Whether a repository's properties say that it is private. One that is not there is public.
    pub(in crate::registry::v1) async fn is_private(&self, name: &RepositoryName) -> Result<bool, BlobError> {
        let entry = self.meta().get(keys::repository(name)).await?;
        let record: Option<RepositoryRecord> = entry.as_ref().map(decode).transpose()?;
        Ok(record.is_some_and(|record| record.private))
    }

    /// Sets that, and makes the repository where there is none.
    pub(in crate::registry::v1) async fn set_private(
        &self,
        name: &RepositoryName,
        private: bool,
    ) -> Result<(), BlobError> {
        let key = keys::repository(name);
        for round in 0..TRIES {
            let entry = self.meta().get(key.clone()).await?;
            let mut record: RepositoryRecord = match &entry {
                Some(entry) => decode(entry)?,
                None => RepositoryRecord { created: self.meta().now().await?.0, private },
            };
            record.private = private;
            let transaction = Transaction::new()
                .unchanged(key.clone(), entry.as_ref())
                .write(Write::Put(key.clone(), encode(&record)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the properties of {name}")))
    }

    /// Up to `limit` names of repositories after `last`, in order, and whether there are more.
    pub(in crate::registry::v1) async fn names(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), BlobError> {
        let prefix = keys::repositories(None).start.len();
        let page = self.meta().scan(keys::repositories(last), limit.clamp(1, MAX_PAGE_ENTRIES)).await?;
        let name = |entry: &Entry| keys::text_after(&entry.key, prefix).map(str::to_owned);
        Ok((page.entries.iter().filter_map(name).collect(), page.next.is_some()))
    }

    /// All entries of a range.
    pub(super) async fn all(&self, range: KeyRange) -> Result<Vec<Entry>, BlobError> {
        let (mut entries, mut rest) = (Vec::new(), Some(range));
        while let Some(range) = rest {
            let page = self.meta().scan(range, MAX_PAGE_ENTRIES).await?;
            entries.extend(page.entries);
            rest = page.next;
        }
        Ok(entries)
    }
}
