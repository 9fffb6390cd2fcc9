use std::collections::BTreeMap;

use speedy_core::blob::BlobError;
use speedy_core::digest::Digest;

use super::records::{ReferrerRecord, decode, unreadable};
use super::{Repositories, keys};
use crate::registry::manifest::Manifest;
use crate::registry::names::{Reference, RepositoryName};

/// The most bytes of annotations that are kept in a referrer's record.
const MAX_ANNOTATIONS: usize = 16 * 1024;
/// Records read at once.
const PAGE: usize = 256;

/// A manifest that is about another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Part of a list of referrers, in order of their digests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Referrers {
    /// The referrers.
    pub list: Vec<Referrer>,
    /// The digest to go on after; `None` at the end.
    pub next: Option<Digest>,
}

/// What is kept of a manifest of `size` bytes for the list of its subject's referrers.
pub(super) fn record(manifest: &Manifest, size: u64) -> ReferrerRecord {
    let annotations: usize =
        manifest.annotations.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    let elsewhere = annotations > MAX_ANNOTATIONS;
    ReferrerRecord {
        media_type: manifest.media_type.into(),
        size,
        artifact_type: manifest.artifact_type.clone().unwrap_or_default(),
        annotations: if elsewhere { BTreeMap::new() } else { manifest.annotations.clone() },
        annotations_elsewhere: elsewhere,
    }
}

impl Repositories {
    /// The referrers of a manifest after `last`, whether or not that manifest is there, of one artifact type where
    /// one is given. The list ends once its descriptors come to about `max_bytes`.
    pub(crate) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        max_bytes: usize,
    ) -> Result<Referrers, BlobError> {
        let prefix = keys::referrers(name, subject, None).start.len();
        let mut range = Some(keys::referrers(name, subject, last));
        let (mut list, mut bytes) = (Vec::new(), 0);
        while let Some(rest) = range.take() {
            let page = self.meta().scan(rest, PAGE).await?;
            for entry in page.entries {
                let record: ReferrerRecord = decode(&entry)?;
                if artifact_type.is_some_and(|wanted| wanted != record.artifact_type) {
                    continue;
                }
                let digest = keys::digest_after(&entry.key, prefix)
                    .ok_or_else(|| unreadable(&entry, "the key ends with no digest"))?;
                let referrer = self.referrer(name, digest, record).await?;
                let length = referrer.json_len();
                // One referrer always fits: the list must get on.
                if !list.is_empty() && bytes + length > max_bytes {
                    let next = list.last().map(|referrer: &Referrer| referrer.digest);
                    return Ok(Referrers { list, next });
                }
                bytes += length;
                list.push(referrer);
            }
            range = page.next;
        }
        Ok(Referrers { list, next: None })
    }

    async fn referrer(
        &self,
        name: &RepositoryName,
        digest: Digest,
        record: ReferrerRecord,
    ) -> Result<Referrer, BlobError> {
        let mut annotations = record.annotations;
        if record.annotations_elsewhere
            && let Some(stored) = self.manifest(name, &Reference::Digest(digest)).await?
        {
            let bytes = self.manifest_bytes(&stored).await?;
            if let Ok(manifest) = Manifest::parse(Some(&stored.media_type), &bytes) {
                annotations = manifest.annotations;
            }
        }
        Ok(Referrer {
            digest,
            media_type: record.media_type,
            size: record.size,
            artifact_type: (!record.artifact_type.is_empty()).then_some(record.artifact_type),
            annotations,
        })
    }
}

impl Referrer {
    /// About how long its descriptor is as JSON.
    fn json_len(&self) -> usize {
        let annotations: usize =
            self.annotations.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
        300 + self.artifact_type.as_ref().map_or(0, String::len) + annotations
    }
}
