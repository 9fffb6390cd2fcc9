use bytes::Bytes;
use speedy_core::blob::{BlobError, BlobInfo, LiveBlob};
use speedy_core::digest::Digest;
use speedy_core::meta::{Check, Transaction, Write};

use super::records::{LinkRecord, decode, encode};
use super::{Repositories, TRIES, back_off, contended, keys};
use crate::registry::names::RepositoryName;

impl Repositories {
    /// What makes a blob visible in a repository: added to the transaction that commits the blob.
    pub(crate) fn link(name: &RepositoryName) -> impl Fn(&BlobInfo) -> Transaction + Send + Sync {
        move |blob| {
            Transaction::new()
                .write(Write::Put(keys::link(name, &blob.digest), encode(&LinkRecord::of(blob))))
                .write(Write::Put(keys::holder(blob.id, name, &blob.digest), Bytes::new()))
        }
    }

    /// The live blob of this digest, if the repository links it. Whoever is told so can count on it for as long as
    /// the collector spares what no manifest needs.
    pub(crate) async fn blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, BlobError> {
        Ok(self.linked(name, digest).await?.map(|live| live.info))
    }

    async fn linked(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<LiveBlob>, BlobError> {
        let link = self.in_use(keys::link(name, digest), keys::unused(name, digest));
        let (entry, live) = tokio::join!(link, self.blobs.find(digest));
        match (entry?, live?) {
            (Some(entry), Some(live)) => {
                let link: LinkRecord = decode(&entry)?;
                // The digest may have come back as another blob since this repository linked it.
                Ok(link.is(live.info.id).then_some(live))
            }
            _ => Ok(None),
        }
    }

    /// Links a blob of the repository `from`; `None` where that one does not have it.
    pub(crate) async fn mount(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, BlobError> {
        for round in 0..TRIES {
            let Some(live) = self.linked(from, digest).await? else { return Ok(None) };
            let transaction = Self::link(to)(&live.info).check(live.check_live());
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(Some(live.info));
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the mount of {digest}")))
    }

    /// Links a live blob that no repository links into these; `false` where one does, or the blob is gone.
    pub(crate) async fn adopt(&self, names: &[RepositoryName], digest: &Digest) -> Result<bool, BlobError> {
        for round in 0..TRIES {
            let Some(live) = self.blobs.find(digest).await? else { return Ok(false) };
            let holders = keys::holders(live.info.id);
            if !self.meta().scan(holders.clone(), 1).await?.entries.is_empty() {
                return Ok(false);
            }
            let adopt = Transaction::new().check(live.check_live()).check(Check::RangeEmpty(holders));
            let adopt = names.iter().fold(adopt, |adopt, name| adopt.and(Self::link(name)(&live.info)));
            if self.meta().transact(adopt).await?.is_committed() {
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the adoption of {digest}")))
    }

    /// Up to `limit` repositories that link the blob of this digest.
    pub(crate) async fn holders(
        &self,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, BlobError> {
        let Some(live) = self.blobs.find(digest).await? else { return Ok(Vec::new()) };
        let page = self.meta().scan(keys::holders(live.info.id), limit).await?;
        Ok(page.entries.iter().filter_map(|entry| keys::name_of_holder(&entry.key)).collect())
    }

    /// Takes a blob out of a repository, and answers whether it was in. Manifests that name it go on holding its
    /// bytes; the collector frees those that nothing holds.
    pub(crate) async fn unlink(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, BlobError> {
        let key = keys::link(name, digest);
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(key.clone()).await? else { return Ok(false) };
            let link: LinkRecord = decode(&entry)?;
            let mut transaction = Transaction::new()
                .unchanged(key.clone(), Some(&entry))
                .write(Write::Delete(key.clone()))
                .write(Write::Delete(keys::unused(name, digest)));
            if let Ok(blob) = (&link.blob[..]).try_into() {
                transaction = transaction.write(Write::Delete(keys::holder(blob, name, digest)));
            }
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of {digest} from {name}")))
    }
}
