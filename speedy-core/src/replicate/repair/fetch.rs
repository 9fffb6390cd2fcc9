//! One chunk from another member.

use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;

use super::Inner;
use crate::id::{ChunkId, GroupVersion};
use crate::payload::{BodyError, Frames};
use crate::placement::Member;
use crate::replicate::{BlockStream, ChunkNode, ChunkStat, NodeError, WriteHeader};
use crate::sync::Arc;

/// How often a change is tried under the version of the moment.
const TRIES: usize = 5;

impl Inner {
    /// Fetches a chunk from a member, or from another one where it is damaged there.
    pub(super) async fn fetch(
        &self,
        peer: &Arc<dyn ChunkNode>,
        member: &Member,
        id: ChunkId,
        length: u64,
    ) -> Result<(), NodeError> {
        self.wait_for_turn(length).await;
        let mut result = self.fetch_from(peer, id).await;
        if !matches!(result, Ok(()) | Err(NodeError::Deleted(_) | NodeError::Conflict(_))) {
            let topology = self.routes.current();
            let others = topology.group(self.group).into_iter().flat_map(|group| group.in_sync());
            for other in others.filter(|other| other.node != member.node && other.node != self.node) {
                result = self.fetch_from(&self.nodes.node(other), id).await;
                if result.is_ok() {
                    break;
                }
            }
        }
        if let Err(NodeError::Deleted(_)) = result {
            // Deleted there since it was listed, or here.
            result = self.take_delete(id).await;
        }
        result.inspect(|()| self.figures.settled(length))
    }

    async fn fetch_from(&self, peer: &Arc<dyn ChunkNode>, id: ChunkId) -> Result<(), NodeError> {
        let stat = self.within(peer.stat(id)).await?;
        let (mut heals, mut version) = (false, self.version());
        for _ in 0..TRIES {
            let blocks = self.within(peer.read(id, 0..stat.length)).await?;
            let header = WriteHeader::new(id, stat.owner, stat.length, stat.checksum, version);
            let header = if heals { header.healing() } else { header };
            match self.local.write(header, self.frames(blocks, stat)).await {
                Ok(_) => {
                    self.figures.fetched(stat.length, heals);
                    return Ok(());
                }
                Err(NodeError::Damaged { .. }) if !heals => heals = true,
                Err(NodeError::WrongVersion { current }) => version = current,
                Err(NodeError::Conflict(id)) => {
                    tracing::error!(
                        chunk = %id, group = %self.group,
                        "this node and another hold different bytes under one id; compare both with speedy store dump: \
                         was the master's metadata restored from an old backup?"
                    );
                    return Err(NodeError::Conflict(id));
                }
                Err(error) => return Err(error),
            }
        }
        Err(NodeError::Unavailable("the version of the group keeps changing".into()))
    }

    /// Verified bytes as frames of a write. Where the other stalls they break off.
    fn frames(&self, blocks: BlockStream, stat: ChunkStat) -> Frames {
        let limit = self.options.patience;
        let frames = stream::unfold((blocks, 0), move |(mut blocks, at)| async move {
            if at >= stat.length {
                return None;
            }
            let failed = |why: String| Err(BodyError(why));
            let frame = match timeout(limit, blocks.next()).await {
                Err(_) => failed(format!("no progress for {limit:?}")),
                Ok(None) => failed(format!("the read ended at byte {at} of {}", stat.length)),
                Ok(Some(Err(error))) => failed(error.to_string()),
                Ok(Some(Ok(run))) if run.offset() != at => failed("blocks out of order came".into()),
                Ok(Some(Ok(run))) => run.into_bytes().or_else(|error| failed(error.to_string())),
            };
            // After an error nothing more is asked for.
            let next = frame.as_ref().map_or(stat.length, |frame| at + frame.len() as u64);
            Some((frame, (blocks, next)))
        });
        frames.boxed()
    }

    /// Takes over a delete.
    pub(super) async fn take_delete(&self, id: ChunkId) -> Result<(), NodeError> {
        let mut version = self.version();
        for _ in 0..TRIES {
            match self.local.delete(id, version).await {
                Ok(()) | Err(NodeError::Deleted(_)) => {
                    self.figures.deleted();
                    self.figures.settled(0);
                    return Ok(());
                }
                Err(NodeError::WrongVersion { current }) => version = current,
                Err(error) => return Err(error),
            }
        }
        Err(NodeError::Unavailable("the version of the group keeps changing".into()))
    }

    /// The group's version as far as this node has heard. Its own store says so if it knows better.
    fn version(&self) -> GroupVersion {
        self.routes.current().group(self.group).map_or(GroupVersion::INITIAL, |group| group.version)
    }
}
