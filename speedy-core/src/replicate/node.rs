use std::fmt;
use std::ops::Range;

use async_trait::async_trait;

use super::BlockStream;
use crate::id::{ChunkId, GroupVersion, NodeId, Owner};
use crate::payload::Frames;
use crate::ranges::RangeDigest;

/// The longest chunk: 64 MiB.
pub const MAX_CHUNK_LEN: u64 = 64 << 20;

/// What goes before the frames of a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WriteHeader {
    /// The chunk's id.
    pub id: ChunkId,
    /// Whom it is written for.
    pub owner: Owner,
    /// Its length in bytes: 1 to 64 MiB. The frames carry exactly as many.
    pub length: u64,
    /// CRC-32C of all its bytes. A node that received others refuses to commit them.
    pub checksum: u32,
    /// The version of the group that the writer knows. A node with another one refuses.
    pub version: GroupVersion,
    /// Who else is to store it: the node passes the frames on to the first of these, that one to the second, and so on.
    pub chain: Vec<Link>,
    /// Whether it replaces a copy that is damaged there. A copy that turns out to be whole stays as it is.
    pub heals: bool,
}

/// A node further down a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Who it is.
    pub node: NodeId,
    /// Where it is dialled.
    pub address: String,
    /// Whether nobody waits for it: it gets the frames as fast as it takes them, and what becomes of them there does
    /// not matter to the write. Such links come last.
    pub is_optional: bool,
}

impl Link {
    /// A node that must have the chunk before the write is answered.
    pub fn new(node: NodeId, address: impl Into<String>) -> Self {
        Self { node, address: address.into(), is_optional: false }
    }

    /// The same, without waiting for it.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node, self.address)
    }
}

impl WriteHeader {
    /// The header of a chunk.
    pub fn new(id: ChunkId, owner: Owner, length: u64, checksum: u32, version: GroupVersion) -> Self {
        Self { id, owner, length, checksum, version, chain: Vec::new(), heals: false }
    }

    /// The same, to be passed on along a chain.
    #[must_use]
    pub fn through(self, chain: Vec<Link>) -> Self {
        Self { chain, ..self }
    }

    /// The same, to replace a damaged copy.
    #[must_use]
    pub fn healing(self) -> Self {
        Self { heals: true, ..self }
    }
}

/// What a node knows of a chunk without reading its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChunkStat {
    /// The chunk's id.
    pub id: ChunkId,
    /// Whom it was written for.
    pub owner: Owner,
    /// Its length in bytes.
    pub length: u64,
    /// CRC-32C of all its bytes.
    pub checksum: u32,
}

impl ChunkStat {
    /// What is known of a chunk.
    pub fn new(id: ChunkId, owner: Owner, length: u64, checksum: u32) -> Self {
        Self { id, owner, length, checksum }
    }
}

/// Part of a node's list of chunks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkPage {
    /// Live chunks in order of their ids.
    pub chunks: Vec<ChunkStat>,
    /// Whether there are more, after the last of these.
    pub more: bool,
}

/// Summaries of all that a node holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// The version of the group that the node knew before it began to sum up: all writes that it has confirmed under
    /// earlier ones are in the sums. `None` where it knows none yet.
    pub version: Option<GroupVersion>,
    /// In order of the ranges; those of which it holds nothing are left out.
    pub digests: Vec<RangeDigest>,
}

/// All that a node knows of one range of ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeEntries {
    /// The chunks that it holds with their lengths, in order.
    pub chunks: Vec<(ChunkId, u64)>,
    /// The ids that were deleted, in order.
    pub deleted: Vec<ChunkId>,
}

/// A node that stores chunks: a store in this process, or one behind a network.
///
/// # Retries
/// Every call can be made again. A write of the same bytes under the same id succeeds again; one of other bytes is
/// refused with [`NodeError::Conflict`]. An id that was deleted is never accepted again.
///
/// # Cancellation
/// A write whose future is dropped, or whose frames end early, leaves nothing that can be read.
#[async_trait]
pub trait ChunkNode: std::fmt::Debug + Send + Sync + 'static {
    /// Stores a chunk, here and on the nodes of the header's chain. When this returns it is on stable storage on so many
    /// nodes as it answers: this one, and those of the chain, if this one [passes frames on](super::RelayNode). One that
    /// does not stores the chunk and answers 1.
    async fn write(&self, header: WriteHeader, frames: Frames) -> Result<u32, NodeError>;

    /// Reads the whole blocks that hold `range` of a chunk, which must be inside it and not empty. The stream
    /// carries blocks in order; the caller verifies them and cuts off what it did not ask for.
    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError>;

    /// What the node knows of a chunk.
    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError>;

    /// Deletes a chunk and leaves a tombstone, durably, also where the id is unknown.
    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError>;

    /// Up to `limit` live chunks with ids above `after`.
    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError>;

    /// Summaries of all that the node holds, for comparing it with another. Damaged chunks are left out.
    async fn holdings(&self) -> Result<Holdings, NodeError>;

    /// All that the node knows of one range of ids, for copying what another lacks. Damaged chunks are left out.
    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError>;
}

/// Why a chunk node did not do what it was asked, by what the caller does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It has no such chunk. Another replica may.
    #[error("chunk {0} is not here")]
    NotFound(ChunkId),
    /// The chunk was deleted; the id is spent.
    #[error("chunk {0} was deleted")]
    Deleted(ChunkId),
    /// The id holds other bytes. Take a fresh id.
    #[error("chunk {0} exists with other content")]
    Conflict(ChunkId),
    /// The chunk is damaged here. Read another replica, and heal this one.
    #[error("chunk {id} is damaged: {reason}")]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        reason: String,
    },
    /// The group has another version here. Learn the new one, then try again.
    #[error("the group has version {current} here")]
    WrongVersion {
        /// The version that the node knows.
        current: GroupVersion,
    },
    /// The frames were not what the header announced: too few, too many, another checksum, or they broke off.
    #[error("bad chunk body: {0}")]
    Body(String),
    /// The request makes no sense: a bad length or range.
    #[error("invalid chunk request: {0}")]
    Invalid(String),
    /// No room. Choose another group; reads go on.
    #[error("the node's disks are full: {0}")]
    Full(String),
    /// A node further down the chain said so; what this one stored of the chunk may or may not be there.
    #[error("{link}: {error}")]
    Downstream {
        /// The node.
        link: Link,
        /// What it said.
        error: Box<NodeError>,
    },
    /// It can't be reached, is overloaded, or a disk failed under the request. Try another replica, or later.
    #[error("the chunk node is unavailable: {0}")]
    Unavailable(String),
}
