use bytes::Bytes;
use speedy_core::blob::{BlobError, reference_key};
use speedy_core::digest::Digest;
use speedy_core::meta::{Check, Entry, KeyRange, Outcome, Transaction, Write};

use super::manifests::{StoredContent, StoredManifest};
use super::records::tagged;
use super::{MOST_OPERATIONS, Repositories, TRIES, back_off, contended, keys};
use crate::registry::manifest::{Content, Manifest};
use crate::registry::names::{Reference, RepositoryName, Tag};
use crate::registry::preconditions::Preconditions;

/// Tags removed in one transaction: each takes a check and two writes.
const TAGS_AT_ONCE: usize = 40;
/// Tags that go in the transaction of their manifest. Most manifests have fewer, and most of the transaction is left to
/// what the manifest holds.
const TAGS_WITH_IT: usize = 8;
/// Digests looked up at once.
const LOOKUP: usize = 256;

/// What became of a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// It is gone.
    Done,
    /// It was not there.
    Missing,
    /// It is there still: the preconditions do not hold.
    Refused,
}

impl Repositories {
    /// Removes a tag and leaves the manifest; answers whether the tag was there.
    #[cfg(test)]
    pub(crate) async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool, BlobError> {
        let removed = self.delete_tag_where(name, tag, &Preconditions::default()).await?;
        Ok(removed == Removal::Done)
    }

    /// Removes a tag, if the preconditions hold of what it points to, and leaves the manifest.
    pub(crate) async fn delete_tag_where(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        preconditions: &Preconditions,
    ) -> Result<Removal, BlobError> {
        let key = keys::tag(name, tag);
        for round in 0..TRIES {
            let Some(entry) = self.meta().get(key.clone()).await? else { return Ok(Removal::Missing) };
            let digest = tagged(&entry)?;
            if !preconditions.hold(Some(&digest)) {
                return Ok(Removal::Refused);
            }
            let transaction = Transaction::new()
                .check(Check::Version(key.clone(), entry.version))
                .write(Write::Delete(key.clone()))
                .write(Write::Delete(keys::tag_of(name, &digest, tag)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(Removal::Done);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the removal of tag {tag} of {name}")))
    }

    /// Removes a manifest and every tag that points to it; answers whether it was there. No tag is ever seen to point to
    /// nothing: the last few go in the manifest's transaction, and those that do not fit into it before.
    pub(crate) async fn delete_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, BlobError> {
        for round in 0..TRIES {
            let Some(manifest) = self.manifest(name, &Reference::Digest(*digest)).await? else {
                return Ok(false);
            };
            if let Some(untag) = self.untag(name, digest).await?
                && self.remove_manifest(name, &manifest, untag).await?
            {
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
        let room = MOST_OPERATIONS - transaction.operations();
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

    /// What removes the tags of a manifest, and checks that it has no others; `None` where other changes came in between.
    /// Of many tags most are removed here.
    async fn untag(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Transaction>, BlobError> {
        let all = keys::tags_of(name, digest);
        loop {
            let page = self.meta().scan(all.clone(), TAGS_AT_ONCE).await?;
            let Some(mut removal) = self.removal_of_tags(name, digest, &page.entries).await? else {
                return Ok(None);
            };
            if page.next.is_none() && page.entries.len() <= TAGS_WITH_IT {
                // The only tag that can come now is one whose put has seen the manifest: one of the two is refused.
                let mut rest = all;
                for entry in &page.entries {
                    let after = rest.after(&entry.key);
                    removal = removal.check(Check::RangeEmpty(KeyRange::new(rest.start, entry.key.clone())));
                    rest = after;
                }
                return Ok(Some(removal.check(Check::RangeEmpty(rest))));
            }
            if !self.meta().transact(removal).await?.is_committed() {
                return Ok(None);
            }
        }
    }

    /// What removes these tags of a manifest; `None` where one of them has changed since they were read.
    async fn removal_of_tags(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        entries: &[Entry],
    ) -> Result<Option<Transaction>, BlobError> {
        let mut removal = Transaction::new();
        if entries.is_empty() {
            return Ok(Some(removal));
        }
        let prefix = keys::tags_of(name, digest).start.len();
        let tag = |key: &Bytes| keys::text_after(key, prefix).and_then(|text| text.parse::<Tag>().ok());
        let tags: Vec<Bytes> =
            entries.iter().filter_map(|entry| Some(keys::tag(name, &tag(&entry.key)?))).collect();
        for entry in entries {
            removal = removal.write(Write::Delete(entry.key.clone()));
        }
        for (key, entry) in tags.iter().zip(self.meta().get_many(&tags).await?) {
            match entry {
                Some(entry) if tagged(&entry)? == *digest => {
                    removal = removal
                        .check(Check::Version(key.clone(), entry.version))
                        .write(Write::Delete(key.clone()));
                }
                // Moved or removed since the scan, and its place in this index with it.
                _ => return Ok(None),
            }
        }
        Ok(Some(removal))
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
    let room = MOST_OPERATIONS - transaction.operations();
    transaction.writes.extend(keys.by_ref().take(room).map(Write::Delete));
}
