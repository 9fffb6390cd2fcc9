//! How many bytes repositories take.
//!
//! There is no counter that all pushes would have to change. What a repository holds is found from its own entries, and
//! of each blob whoever else holds it by the nearest entries of others, however many those are. Others' repositories are
//! not read.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use speedy_core::blob::BlobError;
use speedy_core::id::BlobId;

use super::Repositories;
use super::names::RepositoryName;
use super::v1::{Images, Reached};

/// Blobs of which it is looked at once who else has them.
const AT_ONCE: usize = 16;

/// The blobs that something of a repository holds, each counted once: those that it links, those that its manifests
/// refer to, those that are its manifests (the others are metadata), and the layers of the images of v1 that it lists or
/// tags and of those that they are built on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub logical: u64,
    /// Those of them that another repository holds too. The list of a repository of v1 alone keeps nothing.
    pub shared: u64,
    /// Those of them that no other repository holds: what is freed in the end when the repository goes.
    pub unique: u64,
}

/// Who else holds a blob.
enum Others {
    Repositories,
    /// Images of v1, which tags of other repositories may reach, or not.
    Images,
    Nobody,
}

/// What repositories take. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Usages {
    repositories: Repositories,
    images: Images,
}

impl Usages {
    pub(crate) fn new(repositories: Repositories) -> Self {
        Self { images: Images::new(repositories.clone()), repositories }
    }

    /// What a repository takes; `None` where there is none of this name. It takes time in proportion to the repository.
    /// Changes that are made meanwhile may be in or not.
    pub(crate) async fn of(&self, name: &RepositoryName) -> Result<Option<Usage>, BlobError> {
        let (blobs, layers) =
            tokio::try_join!(self.repositories.held_blobs(name), self.images.held_layers(name))?;
        let mut held = blobs;
        held.extend(layers);
        if held.is_empty() && !self.repositories.is_known(name).await? && !self.images.is_known(name).await? {
            return Ok(None);
        }
        let others = stream::iter(held).map(|(blob, size)| async move {
            Ok::<_, BlobError>((blob, size, self.others(name, blob).await?))
        });
        let mut others = others.buffer_unordered(AT_ONCE);
        let (mut usage, mut known) = (Usage::default(), Reached::default());
        while let Some((blob, size, others)) = others.try_next().await? {
            let is_shared = match others {
                Others::Repositories => true,
                Others::Nobody => false,
                Others::Images => self.images.is_held_elsewhere(name, blob, &mut known).await?,
            };
            usage.blobs += 1;
            usage.logical += size;
            *(if is_shared { &mut usage.shared } else { &mut usage.unique }) += size;
        }
        Ok(Some(usage))
    }

    async fn others(&self, name: &RepositoryName, blob: BlobId) -> Result<Others, BlobError> {
        if self.repositories.is_held_elsewhere(name, blob).await? {
            return Ok(Others::Repositories);
        }
        Ok(if self.images.hold(blob).await? { Others::Images } else { Others::Nobody })
    }

    /// The first repository after `last`, in the order of names.
    pub(crate) async fn next_repository(
        &self,
        last: Option<&str>,
    ) -> Result<Option<RepositoryName>, BlobError> {
        let (of_v2, of_v1) =
            tokio::try_join!(self.repositories.next_repository(last), self.images.next_repository(last))?;
        Ok([of_v2, of_v1].into_iter().flatten().min())
    }
}
