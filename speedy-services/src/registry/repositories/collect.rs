//! What the collector does to one thing: decide whether anybody needs it, and remove it in a transaction that checks
//! that still nobody does. `docs/gc.md` says why that is safe.

use std::time::Duration;

use bytes::Bytes;
use speedy_core::blob::{BlobError, StoredBlob, references, references_of};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::{Check, Entry, KeyRange, Timestamp, Transaction, Write};

use super::manifests::StoredManifest;
use super::marks::Mark;
use super::records::{LinkRecord, PendingRecord, decode};
use super::{Repositories, keys};
use crate::registry::names::RepositoryName;

/// How long the references of a manifest may take to be written. A put that takes longer begins again.
const PENDING: Duration = Duration::from_secs(3600);

/// A push may take so many times the age of what it counts on, and a day at least, until it begins its last upload. That
/// upload may take any time.
const PUSH: u32 = 7;
const SHORTEST_PUSH: Duration = Duration::from_secs(24 * 3600);

/// What became of something that the collector looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is needed, or changed while it was looked at.
    Kept,
    /// It is of no use, and not for long enough. So many bytes.
    Waits(u64),
    /// It is of no use as it seems, but somebody uploads who may count on it. So many bytes.
    Spared(u64),
    /// It was removed. So many bytes.
    Removed(u64),
}

impl Fate {
    pub(crate) fn of(was_removed: bool, bytes: u64) -> Self {
        if was_removed { Self::Removed(bytes) } else { Self::Kept }
    }
}

impl Repositories {
    /// Removes a manifest that has had no tag for `age`, that no index names and that is about nothing which is there.
    /// `uploading` is when the oldest upload to the repository began that is under way.
    pub(crate) async fn collect_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        entry: &Entry,
        age: Duration,
        uploading: Option<Timestamp>,
    ) -> Result<Fate, BlobError> {
        let stored = StoredManifest::of(*digest, entry)?;
        let key = keys::untagged(name, digest);
        let mark = self.meta().get(key.clone()).await?;
        if self.is_held(name, &stored).await? {
            self.unmark(mark.as_ref()).await?;
            return Ok(Fate::Kept);
        }
        let Some(mark) = self.marked(entry, &key, mark.as_ref()).await? else { return Ok(Fate::Kept) };
        let is_spared = self.may_count_on(uploading, &mark, age).await?;
        let Some(mark) = self.spare(entry, &key, mark, is_spared).await? else { return Ok(Fate::Kept) };
        if is_spared {
            return Ok(Fate::Spared(stored.size));
        }
        if !self.has_passed(mark.since, age).await? {
            return Ok(Fate::Waits(stored.size));
        }
        let mut condition = Transaction::new()
            .check(Check::Version(key, mark.version))
            .check(Check::RangeEmpty(keys::tags_of(name, digest)))
            .check(Check::RangeEmpty(keys::parents(name, digest)));
        if let Some(subject) = &stored.subject {
            condition = condition.check(Check::Absent(keys::manifest(name, subject)));
        }
        Ok(Fate::of(self.remove_manifest(name, &stored, condition).await?, stored.size))
    }

    /// Whether a tag, an index or a subject keeps a manifest.
    async fn is_held(&self, name: &RepositoryName, manifest: &StoredManifest) -> Result<bool, BlobError> {
        Ok(!self.is_empty(keys::tags_of(name, &manifest.digest)).await?
            || !self.is_empty(keys::parents(name, &manifest.digest)).await?
            || match &manifest.subject {
                // A manifest that is about itself can't be: its digest would be in its bytes.
                Some(subject) => self.meta().get(keys::manifest(name, subject)).await?.is_some(),
                None => false,
            })
    }

    /// Removes a link that no manifest of the repository has needed for `age`. `uploading` is when the oldest upload to the
    /// repository began that is under way.
    pub(crate) async fn collect_link(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        entry: &Entry,
        age: Duration,
        uploading: Option<Timestamp>,
    ) -> Result<Fate, BlobError> {
        let link: LinkRecord = decode(entry)?;
        // Of a later version, perhaps.
        let Ok(blob) = BlobId::try_from(&link.blob[..]) else { return Ok(Fate::Kept) };
        let held = references_of(blob, &keys::reference_holders(name));
        let key = keys::unused(name, digest);
        let mark = self.meta().get(key.clone()).await?;
        if !self.is_empty(held.clone()).await? {
            self.unmark(mark.as_ref()).await?;
            return Ok(Fate::Kept);
        }
        let Some(mark) = self.marked(entry, &key, mark.as_ref()).await? else { return Ok(Fate::Kept) };
        let is_spared = self.may_count_on(uploading, &mark, age).await?;
        let Some(mark) = self.spare(entry, &key, mark, is_spared).await? else { return Ok(Fate::Kept) };
        if is_spared {
            return Ok(Fate::Spared(link.size));
        }
        if !self.has_passed(mark.since, age).await? {
            return Ok(Fate::Waits(link.size));
        }
        let remove = Transaction::new()
            .check(Check::Version(key.clone(), mark.version))
            .check(Check::Version(entry.key.clone(), entry.version))
            .check(Check::RangeEmpty(held))
            .write(Write::Delete(key))
            .write(Write::Delete(entry.key.clone()))
            .write(Write::Delete(keys::holder(blob, name, digest)));
        Ok(Fate::of(self.meta().transact(remove).await?.is_committed(), link.size))
    }

    /// Kills a blob that no repository links and nothing refers to, and that became live `age` ago.
    pub(crate) async fn collect_blob(&self, blob: &StoredBlob, age: Duration) -> Result<Fate, BlobError> {
        let links = keys::holders(blob.id);
        if !self.is_empty(links.clone()).await? || !self.is_empty(references(blob.id)).await? {
            return Ok(Fate::Kept);
        }
        if !self.has_passed(blob.since, age).await? {
            return Ok(Fate::Waits(blob.size));
        }
        let condition = Transaction::new().check(Check::RangeEmpty(links));
        Ok(Fate::of(self.blobs.delete_where(blob.id, condition).await?, blob.size))
    }

    /// Takes a repository without manifests out of the catalog; answers whether it did.
    pub(crate) async fn collect_repository(
        &self,
        name: &RepositoryName,
        entry: &Entry,
    ) -> Result<bool, BlobError> {
        let manifests = keys::manifests(name);
        if !self.is_empty(manifests.clone()).await? {
            return Ok(false);
        }
        let remove = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .check(Check::RangeEmpty(manifests))
            .check(Check::RangeEmpty(keys::pending_in(name)))
            .check(Check::RangeEmpty(keys::tags(name, None)))
            .write(Write::Delete(entry.key.clone()));
        Ok(self.meta().transact(remove).await?.is_committed())
    }

    /// Ends the put of a manifest that broke off; answers whether it did. What it had referred to is looked for as
    /// [`leftovers`](keys::leftovers).
    pub(crate) async fn collect_pending(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        entry: &Entry,
    ) -> Result<bool, BlobError> {
        let record: PendingRecord = decode(entry)?;
        if !self.has_passed(Timestamp(record.since), PENDING).await? {
            return Ok(false);
        }
        let end = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .write(Write::Delete(entry.key.clone()))
            .write(Write::Put(keys::leftover(name, digest), Bytes::new()));
        Ok(self.meta().transact(end).await?.is_committed())
    }

    /// Removes a reference of a manifest that is neither there nor being written; answers whether it did.
    pub(crate) async fn collect_reference(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        reference: Bytes,
    ) -> Result<bool, BlobError> {
        let remove = Transaction::new()
            .check(Check::Absent(keys::manifest(name, digest)))
            .check(Check::Absent(keys::pending(name, digest)))
            .write(Write::Delete(reference));
        Ok(self.meta().transact(remove).await?.is_committed())
    }

    /// Removes what says that an index names other manifests, where it is neither there nor being written; answers
    /// how many there were.
    pub(crate) async fn collect_parents(
        &self,
        name: &RepositoryName,
        parent: &Digest,
    ) -> Result<u64, BlobError> {
        let (mut removed, mut rest) = (0, Some(keys::parents_in(name)));
        while let Some(range) = rest {
            let page = self.meta().scan(range, 256).await?;
            for entry in page.entries {
                if keys::is_of_parent(&entry.key, parent) {
                    removed += u64::from(self.collect_reference(name, parent, entry.key).await?);
                }
            }
            rest = page.next;
        }
        Ok(removed)
    }

    /// What a manifest is called as a holder of references to blobs.
    pub(crate) fn holder_of_references(name: &RepositoryName, digest: &Digest) -> Bytes {
        keys::reference_holder(name, digest)
    }

    pub(crate) async fn is_empty(&self, range: KeyRange) -> Result<bool, BlobError> {
        Ok(self.meta().scan(range, 1).await?.entries.is_empty())
    }

    /// Whether an upload that began then may be of a push that was told of something before that got its mark. A push that is
    /// given up leaves an upload, too, and a repository may have one always: one that began too late counts on nothing of this.
    /// Who asked after a backup was taken has left no trace in it, here neither.
    async fn may_count_on(
        &self,
        uploading: Option<Timestamp>,
        mark: &Mark,
        age: Duration,
    ) -> Result<bool, BlobError> {
        let Some(begun) = uploading else { return Ok(false) };
        let push = age.saturating_mul(PUSH).max(SHORTEST_PUSH);
        let restored = self.blobs.restored().await?;
        Ok(begun.since(mark.first.max(restored)) <= push)
    }

    /// Whether so much time has passed since then, and since the metadata was made of a backup: who asked for
    /// something after the backup was taken has left no trace in it.
    pub(crate) async fn has_passed(&self, since: Timestamp, age: Duration) -> Result<bool, BlobError> {
        let restored = self.blobs.restored().await?;
        Ok(self.meta().now().await?.since(since.max(restored)) >= age)
    }
}
