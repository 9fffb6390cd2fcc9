//! Which blobs a repository holds by its links and manifests, and whether another does.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use speedy_core::blob::{BlobError, reference_key};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::Entry;

use super::manifests::{StoredContent, StoredManifest};
use super::records::{LinkRecord, decode};
use super::{Repositories, keys};
use crate::registry::manifest::{Content, Manifest};
use crate::registry::names::RepositoryName;

/// Entries read at once.
const PAGE: usize = 1000;
/// Digests looked up at once.
const LOOKUP: usize = 256;

/// What is known of the blobs of one repository while they are collected.
#[derive(Default)]
struct Holding {
    sizes: HashMap<BlobId, u64>,
    linked: HashSet<Digest>,
    /// A digest that no link leads to, and the manifest (as a holder of references) that names it.
    named: Vec<(Digest, Bytes)>,
}

impl Repositories {
    /// The blobs that a repository holds, with their lengths: those that it links, those that its manifests refer to
    /// although it does not link them any more, and those that are its manifests. Each is there once, however many
    /// digests lead to it.
    pub(crate) async fn held_blobs(&self, name: &RepositoryName) -> Result<HashMap<BlobId, u64>, BlobError> {
        let mut holding = Holding::default();
        let mut rest = Some(keys::links(name));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for entry in &page.entries {
                let link: LinkRecord = decode(entry)?;
                if let Ok(blob) = BlobId::try_from(&link.blob[..]) {
                    holding.sizes.insert(blob, link.size);
                }
                holding.linked.extend(keys::name_and_digest(&entry.key).map(|(_, digest)| digest));
            }
            rest = page.next;
        }
        let mut rest = Some(keys::manifests(name));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for entry in &page.entries {
                self.add_manifest(name, entry, &mut holding).await?;
            }
            self.add_named(&mut holding).await?;
            rest = page.next;
        }
        // The bytes of a long manifest come before the manifest, which may not come if its push broke off.
        let mut rest = Some(keys::pending_in(name));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            let digests = page.entries.iter().filter_map(|entry| keys::name_and_digest(&entry.key));
            let holders = digests.map(|(_, digest)| (digest, keys::reference_holder(name, &digest)));
            holding.named.extend(holders);
            self.add_named(&mut holding).await?;
            rest = page.next;
        }
        Ok(holding.sizes)
    }

    /// Adds a manifest's own blob, where it is one, and notes what it names without a link. Most name nothing of that
    /// kind: blobs whose link was deleted, and foreign layers.
    async fn add_manifest(
        &self,
        name: &RepositoryName,
        entry: &Entry,
        holding: &mut Holding,
    ) -> Result<(), BlobError> {
        let Some((_, digest)) = keys::name_and_digest(&entry.key) else { return Ok(()) };
        let stored = StoredManifest::of(digest, entry)?;
        if let StoredContent::Blob(blob) = &stored.content {
            holding.sizes.insert(blob.id, blob.size);
        }
        let parsed = match self.manifest_bytes(&stored).await {
            Ok(bytes) => Manifest::parse(Some(&stored.media_type), &bytes).map_err(|error| error.to_string()),
            Err(error @ BlobError::Damaged { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match parsed {
            Ok(manifest) => {
                let holder = keys::reference_holder(name, &digest);
                let blobs = manifest.needs.iter().filter(|need| need.content != Content::Manifest);
                let unlinked = blobs.filter(|need| !holding.linked.contains(&need.digest));
                holding.named.extend(unlinked.map(|need| (need.digest, holder.clone())));
            }
            Err(error) => tracing::warn!(
                repository = %name, %digest, error,
                "a manifest cannot be read; what it holds and its repository does not link is not in the usage"
            ),
        }
        Ok(())
    }

    /// Adds the blobs that manifests do hold of those that they were noted to name.
    async fn add_named(&self, holding: &mut Holding) -> Result<(), BlobError> {
        for named in std::mem::take(&mut holding.named).chunks(LOOKUP) {
            let digests: Vec<Digest> = named.iter().map(|(digest, _)| *digest).collect();
            let live = self.blobs.find_many(&digests).await?;
            let found: Vec<_> =
                named.iter().zip(live).filter_map(|(named, live)| Some((named, live?))).collect();
            let references: Vec<Bytes> =
                found.iter().map(|((_, holder), live)| reference_key(live.info.id, holder)).collect();
            for ((_, live), reference) in found.iter().zip(self.meta().get_many(&references).await?) {
                if reference.is_some() {
                    holding.sizes.insert(live.info.id, live.info.size);
                }
            }
        }
        Ok(())
    }

    /// Whether another repository links a blob, or a manifest of another refers to it.
    pub(crate) async fn is_held_elsewhere(
        &self,
        name: &RepositoryName,
        blob: BlobId,
    ) -> Result<bool, BlobError> {
        for range in keys::other_holders(blob, name).into_iter().chain(keys::other_references(blob, name)) {
            if !self.is_empty(range).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anything of v2 is in a repository: it has a manifest, or did when the collector last came, or links a blob.
    pub(crate) async fn is_known(&self, name: &RepositoryName) -> Result<bool, BlobError> {
        let listed = self.meta().get(keys::repository(name)).await?;
        Ok(listed.is_some() || !self.is_empty(keys::links(name)).await?)
    }

    /// The first repository after `last` that has a manifest or links a blob.
    pub(crate) async fn next_repository(
        &self,
        last: Option<&str>,
    ) -> Result<Option<RepositoryName>, BlobError> {
        let links = last.map_or_else(keys::all_links, keys::links_after);
        let (listed, linked) =
            tokio::join!(self.meta().scan(keys::repositories(last), 1), self.meta().scan(links, 1));
        let prefix = keys::repositories(None).start.len();
        let listed =
            listed?.entries.first().and_then(|entry| keys::text_after(&entry.key, prefix)?.parse().ok());
        let linked = linked?.entries.first().and_then(|entry| keys::name_at(&entry.key, prefix));
        Ok(match (listed, linked) {
            (Some(listed), Some(linked)) => Some(std::cmp::min::<RepositoryName>(listed, linked)),
            (listed, linked) => listed.or(linked),
        })
    }
}
