//! Where chunks go: groups and their members, the ring that chooses among them, and the master that decides.

mod choice;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod master;
mod membership;
pub(crate) mod penalties;
mod records;
mod restored;
mod ring;
mod topology;

pub use choice::{GroupChooser, PendingWrite};
pub use master::{MasterOptions, StoredMaster};
pub use restored::after_restore;
pub use ring::{Ring, RingError, Successors};
pub use topology::{Backlog, Group, Member, MemberState, Topology};

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
    /// Whether its disks are so full that it should take no new chunks.
    pub is_short_of_room: bool,
    /// Whether its store may have lost chunks that it once had, with a directory that is gone, and has not fetched them
    /// again since.
    pub has_lost: bool,
    /// It has all that a member in sync had which knew this version of the group already, and had finished the writes
    /// of earlier ones. `None` where it has not compared.
    pub caught_up: Option<GroupVersion>,
    /// What it still has to fetch.
    pub backlog: Backlog,
}

impl Heartbeat {
    /// A heartbeat of a node with an empty store of unknown size.
    pub fn new(node: NodeId, group: GroupId, address: impl Into<String>) -> Self {
        Self {
            node,
            group,
            address: address.into(),
            highest_chunk: None,
            free_bytes: 0,
            total_bytes: 0,
            is_short_of_room: false,
            has_lost: false,
            caught_up: None,
            backlog: Backlog::default(),
        }
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

/// What an operator wants of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GroupOrder {
    /// Its share of new chunks, relative to other groups. With 0 it takes none; the last group that takes chunks keeps
    /// them.
    Weight(u32),
    /// Members that make it complete.
    Replicas(u32),
    /// A member is to leave: another node may join, and once the group is complete without this one it is no member any
    /// more.
    Leave(NodeId),
    /// A member that was to leave stays after all.
    Stay(NodeId),
}

/// The master: knows groups and nodes, changes group versions, hands out chunk ids. Never on the data path.
#[async_trait]
pub trait Master: std::fmt::Debug + Send + Sync + 'static {
    /// The groups and their members as they are now.
    async fn topology(&self) -> Result<Topology, MasterError>;

    /// Takes note of a node and tells it its place. A node that a group does not know yet joins it while the group
    /// has fewer members than it should, or in the place of one that was away for long and has to catch up anyway.
    ///
    /// # Errors
    /// [`MasterError::Refused`] when the group already has all its members and this node is none of them, when the
    /// node belongs to another group, or when it holds chunks that the group knows nothing of.
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError>;

    /// Hands out `count` chunk ids of a group that nobody ever had or will get again. The range is on stable storage
    /// before this returns.
    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError>;

    /// Does what an operator wants of a group, and answers the group as it then is. Given again it changes nothing.
    ///
    /// # Errors
    /// [`MasterError::Refused`] when there is no such group or member, or it is too late; always, from a master that
    /// takes no orders.
    async fn order(&self, group: GroupId, order: GroupOrder) -> Result<Group, MasterError> {
        Err(MasterError::Refused(format!("it takes no orders: {order:?} of group {group}")))
    }
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
