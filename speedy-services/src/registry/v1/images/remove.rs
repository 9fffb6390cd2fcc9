//! What is removed when something lets go of an image: the image, where nothing else holds it, and then perhaps its parent.

use bytes::Bytes;
use speedy_core::blob::BlobError;
use speedy_core::meta::{Check, Transaction, Write};

use super::super::names::ImageId;
use super::records::{ImageRecord, LayerRecord, TagRecord, decode};
use super::{Images, TRIES, back_off, contended, keys};
use crate::registry::names::{RepositoryName, Tag};

/// Tags or images let go of in one transaction. A tag takes a check and three writes.
const AT_ONCE: usize = 30;

impl Images {
    /// The writes that take away `hold`, one of the keys that hold an image. [`remove_loose`](Self::remove_loose) does the
    /// rest.
    pub(super) fn let_go(id: &ImageId, hold: Bytes) -> Transaction {
        Transaction::new().write(Write::Delete(hold)).write(Write::Put(keys::loose(id), Bytes::new()))
    }

    /// Removes a repository with its tags and its list; answers whether it was there. Images that nothing else holds go
    /// with it.
    pub(in crate::registry::v1) async fn delete_repository(
        &self,
        name: &RepositoryName,
    ) -> Result<bool, BlobError> {
        let key = keys::repository(name);
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(key.clone()).await? else { return Ok(false) };
            if !self.untag_all(name).await? || !self.unlist_all(name).await? {
                back_off(round).await;
                continue;
            }
            // A list or a tag that comes meanwhile checks that the repository is there.
            let last = Transaction::new()
                .check(Check::Version(key.clone(), entry.version))
                .check(Check::RangeEmpty(keys::tags(name)))
                .check(Check::RangeEmpty(keys::list(name)))
                .write(Write::Delete(key.clone()));
            if self.meta().transact(last).await?.is_committed() {
                self.remove_loose().await?;
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of {name}")))
    }

    /// Empties the list of a repository. Images that no tag needs go.
    pub(in crate::registry::v1) async fn delete_list(&self, name: &RepositoryName) -> Result<(), BlobError> {
        for round in 0..TRIES {
            if self.unlist_all(name).await? {
                return self.remove_loose().await;
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of the list of {name}")))
    }

    /// `false` where other changes came in between.
    async fn untag_all(&self, name: &RepositoryName) -> Result<bool, BlobError> {
        let mut rest = Some(keys::tags(name));
        let prefix = keys::tags(name).start.len();
        while let Some(range) = rest {
            let page = self.meta().scan(range, AT_ONCE).await?;
            let mut transaction = Transaction::new();
            let mut loose = Vec::new();
            for entry in &page.entries {
                let record: TagRecord = decode(entry)?;
                transaction = transaction
                    .check(Check::Version(entry.key.clone(), entry.version))
                    .write(Write::Delete(entry.key.clone()));
                let tag = keys::text_after(&entry.key, prefix).and_then(|text| text.parse::<Tag>().ok());
                if let (Some(tag), Some(id)) = (tag, ImageId::from_bytes(&record.image)) {
                    transaction = transaction.write(Write::Delete(keys::tag_of(&id, name, &tag)));
                    loose.push(id);
                }
            }
            if !self.commit_loose(transaction, loose).await? {
                return Ok(false);
            }
            rest = page.next;
        }
        Ok(true)
    }

    /// `false` where other changes came in between.
    async fn unlist_all(&self, name: &RepositoryName) -> Result<bool, BlobError> {
        let mut rest = Some(keys::list(name));
        while let Some(range) = rest {
            let page = self.meta().scan(range, AT_ONCE).await?;
            let mut transaction = Transaction::new();
            let mut loose = Vec::new();
            for entry in &page.entries {
                transaction = transaction
                    .check(Check::Version(entry.key.clone(), entry.version))
                    .write(Write::Delete(entry.key.clone()));
                if let Some(id) = keys::image_at_end(&entry.key) {
                    transaction = transaction.write(Write::Delete(keys::lister(&id, name)));
                    loose.push(id);
                }
            }
            if !self.commit_loose(transaction, loose).await? {
                return Ok(false);
            }
            rest = page.next;
        }
        Ok(true)
    }

    /// Commits a transaction that lets go of these images.
    async fn commit_loose(
        &self,
        mut transaction: Transaction,
        mut loose: Vec<ImageId>,
    ) -> Result<bool, BlobError> {
        if transaction.operations() == 0 {
            return Ok(true);
        }
        loose.sort_unstable();
        loose.dedup();
        for id in &loose {
            transaction = transaction.write(Write::Put(keys::loose(id), Bytes::new()));
        }
        Ok(self.meta().transact(transaction).await?.is_committed())
    }

    /// Removes the images that something let go of and that nothing holds; those that a removal which broke off left, too.
    pub(in crate::registry) async fn remove_loose(&self) -> Result<(), BlobError> {
        let mut round = 0;
        loop {
            let page = self.meta().scan(keys::all_loose(), AT_ONCE).await?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let mut removed = 0;
            for entry in &page.entries {
                let Some(id) = keys::image_at_end(&entry.key) else { continue };
                let seen = Check::Version(entry.key.clone(), entry.version);
                let transaction = match self.is_held(&id).await? {
                    true => Transaction::new(),
                    false => self.removal(&id).await?,
                };
                let transaction = transaction.check(seen).write(Write::Delete(entry.key.clone()));
                removed += u32::from(self.meta().transact(transaction).await?.is_committed());
            }
            // Where another request removes the same, one of the two gets on.
            if removed == 0 {
                round += 1;
                if round == TRIES {
                    return Err(contended("the removal of images"));
                }
                back_off(round).await;
            }
        }
    }

    /// The writes that take away what is kept of an image alone.
    pub(super) fn forget(id: &ImageId) -> Transaction {
        Transaction::new()
            .write(Write::Delete(keys::image(id)))
            .write(Write::Delete(keys::ancestry(id)))
            .write(Write::Delete(keys::mark(id)))
    }

    async fn is_held(&self, id: &ImageId) -> Result<bool, BlobError> {
        for holds in [keys::children(id), keys::listers(id), keys::tags_of(id)] {
            if !self.meta().scan(holds, 1).await?.entries.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What removes an image that nothing holds, and lets go of its layer and its parent.
    async fn removal(&self, id: &ImageId) -> Result<Transaction, BlobError> {
        let entry = self.meta().get(keys::image(id)).await?;
        let mut transaction = Transaction::new().unchanged(keys::image(id), entry.as_ref());
        let Some(entry) = entry else { return Ok(transaction) };
        let record: ImageRecord = decode(&entry)?;
        transaction = transaction
            .check(Check::RangeEmpty(keys::children(id)))
            .check(Check::RangeEmpty(keys::listers(id)))
            .check(Check::RangeEmpty(keys::tags_of(id)))
            .and(Self::forget(id));
        if let Some(layer) = record.layer.as_ref().and_then(LayerRecord::info) {
            transaction = transaction.write(Write::Delete(keys::reference(layer.id, id)));
        }
        if let Some(parent) = record.parent() {
            transaction = transaction.and(Self::let_go(&parent, keys::child(&parent, id)));
        }
        Ok(transaction)
    }
}
