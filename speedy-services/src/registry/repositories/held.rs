//! What a manifest names, looked up in its repository.

use std::collections::HashSet;

use bytes::Bytes;
use speedy_core::blob::{BlobError, LiveBlob, reference_key};
use speedy_core::digest::Digest;
use speedy_core::meta::{Check, Transaction, Version, Write};

use super::manifests::PutError;
use super::records::{LinkRecord, ManifestRecord, decode};
use super::{Repositories, keys};
use crate::registry::manifest::{Content, Need};
use crate::registry::names::RepositoryName;

/// Keys read at once while what a manifest names is looked up.
const LOOKUP: usize = 256;

/// Something that a manifest names, as it was found.
pub(super) enum Held {
    /// A blob, and the link by which the repository has it.
    Blob(LiveBlob, Linked),
    /// Another digest of a blob that is held already.
    Again(Linked),
    Child(Digest, Version),
    /// A manifest that is named and not there.
    Absent(Digest),
}

/// A link as it was found.
#[derive(Clone)]
pub(super) struct Linked {
    key: Bytes,
    version: Version,
}

impl Linked {
    fn check(&self) -> Check {
        Check::Version(self.key.clone(), self.version)
    }
}

impl Held {
    /// What keeps it, on behalf of the manifest `digest`.
    pub(super) fn reference(&self, name: &RepositoryName, digest: &Digest, holder: &[u8]) -> Transaction {
        match self {
            // That the link is there too, or a blob which is live for others could be one that nobody can pull here.
            Self::Blob(live, link) => Transaction::new()
                .check(live.check_live())
                .check(link.check())
                .write(Write::Put(reference_key(live.info.id, holder), Bytes::new())),
            Self::Again(link) => Transaction::new().check(link.check()),
            Self::Child(child, version) => Transaction::new()
                .check(Check::Version(keys::manifest(name, child), *version))
                .write(Write::Put(keys::parent(name, child, digest), Bytes::new())),
            // Should it come, it is known to be part of an index.
            Self::Absent(child) => {
                Transaction::new().write(Write::Put(keys::parent(name, child, digest), Bytes::new()))
            }
        }
    }
}

impl Repositories {
    /// Finds what a manifest names in its repository.
    pub(super) async fn hold(&self, name: &RepositoryName, needs: &[Need]) -> Result<Vec<Held>, PutError> {
        let (mut held, mut missing) = (Vec::with_capacity(needs.len()), Vec::new());
        // Digests of two algorithms may lead to one blob, which takes one reference.
        let mut blobs_held = HashSet::new();
        for needs in needs.chunks(LOOKUP) {
            let blobs = self.linked_blobs(name, needs, |content| content != Content::Manifest).await?;
            let children = self.children(name, needs, |content| content != Content::Blob).await?;
            for ((need, blob), child) in needs.iter().zip(blobs).zip(children) {
                let (actual, found) = match (child, blob) {
                    (Some((version, size)), _) => (size, Held::Child(need.digest, version)),
                    (None, Some((live, link))) => {
                        let is_first = blobs_held.insert(live.info.id);
                        (live.info.size, if is_first { Held::Blob(live, link) } else { Held::Again(link) })
                    }
                    (None, None) if need.required => {
                        missing.push(need.digest);
                        continue;
                    }
                    (None, None) if need.content == Content::Manifest => {
                        held.push(Held::Absent(need.digest));
                        continue;
                    }
                    (None, None) => continue,
                };
                if actual != need.size {
                    return Err(PutError::Size { digest: need.digest, named: need.size, actual });
                }
                held.push(found);
            }
        }
        if missing.is_empty() { Ok(held) } else { Err(PutError::Missing(missing)) }
    }

    /// For each need that may be a blob, the live blob and the link if the repository has one.
    async fn linked_blobs(
        &self,
        name: &RepositoryName,
        needs: &[Need],
        wanted: impl Fn(Content) -> bool,
    ) -> Result<Vec<Option<(LiveBlob, Linked)>>, BlobError> {
        let mut found = vec![None; needs.len()];
        let at: Vec<usize> = (0..needs.len()).filter(|&at| wanted(needs[at].content)).collect();
        if at.is_empty() {
            return Ok(found);
        }
        let digests: Vec<Digest> = at.iter().map(|&at| needs[at].digest).collect();
        let links: Vec<Bytes> = digests.iter().map(|digest| keys::link(name, digest)).collect();
        let (links, live) = tokio::join!(self.meta().get_many(&links), self.blobs.find_many(&digests));
        for ((at, link), live) in at.into_iter().zip(links?).zip(live?) {
            if let (Some(entry), Some(live)) = (link, live) {
                let link: LinkRecord = decode(&entry)?;
                let linked = Linked { key: entry.key, version: entry.version };
                found[at] = link.is(live.info.id).then_some((live, linked));
            }
        }
        Ok(found)
    }

    /// For each need that may be a manifest, the version of its entry and its length.
    async fn children(
        &self,
        name: &RepositoryName,
        needs: &[Need],
        wanted: impl Fn(Content) -> bool,
    ) -> Result<Vec<Option<(Version, u64)>>, BlobError> {
        let mut found = vec![None; needs.len()];
        let at: Vec<usize> = (0..needs.len()).filter(|&at| wanted(needs[at].content)).collect();
        // Manifests come whole: a few at a time.
        for at in at.chunks(LOOKUP / 16) {
            let keys: Vec<Bytes> = at.iter().map(|&at| keys::manifest(name, &needs[at].digest)).collect();
            for (&at, entry) in at.iter().zip(self.meta().get_many(&keys).await?) {
                if let Some(entry) = entry {
                    let record: ManifestRecord = decode(&entry)?;
                    found[at] = Some((entry.version, record.size));
                }
            }
        }
        Ok(found)
    }
}
