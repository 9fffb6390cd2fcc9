//! Manifests: stored with the bytes that came, with keys that hold what they name.
//!
//! # Why nothing that a manifest names can go missing
//! The transaction that stores a manifest checks that each blob it names is live and linked, and writes a reference key
//! for it; a blob with references is not deleted, and a link of a blob to which the repository refers is not collected.
//!
//! Where those keys do not fit into that transaction, earlier ones write them under the protection of a *pending* key
//! (`R/n/`). Three rules make that as good as one transaction:
//! 1. A manifest and its pending key are never there together: the pending key is written where the manifest is
//!    absent, and whoever writes the manifest checks or removes the pending key.
//! 2. References are removed with their manifest, or where it and its pending key are both absent.
//! 3. The transaction that writes the manifest checks that the pending key has been there, unchanged, since before the
//!    first reference: by the other two, none of them has been removed.
//!
//! A crash in between leaves references and a pending key with its time, never a manifest without references.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use speedy_core::blob::{BlobError, BlobInfo, body_of, reference_key};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::{Check, Entry, Outcome, Transaction, Version, Write};

use super::held::Held;
use super::records::{
    ManifestRecord, PendingRecord, RepositoryRecord, TagRecord, decode, encode, tagged, unreadable,
};
use super::{MOST_OPERATIONS, Repositories, TRIES, back_off, contended, keys};
use crate::registry::manifest::Manifest;
use crate::registry::names::{Reference, RepositoryName, Tag};
use crate::registry::preconditions::Preconditions;

/// The longest manifest that is kept in its metadata record; a longer one is a blob.
const INLINE: usize = 64 * 1024;
/// A manifest in a repository.
#[derive(Clone, Debug)]
pub(crate) struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The type that it was pushed with.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes, or where they are.
    pub(crate) content: StoredContent,
    pub(super) subject: Option<Digest>,
    pub(super) version: Version,
}

/// The bytes of a manifest, or where they are.
#[derive(Clone, Debug)]
pub(crate) enum StoredContent {
    /// Few enough for the manifest's record.
    Inline(Bytes),
    /// A blob that no repository links.
    Blob(BlobInfo),
}

/// Why a manifest was not stored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// It names what is not in the repository.
    #[error("the manifest names {} that {} not in the repository", things(.0.len()), if .0.len() == 1 { "is" } else { "are" })]
    Missing(Vec<Digest>),
    /// It names something with another length than that has.
    #[error("{digest} has {actual} bytes; the manifest says {named}")]
    Size {
        /// What it names.
        digest: Digest,
        /// The length in the manifest.
        named: u64,
        /// The true length.
        actual: u64,
    },
    /// What is there is not what the caller said that it is.
    #[error("the repository has something else under this name by now than If-Match or If-None-Match says")]
    Precondition,
    /// Storage did not take it.
    #[error(transparent)]
    Storage(#[from] BlobError),
}

fn things(count: usize) -> String {
    if count == 1 { "1 blob or manifest".to_owned() } else { format!("{count} blobs or manifests") }
}

/// What has to be under a reference, or not, when a manifest is put there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition<'a> {
    pub(crate) of: &'a Reference,
    pub(crate) preconditions: &'a Preconditions,
}

impl From<speedy_core::meta::MetaError> for PutError {
    fn from(error: speedy_core::meta::MetaError) -> Self {
        Self::Storage(error.into())
    }
}

impl Repositories {
    /// The manifest that a reference means in a repository.
    pub(crate) async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, BlobError> {
        let tag = match reference {
            Reference::Digest(digest) => {
                // Whoever names it so may count on it without a tag.
                let key = keys::manifest(name, digest);
                return Self::stored(*digest, self.in_use(key, keys::untagged(name, digest)).await?);
            }
            Reference::Tag(tag) => keys::tag(name, tag),
        };
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(tag.clone()).await? else { return Ok(None) };
            let digest = tagged(&entry)?;
            let manifest = Self::stored(digest, self.meta().get(keys::manifest(name, &digest)).await?)?;
            if manifest.is_some() {
                return Ok(manifest);
            }
            // No tag points to nothing: it was moved or removed after it was read, and its manifest deleted.
            back_off(round).await;
        }
        Err(contended(format_args!("a tag of {name}")))
    }

    fn stored(digest: Digest, entry: Option<Entry>) -> Result<Option<StoredManifest>, BlobError> {
        entry.map(|entry| StoredManifest::of(digest, &entry)).transpose()
    }

    /// The bytes of a manifest.
    pub(crate) async fn manifest_bytes(&self, manifest: &StoredManifest) -> Result<Bytes, BlobError> {
        match &manifest.content {
            StoredContent::Inline(bytes) => Ok(bytes.clone()),
            StoredContent::Blob(blob) => {
                let mut all = BytesMut::with_capacity(blob.size as usize);
                let mut reader = self.blobs.read(blob, 0..blob.size)?;
                while let Some(run) = reader.try_next().await? {
                    all.extend_from_slice(&run);
                }
                Ok(all.freeze())
            }
        }
    }

    /// Stores a manifest under `digest`, which the caller has compared with the bytes, and points tags at it. Putting
    /// it again is no error. Of two puts of one tag at once, both succeed and the later one counts; with a condition the
    /// later one succeeds only if that holds of what the first has put.
    pub(crate) async fn put_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        bytes: &Bytes,
        tags: &[Tag],
        condition: Option<Condition<'_>>,
    ) -> Result<(), PutError> {
        for round in 0..TRIES {
            let held = self.hold(name, &manifest.needs).await?;
            let key = keys::manifest(name, digest);
            // Its pusher counts on it, with or without a tag.
            let there = self.in_use(key.clone(), keys::untagged(name, digest)).await?;
            let (transaction, pointed) = self.point_tags(name, digest, tags).await?;
            if let Some(Condition { of, preconditions }) = condition {
                let current = match of {
                    Reference::Digest(digest) => there.as_ref().map(|_| *digest),
                    Reference::Tag(_) => pointed,
                };
                if !preconditions.hold(current.as_ref()) {
                    return Err(PutError::Precondition);
                }
            }
            let transaction = match &there {
                Some(there) => self.renew(name, digest, manifest, &held, there, transaction).await?,
                None => {
                    let transaction = transaction.check(Check::Absent(key));
                    self.write_manifest(name, digest, manifest, bytes, &held, transaction).await?
                }
            };
            if transaction.as_ref().is_some_and(|transaction| transaction.writes.is_empty()) {
                return Ok(());
            }
            if let Some(transaction) = transaction
                && self.meta().transact(transaction).await?.is_committed()
            {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the manifest {digest} of {name}")).into())
    }

    /// The transaction that points tags at a manifest, and what the first of them points at until then.
    async fn point_tags(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<(Transaction, Option<Digest>), BlobError> {
        let (mut transaction, mut pointed) = (Transaction::new(), Vec::with_capacity(tags.len()));
        if tags.is_empty() {
            return Ok((transaction, None));
        }
        let keys: Vec<Bytes> = tags.iter().map(|tag| keys::tag(name, tag)).collect();
        let value = encode(&TagRecord { digest: digest.to_string() });
        for ((tag, key), entry) in tags.iter().zip(&keys).zip(self.meta().get_many(&keys).await?) {
            let before = entry.as_ref().map(tagged).transpose()?;
            pointed.push(before);
            if let Some(before) = before.filter(|before| before != digest) {
                transaction = transaction.write(Write::Delete(keys::tag_of(name, &before, tag)));
            }
            transaction = transaction
                .unchanged(key.clone(), entry.as_ref())
                .write(Write::Put(key.clone(), value.clone()))
                .write(Write::Put(keys::tag_of(name, digest, tag), Bytes::new()));
        }
        Ok((transaction, pointed.first().copied().flatten()))
    }

    /// Adds to `transaction` what stores a manifest that is not there, after writing what does not fit into it.
    /// `None` where another change came in between and all must be read again.
    async fn write_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        bytes: &Bytes,
        held: &[Held],
        mut transaction: Transaction,
    ) -> Result<Option<Transaction>, BlobError> {
        transaction = transaction.and(self.repository_there(name).await?);
        if let Some(subject) = &manifest.subject {
            let record = super::referrers::record(manifest, bytes.len() as u64);
            transaction =
                transaction.write(Write::Put(keys::referrer(name, subject, digest), encode(&record)));
        }
        let mut record = ManifestRecord {
            media_type: manifest.media_type.into(),
            size: bytes.len() as u64,
            subject: manifest.subject.map(|subject| subject.to_string()).unwrap_or_default(),
            ..ManifestRecord::default()
        };
        let holder = keys::reference_holder(name, digest);
        let references: Vec<Transaction> =
            held.iter().map(|held| held.reference(name, digest, &holder)).collect();
        let pending_key = keys::pending(name, digest);
        let pending = self.meta().get(pending_key.clone()).await?;
        // Besides the references: the manifest itself, and the check of its pending key.
        let room = MOST_OPERATIONS - transaction.operations() - 2;
        let operations: usize = references.iter().map(Transaction::operations).sum();
        if pending.is_none() && bytes.len() <= INLINE && operations <= room {
            record.content = bytes.clone();
            transaction = transaction.check(Check::Absent(pending_key));
            transaction = references.into_iter().fold(transaction, Transaction::and);
        } else {
            // A put of the same manifest that is under way, or broke off, shares its pending key.
            let version = match pending {
                Some(entry) => Some(entry.version),
                None => self.begin_pending(name, digest).await?,
            };
            let Some(version) = version else { return Ok(None) };
            // Once the pending key is gone nobody looks for references any more, so none may be written.
            let is_pending = Transaction::new().check(Check::Version(pending_key.clone(), version));
            if bytes.len() <= INLINE {
                record.content = bytes.clone();
            } else {
                let content = self.put_content(digest, bytes, &holder, &is_pending).await;
                if content.is_err() && !self.is_still(&is_pending).await? {
                    return Ok(None);
                }
                record.blob = content?;
            }
            if !self.write_references(references, &is_pending).await? {
                return Ok(None);
            }
            transaction = transaction.and(is_pending).write(Write::Delete(pending_key));
        }
        Ok(Some(transaction.write(Write::Put(keys::manifest(name, digest), encode(&record)))))
    }

    /// Checks that the repository's record is there, or writes it.
    async fn repository_there(&self, name: &RepositoryName) -> Result<Transaction, BlobError> {
        let key = keys::repository(name);
        let entry = self.meta().get(key.clone()).await?;
        let transaction = Transaction::new().unchanged(key.clone(), entry.as_ref());
        if entry.is_some() {
            return Ok(transaction);
        }
        let record = RepositoryRecord { created: self.meta().now().await?.0 };
        Ok(transaction.write(Write::Put(key, encode(&record))))
    }

    /// Makes a manifest that is absent pending, and answers the version of that; `None` where another change came in
    /// between.
    pub(super) async fn begin_pending(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Version>, BlobError> {
        let key = keys::pending(name, digest);
        let record = PendingRecord { since: self.meta().now().await?.0 };
        let transaction = Transaction::new()
            .check(Check::Absent(keys::manifest(name, digest)))
            .check(Check::Absent(key.clone()))
            .write(Write::Put(key, encode(&record)));
        match self.meta().transact(transaction).await? {
            Outcome::Committed(version) => Ok(Some(version)),
            Outcome::Conflict(_) => Ok(None),
        }
    }

    /// Stores the bytes of a long manifest, while it is pending, as a blob that no repository links, held by the manifest.
    pub(super) async fn put_content(
        &self,
        digest: &Digest,
        bytes: &Bytes,
        holder: &[u8],
        is_pending: &Transaction,
    ) -> Result<Bytes, BlobError> {
        let link = |blob: &BlobInfo| {
            let hold = Write::Put(reference_key(blob.id, holder), Bytes::new());
            Transaction::new().and(is_pending.clone()).write(hold)
        };
        let blob = self.blobs.put(body_of(bytes.clone()), Some(*digest), &link).await?;
        Ok(Bytes::copy_from_slice(blob.id.as_bytes()))
    }

    /// Whether these checks hold now.
    async fn is_still(&self, checks: &Transaction) -> Result<bool, BlobError> {
        Ok(self.meta().transact(Transaction::new().and(checks.clone())).await?.is_committed())
    }

    /// Writes references in as many transactions as they take, while their manifest is pending; `false` where something is not
    /// there any more.
    pub(super) async fn write_references(
        &self,
        references: Vec<Transaction>,
        is_pending: &Transaction,
    ) -> Result<bool, BlobError> {
        let begin = || Transaction::new().and(is_pending.clone());
        let mut batch = begin();
        for reference in references {
            let full = batch.operations() + reference.operations() > MOST_OPERATIONS;
            if full && !self.meta().transact(std::mem::replace(&mut batch, begin())).await?.is_committed() {
                return Ok(false);
            }
            batch = batch.and(reference);
        }
        Ok(self.meta().transact(batch).await?.is_committed())
    }
}

impl StoredManifest {
    /// The commit that wrote it.
    #[cfg(test)]
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn of(digest: Digest, entry: &Entry) -> Result<Self, BlobError> {
        let record: ManifestRecord = decode(entry)?;
        let content = if record.blob.is_empty() {
            StoredContent::Inline(record.content)
        } else {
            let id =
                BlobId::try_from(&record.blob[..]).map_err(|error| unreadable(entry, &error.to_string()))?;
            StoredContent::Blob(BlobInfo { id, size: record.size, digest })
        };
        let subject = match record.subject.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| unreadable(entry, "its subject is no digest"))?),
        };
        Ok(Self {
            digest,
            media_type: record.media_type,
            size: record.size,
            content,
            subject,
            version: entry.version,
        })
    }
}
