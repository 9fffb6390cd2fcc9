use std::ops::Range;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{Blocks, ChunkStat};
use crate::id::{ChunkId, FileId, GroupId, Owner};
use crate::payload::Payload;

/// Where a listing of all chunks goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListCursor {
    /// The group.
    pub group: GroupId,
    /// The last chunk of it that was listed; `None` for its beginning.
    pub after: Option<ChunkId>,
}

/// Part of a listing of all chunks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FragmentPage {
    /// Chunks, each with the group that holds it.
    pub chunks: Vec<(GroupId, ChunkStat)>,
    /// Where the listing goes on; `None` at its end.
    pub next: Option<ListCursor>,
}

/// Writes, reads and deletes fragments: replicated, placed, verified. A blob store stands on this and on a
/// metadata store.
#[async_trait]
pub trait Fragments: std::fmt::Debug + Send + Sync + 'static {
    /// Stores a fragment and answers where. It is on stable storage on every in-sync replica when this returns.
    /// A failed write may leave chunks behind; they carry `owner` and are found by [`list`](Self::list).
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError>;

    /// As [`write`](Self::write), to this group and no other, whatever its weight: for moving chunks.
    async fn write_in(&self, group: GroupId, owner: Owner, payload: Payload)
    -> Result<FileId, FragmentError>;

    /// Reads the whole blocks that hold `range` of a chunk, from any replica that has them, changing to another
    /// when one fails. See [`ChunkNode::read`](super::ChunkNode::read).
    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError>;

    /// Deletes a chunk from every replica. Returns once all have confirmed it; deleting again is no error.
    async fn delete(&self, file: FileId) -> Result<(), FragmentError>;

    /// Up to about `limit` chunks of all groups, in order of group and id; `None` begins.
    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError>;
}

/// Why a fragment could not be written, read or deleted, by what the caller does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// No replica has the chunk. If a layout names it, the layout may have moved: load it again, once.
    #[error("chunk {0} is on no replica of its group")]
    NotFound(FileId),
    /// Every replica that could be asked holds it damaged.
    #[error("chunk {file} is damaged on every replica: {reason}")]
    Damaged {
        /// The chunk.
        file: FileId,
        /// What is wrong with it.
        reason: String,
    },
    /// The request makes no sense: a bad length or range.
    #[error("invalid fragment request: {0}")]
    Invalid(String),
    /// No group has room.
    #[error("no room for new chunks: {0}")]
    Full(String),
    /// No complete group, or no replica that answers. Try again later.
    #[error("chunk storage is unavailable: {0}")]
    Unavailable(String),
}
