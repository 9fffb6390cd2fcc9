use bytes::Bytes;
use speedy_core::blob::{BlobError, reference_key};
use speedy_core::digest::Digest;
use speedy_core::meta::{Check, MAX_TRANSACTION_OPERATIONS, Outcome, Transaction, Write};

use super::manifests::{StoredContent, StoredManifest};
use super::records::tagged;
use super::{Repositories, TRIES, back_off, contended, keys};
use crate::registry::manifest::{Content, Manifest};
use crate::registry::names::{Reference, RepositoryName, Tag};

/// Tags removed in one transaction: each takes a check and two writes.
const TAGS_AT_ONCE: usize = 40;
/// Digests looked up at once.
const LOOKUP: usize = 256;

impl Repositories {
    /// Removes a tag and leaves the manifest; answers whether the tag was there.
    pub(crate) async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool, BlobError> {
        let key = keys::tag(name, tag);
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(key.clone()).await? else { return Ok(false) };
            let transaction = Transaction::new()
                .check(Check::Version(key.clone(), entry.version))
                .write(Write::Delete(key.clone()))
                .write(Write::Delete(keys::tag_of(name, &tagged(&entry)?, tag)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of tag {tag} of {name}")))
    }

    /// Removes a manifest and every tag that points to it; answers whether it was there. The tags go first, so that
    /// none is ever seen to point to nothing.
    pub(crate) async fn delete_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, BlobError> {
        for round in 0..TRIES {
            let Some(manifest) = self.manifest(name, &Reference::Digest(*digest)).await? else {
                return Ok(false);
            };
            if !self.untag(name, digest).await? {
                back_off(round).await;
                continue;
            }
            // The only tag that can come now is one whose put has seen the manifest: one of the two is refused.
            let condition = Transaction::new().check(Check::RangeEmpty(keys::tags_of(name, digest)));
            if self.remove_manifest(name, &manifest, condition).await? {
                return Ok(true);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of manifest {digest} of {name}")))
    }

    /// Removes a manifest as it was read, and what it holds, where `condition` holds too; `false` where something
    /// changed meanwhile.
    pub(super) async fn remove_manifest(
        &self,
        name: &RepositoryName,
        manifest: &StoredManifest,
        condition: Transaction,
    ) -> Result<bool, BlobError> {
        let digest = &manifest.digest;
        let (references, are_all) = self.references_of(name, manifest).await?;
        let mut rest = references.into_iter();
        let mut transaction = condition
            .check(Check::Version(keys::manifest(name, digest), manifest.version))
            .write(Write::Delete(keys::manifest(name, digest)))
            .write(Write::Delete(keys::untagged(name, digest)));
        if let Some(subject) = &manifest.subject {
            transaction = transaction.write(Write::Delete(keys::referrer(name, subject, digest)));
        }
        let room = MAX_TRANSACTION_OPERATIONS - transaction.operations();
        let fits = rest.len() <= room;
        if !(fits && are_all) {
            // Until all are gone, the collector is to look for them.
            transaction = transaction.write(Write::Put(keys::leftover(name, digest), Bytes::new()));
        }
        fill(&mut transaction, &mut rest);
        let Outcome::Committed(version) = self.meta().transact(transaction).await? else { return Ok(false) };
        if !fits && self.drop_references(name, digest, rest).await? && are_all {
            let key = keys::leftover(name, digest);
            let done = Transaction::new().check(Check::Version(key.clone(), version));
            // Somebody may have removed the manifest once more, and not be done.
            let _ = self.meta().transact(done.write(Write::Delete(key)).relaxed()).await?;
        }
        Ok(true)
    }

    /// Removes all tags of a manifest; `false` where other changes came in between.
    async fn untag(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, BlobError> {
        let mut range = Some(keys::tags_of(name, digest));
        let prefix = keys::tags_of(name, digest).start.len();
        while let Some(tags) = range {
            let page = self.meta().scan(tags, TAGS_AT_ONCE).await?;
            range = page.next;
            if page.entries.is_empty() {
                continue;
            }
            let tag = |key: &Bytes| keys::text_after(key, prefix).and_then(|text| text.parse::<Tag>().ok());
            let tags: Vec<Bytes> =
                page.entries.iter().filter_map(|entry| Some(keys::tag(name, &tag(&entry.key)?))).collect();
            let mut transaction = Transaction::new();
            for entry in &page.entries {
                transaction = transaction.write(Write::Delete(entry.key.clone()));
            }
            for (key, entry) in tags.iter().zip(self.meta().get_many(&tags).await?) {
                match entry {
                    Some(entry) if tagged(&entry)? == *digest => {
                        transaction = transaction
                            .check(Check::Version(key.clone(), entry.version))
                            .write(Write::Delete(key.clone()));
                    }
                    // Moved or removed since the scan, and its place in this index with it.
                    _ => return Ok(false),
                }
            }
            if !self.meta().transact(transaction).await?.is_committed() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The keys by which a manifest holds what it names, and whether these are all. What it names is live as long as
    /// they are there, so its digests still lead to the same blobs.
    async fn references_of(
        &self,
        name: &RepositoryName,
        stored: &StoredManifest,
    ) -> Result<(Vec<Bytes>, bool), BlobError> {
        let holder = keys::reference_holder(name, &stored.digest);
        let mut references = Vec::new();
        if let StoredContent::Blob(blob) = &stored.content {
            references.push(reference_key(blob.id, &holder));
        }
        let parsed = match self.manifest_bytes(stored).await {
            Ok(bytes) => Manifest::parse(Some(&stored.media_type), &bytes).map_err(|error| error.to_string()),
            Err(error @ BlobError::Damaged { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        let manifest = match parsed {
            Ok(manifest) => manifest,
            Err(error) => {
                // It must be possible to delete what is broken. A reference too many only keeps bytes.
                tracing::warn!(
                    repository = %name, digest = %stored.digest, error,
                    "a manifest that is being deleted cannot be read; what it named is kept until it is collected"
                );
                return Ok((references, false));
            }
        };
        for needs in manifest.needs.chunks(LOOKUP) {
            let digests: Vec<Digest> = needs.iter().map(|need| need.digest).collect();
            let found = self.blobs.find_many(&digests).await?;
            for (need, found) in needs.iter().zip(found) {
                if need.content != Content::Blob {
                    references.push(keys::parent(name, &need.digest, &stored.digest));
                }
                if let Some(live) = found {
                    references.push(reference_key(live.info.id, &holder));
                }
            }
        }
        // Digests of two algorithms may lead to one blob.
        references.sort_unstable();
        references.dedup();
        Ok((references, true))
    }

    /// Removes references that did not fit into the transaction that removed their manifest; `false` where it has come
    /// back.
    async fn drop_references(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        rest: impl Iterator<Item = Bytes>,
    ) -> Result<bool, BlobError> {
        let mut rest = rest.peekable();
        while rest.peek().is_some() {
            let mut transaction = Transaction::new()
                .check(Check::Absent(keys::manifest(name, digest)))
                .check(Check::Absent(keys::pending(name, digest)));
            fill(&mut transaction, &mut rest);
            if !self.meta().transact(transaction).await?.is_committed() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Adds removals to a transaction while they fit.
fn fill(transaction: &mut Transaction, keys: &mut impl Iterator<Item = Bytes>) {
    let room = MAX_TRANSACTION_OPERATIONS - transaction.operations();
    transaction.writes.extend(keys.by_ref().take(room).map(Write::Delete));
}
