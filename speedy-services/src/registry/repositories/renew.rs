//! Manifests that are put again.

use std::collections::HashSet;

use bytes::Bytes;
use speedy_core::blob::{BlobError, reference_key};
use speedy_core::digest::Digest;
use speedy_core::meta::{Check, Entry, Outcome, Transaction, Version, Write};

use super::held::Held;
use super::records::{ManifestRecord, decode, encode};
use super::{MOST_OPERATIONS, Repositories, keys, referrers};
use crate::registry::manifest::Manifest;
use crate::registry::names::RepositoryName;

impl Repositories {
    /// Adds to `transaction` what putting a manifest again changes, and the check that it is still there as it was found.
    /// Nothing, most times. But the same bytes may come with another type, where they do not name their own; and blobs
    /// may have come since that need not be there, which are held from now on like all others. `None` where another
    /// change came in between and all must be read again.
    pub(super) async fn renew(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        held: &[Held],
        there: &Entry,
        mut transaction: Transaction,
    ) -> Result<Option<Transaction>, BlobError> {
        let mut record: ManifestRecord = decode(there)?;
        let mut version = Some(there.version);
        let late = self.not_held_yet(name, digest, manifest, held).await?;
        if !late.is_empty() {
            version = self.hold_late(name, digest, late, there).await?;
        }
        let Some(version) = version else { return Ok(None) };
        transaction = transaction.check(Check::Version(there.key.clone(), version));
        if record.media_type != manifest.media_type {
            record.media_type = manifest.media_type.into();
            transaction = transaction.write(Write::Put(there.key.clone(), encode(&record)));
            if let Some(subject) = &manifest.subject {
                let listed = encode(&referrers::record(manifest, record.size));
                transaction = transaction.write(Write::Put(keys::referrer(name, subject, digest), listed));
            }
        }
        Ok(Some(transaction))
    }

    /// References to what a manifest names without needing it, where it is there and not held.
    async fn not_held_yet(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        held: &[Held],
    ) -> Result<Vec<Transaction>, BlobError> {
        let optional = manifest.needs.iter().filter(|need| !need.required).map(|need| need.digest);
        let optional: HashSet<Digest> = optional.collect();
        let holder = keys::reference_holder(name, digest);
        let mut late = Vec::new();
        for part in held.chunks(speedy_core::meta::MAX_GET_KEYS) {
            let blobs: Vec<(&Held, Bytes)> = part
                .iter()
                .filter_map(|held| match held {
                    Held::Blob(live, _) if optional.contains(&live.info.digest) => {
                        Some((held, reference_key(live.info.id, &holder)))
                    }
                    _ => None,
                })
                .collect();
            if blobs.is_empty() {
                continue;
            }
            let references: Vec<Bytes> = blobs.iter().map(|(_, key)| key.clone()).collect();
            for ((held, _), entry) in blobs.iter().zip(self.meta().get_many(&references).await?) {
                if entry.is_none() {
                    late.push(held.reference(name, digest, &holder));
                }
            }
        }
        Ok(late)
    }

    /// Writes references of a manifest that is there. Each transaction writes the manifest too, as it is: a delete that
    /// has not seen the new references is refused, and looks again. Answers the manifest's version after that.
    async fn hold_late(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        references: Vec<Transaction>,
        there: &Entry,
    ) -> Result<Option<Version>, BlobError> {
        let key = keys::manifest(name, digest);
        let mut version = there.version;
        let mut references = references.into_iter().peekable();
        while references.peek().is_some() {
            let mut batch = Transaction::new()
                .check(Check::Version(key.clone(), version))
                .write(Write::Put(key.clone(), there.value.clone()));
            while let Some(reference) =
                references.next_if(|next| batch.operations() + next.operations() <= MOST_OPERATIONS)
            {
                batch = batch.and(reference);
            }
            match self.meta().transact(batch).await? {
                Outcome::Committed(committed) => version = committed,
                Outcome::Conflict(_) => return Ok(None),
            }
        }
        Ok(Some(version))
    }
}
