//! How many bytes a repository takes.
//!
//! Each link is kept under two keys, by repository and by blob, which are written and removed together in the
//! transactions that link and unlink. So the answer is exact at any time without a counter that all pushes would
//! have to change: it reads the links of the repository, and of each blob the nearest links of other repositories,
//! however many those are. Others' repositories are not read.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use speedy_core::blob::BlobError;
use speedy_core::id::BlobId;

use super::records::{LinkRecord, decode};
use super::{Repositories, keys};
use crate::registry::names::RepositoryName;

/// Links read at once.
const PAGE: usize = 1000;
/// Blobs of which it is looked at once who else has them.
const AT_ONCE: usize = 16;

/// The blobs that a repository links, each counted once however many digests lead to it: layers, configs, and what was
/// pushed and no manifest names yet. Manifests themselves are metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub logical: u64,
    /// Those of them that other repositories link too.
    pub shared: u64,
    /// Those of them that no other repository links: what goes when the repository goes.
    pub unique: u64,
}

impl Repositories {
    /// What a repository takes. It takes time in proportion to the repository. Changes that are made meanwhile may be
    /// in or not.
    pub(crate) async fn usage(&self, name: &RepositoryName) -> Result<Usage, BlobError> {
        let (mut sizes, mut rest) = (HashMap::<BlobId, u64>::new(), Some(keys::links(name)));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for entry in &page.entries {
                let link: LinkRecord = decode(entry)?;
                if let Ok(blob) = BlobId::try_from(&link.blob[..]) {
                    sizes.insert(blob, link.size);
                }
            }
            rest = page.next;
        }
        let shares = stream::iter(sizes)
            .map(|(blob, size)| async move { Ok::<_, BlobError>((size, self.is_shared(name, blob).await?)) });
        let add = |mut usage: Usage, (size, is_shared)| async move {
            usage.blobs += 1;
            usage.logical += size;
            *(if is_shared { &mut usage.shared } else { &mut usage.unique }) += size;
            Ok(usage)
        };
        shares.buffer_unordered(AT_ONCE).try_fold(Usage::default(), add).await
    }

    async fn is_shared(&self, name: &RepositoryName, blob: BlobId) -> Result<bool, BlobError> {
        for range in keys::other_holders(blob, name) {
            if !self.meta().scan(range, 1).await?.entries.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
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
