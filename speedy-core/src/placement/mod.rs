//! Where chunks go: groups and their members, the ring that chooses among them, and the master that decides.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod master;
mod topology;

pub use master::{MasterOptions, StoredMaster};
pub use topology::{Group, Member, MemberState, Topology};

use std::ops::Range;

use async_trait::async_trait;

use crate::id::{ChunkId, GroupId, GroupVersion, NodeId};

/// What a chunk node tells the master about itself, every second or so.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Who it is, for ever.
    pub node: NodeId,
    /// The group it was started for.
    pub group: GroupId,
    /// `HOST:PORT` that others dial.
    pub address: String,
    /// The highest chunk id that its store has ever held, so that a restored master allocates above it.
    pub highest_chunk: Option<ChunkId>,
    /// Bytes that its disks can still take.
    pub free_bytes: u64,
    /// Bytes that its disks hold in all.
    pub total_bytes: u64,
}

impl Heartbeat {
    /// A heartbeat of a node with an empty store of unknown size.
    pub fn new(node: NodeId, group: GroupId, address: impl Into<String>) -> Self {
        Self { node, group, address: address.into(), highest_chunk: None, free_bytes: 0, total_bytes: 0 }
    }
}

/// What the master answers to a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HeartbeatReply {
    /// The version that the node's group has now. The node refuses writes that name another one.
    pub version: GroupVersion,
    /// What the node is in its group.
    pub state: MemberState,
}

impl HeartbeatReply {
    /// The answer of these parts.
    pub fn new(version: GroupVersion, state: MemberState) -> Self {
        Self { version, state }
    }
}

/// The master: knows groups and nodes, changes group versions, hands out chunk ids. Never on the data path.
#[async_trait]
pub trait Master: std::fmt::Debug + Send + Sync + 'static {
    /// The groups and their members as they are now.
    async fn topology(&self) -> Result<Topology, MasterError>;

    /// Takes note of a node and tells it its place. A node that a group does not know yet joins it while the group
    /// is not complete.
    ///
    /// # Errors
    /// [`MasterError::Refused`] when the group already has all its members and this node is none of them, or when the
    /// node belongs to another group.
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError>;

    /// Hands out `count` chunk ids of a group that nobody ever had or will get again. The range is on stable storage
    /// before this returns.
    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError>;
}

/// Why the master did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterError {
    /// The request makes no sense to it. Asking again is no use until something is changed by hand.
    #[error("the master refused: {0}")]
    Refused(String),
    /// It can't be reached, or its own metadata store can't. Try again, or another master.
    #[error("the master is unavailable: {0}")]
    Unavailable(String),
}
