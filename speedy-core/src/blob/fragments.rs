use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::checksum::Crc32c;
use crate::id::{ChunkId, FileId, GroupId, Owner};
use crate::replicate::{Blocks, ChunkStat, Frames};

/// One slice of a blob: where it stands, which chunk holds it, and the checksum of the whole of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Offset of its first byte in the blob.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The chunk that holds it.
    pub file: FileId,
    /// CRC-32C of all its bytes.
    pub checksum: u32,
}

/// The bytes of a fragment before it is written: runs as they came from the source, not copied together. A clone
/// shares them, so a write can be tried again.
#[derive(Clone, Debug)]
pub struct Payload {
    frames: Vec<Bytes>,
    length: u64,
    checksum: u32,
}

impl Payload {
    /// The payload of these runs; empty ones are left out.
    pub fn new(mut frames: Vec<Bytes>) -> Self {
        frames.retain(|frame| !frame.is_empty());
        let mut crc = Crc32c::new();
        for frame in &frames {
            crc.update(frame);
        }
        Self::with_checksum(frames, crc.value())
    }

    /// The payload of these runs, whose CRC-32C the caller knows already.
    pub fn with_checksum(frames: Vec<Bytes>, checksum: u32) -> Self {
        let length = frames.iter().map(|frame| frame.len() as u64).sum();
        Self { frames, length, checksum }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// CRC-32C of all bytes.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The runs in order.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// The runs as a stream, for one try at a write.
    pub fn stream(&self) -> Frames {
        stream::iter(self.frames.clone()).map(Ok).boxed()
    }
}

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

    /// Reads the whole blocks that hold `range` of a chunk, from any replica that has them, changing to another
    /// when one fails. See [`ChunkNode::read`](crate::replicate::ChunkNode::read).
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
