//! What another member has that this node lacks.

use std::collections::{BTreeMap, HashSet};

use futures_util::stream::{self, StreamExt};
use tokio::time::sleep;

use super::Inner;
use crate::id::{ChunkId, GroupVersion};
use crate::placement::Member;
use crate::ranges::RangeDigest;
use crate::replicate::{NodeError, RangeEntries};

/// What a node lacks of one range.
#[derive(Debug, Default)]
struct Missing {
    chunks: Vec<(ChunkId, u64)>,
    deleted: Vec<ChunkId>,
}

impl Inner {
    /// Compares with a member and fetches what is missing. Answers the version from before the comparison, once the
    /// node has all that the member held.
    ///
    /// `in_sync`: this node misses at most what is on its way, so whatever is found gets time to come by itself, and
    /// the other's version does not matter.
    ///
    /// # Errors
    /// When one of the two can't be asked, when something could not be fetched, or when the member does not know the
    /// version that this node knows: writes of an earlier one might be under way there.
    pub(super) async fn compare(&self, member: &Member, in_sync: bool) -> Result<GroupVersion, NodeError> {
        let peer = self.nodes.node(member);
        let ours = self.local.holdings().await?;
        let version = ours.version.ok_or_else(|| NodeError::Unavailable("no version is known yet".into()))?;
        let theirs = self.within(peer.holdings()).await?;
        let known = theirs.version.unwrap_or(GroupVersion::INITIAL);
        if !in_sync && known < version {
            return Err(NodeError::WrongVersion { current: known });
        }
        self.figures.begin();
        let mut work = Vec::new();
        for range in differing(&ours.digests, &theirs.digests) {
            let missing = self.missing(range, &self.within(peer.entries(range)).await?).await?;
            work.push((range, missing));
        }
        if in_sync && work.iter().any(|(_, missing)| missing.count() > 0) {
            sleep(self.options.grace).await;
            for (range, missing) in &mut work {
                let theirs = RangeEntries {
                    chunks: std::mem::take(&mut missing.chunks),
                    deleted: std::mem::take(&mut missing.deleted),
                };
                *missing = self.missing(*range, &theirs).await?;
            }
        }
        for (_, missing) in &work {
            let bytes = missing.chunks.iter().map(|(_, length)| length).sum();
            self.figures.missing(missing.count(), bytes);
        }
        let mut fetched = 0;
        let mut failure = None;
        for (_, missing) in work {
            // First, so that what is deleted by now is not fetched.
            for id in missing.deleted {
                self.take_delete(id).await?;
                fetched += 1;
            }
            let fetches = missing.chunks.into_iter().map(|(id, length)| {
                let peer = &peer;
                async move { (id, self.fetch(peer, member, id, length).await) }
            });
            let mut fetches = stream::iter(fetches).buffer_unordered(self.options.concurrency);
            while let Some((id, result)) = fetches.next().await {
                match result {
                    Ok(()) => fetched += 1,
                    // The others are fetched all the same.
                    Err(error) => {
                        tracing::warn!(chunk = %id, %error, "a chunk that is missing here could not be fetched");
                        failure = Some(error);
                    }
                }
            }
        }
        self.tell(fetched, member);
        match failure {
            Some(error) => Err(error),
            None => {
                self.figures.compared();
                Ok(version)
            }
        }
    }

    /// What of `theirs` this node lacks.
    async fn missing(&self, range: u64, theirs: &RangeEntries) -> Result<Missing, NodeError> {
        let ours = self.local.entries(range).await?;
        let deleted: HashSet<ChunkId> = ours.deleted.into_iter().collect();
        let held: HashSet<ChunkId> = ours.chunks.into_iter().map(|(id, _)| id).collect();
        let chunks = theirs.chunks.iter().filter(|(id, _)| !held.contains(id) && !deleted.contains(id));
        Ok(Missing {
            chunks: chunks.copied().collect(),
            deleted: theirs.deleted.iter().copied().filter(|id| !deleted.contains(id)).collect(),
        })
    }
}

impl Missing {
    fn count(&self) -> u64 {
        (self.chunks.len() + self.deleted.len()) as u64
    }
}

/// The ranges of which the other has something that is not here, or may have.
fn differing(ours: &[RangeDigest], theirs: &[RangeDigest]) -> Vec<u64> {
    let ours: BTreeMap<u64, &RangeDigest> = ours.iter().map(|digest| (digest.range, digest)).collect();
    let differs = |theirs: &&RangeDigest| ours.get(&theirs.range).is_none_or(|ours| **ours != **theirs);
    theirs.iter().filter(differs).map(|theirs| theirs.range).collect()
}
