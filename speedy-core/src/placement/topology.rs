use std::fmt;

use crate::id::{GroupId, GroupVersion, NodeId};

/// What a node is in its group. Only a master changes it.
///
/// ```text
/// joining ──► in sync ◄──────────────── settling
///              │  ▲  ╲                     ▲
///              │  │   read only            │ has all that was there when it came back
///              ▼  │                        │
///             lost ──────────────────► catching up
///                   the group took chunks
///                   without it
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// Known, but the group has never been complete with it: it holds nothing yet.
    Joining,
    /// Holds every chunk of the group; counts for writes and serves reads.
    InSync,
    /// Holds every chunk, serves reads and takes deletes; its disks are so full that the group takes no new chunks.
    ReadOnly,
    /// Misses chunks, which it is fetching from the others. New ones are passed on to it, and nobody waits for it.
    CatchingUp,
    /// Has all that was there when it began to; new chunks are acknowledged only when it has them. Once it has found
    /// nothing missing from before either, it is in sync.
    Settling,
    /// Its heartbeats stopped.
    Lost,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::InSync => "in sync",
            Self::ReadOnly => "read-only",
            Self::CatchingUp => "catching up",
            Self::Settling => "settling",
            Self::Lost => "lost",
        })
    }
}

/// What a member still has to fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Chunks and deletes.
    pub chunks: u64,
    /// Bytes of those chunks.
    pub bytes: u64,
    /// Bytes a second at which they come now.
    pub bytes_per_second: u64,
}

/// A chunk node as a member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Who it is.
    pub node: NodeId,
    /// `HOST:PORT` to dial.
    pub address: String,
    /// What it is in the group.
    pub state: MemberState,
    /// The group's version when it became that.
    pub since: GroupVersion,
    /// Whether chunks may have been acknowledged that it lacks.
    pub is_behind: bool,
    /// Whether it is to leave once the group is complete without it.
    pub is_leaving: bool,
    /// Bytes that its disks can still take, as of its last heartbeat.
    pub free_bytes: u64,
    /// Bytes that its disks hold in all.
    pub total_bytes: u64,
    /// What it still has to fetch, as of its last heartbeat.
    pub backlog: Backlog,
}

impl Member {
    /// A member of which no more is known.
    pub fn new(node: NodeId, address: impl Into<String>, state: MemberState) -> Self {
        Self {
            node,
            address: address.into(),
            state,
            since: GroupVersion::INITIAL,
            is_behind: matches!(state, MemberState::CatchingUp | MemberState::Settling),
            is_leaving: false,
            free_bytes: 0,
            total_bytes: 0,
            backlog: Backlog::default(),
        }
    }

    /// Whether it holds every chunk of the group and was there when last looked.
    pub fn is_in_sync(&self) -> bool {
        matches!(self.state, MemberState::InSync | MemberState::ReadOnly)
    }
}

/// The chunk nodes that hold the same chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Which one.
    pub id: GroupId,
    /// Rises with each change of members or of their states.
    pub version: GroupVersion,
    /// Members that make it complete.
    pub replicas: u32,
    /// Share of new chunks relative to other groups; with 0 it takes none.
    pub weight: u32,
    /// Its members, in the order in which they joined.
    pub members: Vec<Member>,
}

impl Group {
    /// Members that hold every chunk of the group, whether or not they can be reached.
    pub fn holders(&self) -> impl Iterator<Item = &Member> {
        let is_lost = |member: &Member| member.state == MemberState::Lost && !member.is_behind;
        self.members.iter().filter(move |member| member.is_in_sync() || is_lost(member))
    }

    /// Members that hold every chunk of the group and were there when last looked.
    pub fn in_sync(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_in_sync())
    }

    /// Members that a write or a delete must reach before it is acknowledged.
    pub fn recipients(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_in_sync() || member.state == MemberState::Settling)
    }

    /// Members that new chunks are passed on to without waiting for them.
    pub fn catching_up(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::CatchingUp)
    }

    /// Members in sync below which the group takes no chunks: more than half of its replicas.
    pub fn min_in_sync(&self) -> usize {
        self.replicas as usize / 2 + 1
    }

    /// Whether all its replicas are in sync.
    pub fn is_complete(&self) -> bool {
        self.replicas > 0 && self.in_sync().count() >= self.replicas as usize
    }

    /// Whether it takes chunks: enough of its members are in sync, and none of them is short of room.
    pub fn is_writable(&self) -> bool {
        let has_room = self.members.iter().all(|member| member.state != MemberState::ReadOnly);
        has_room && self.in_sync().count() >= self.min_in_sync()
    }

    /// Whether an operator has drained it: it keeps what it has, and the ring gives it nothing new.
    pub fn is_drained(&self) -> bool {
        self.weight == 0
    }

    /// Whether the ring gives it new chunks now: it can take them, and is not drained.
    pub fn takes_new_chunks(&self) -> bool {
        !self.is_drained() && self.is_writable()
    }

    /// The member that a node is.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }
}

/// The groups and their members at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// Rises with each change; of two topologies of one cluster the higher is newer.
    pub revision: u64,
    /// The groups in order of their ids.
    pub groups: Vec<Group>,
}

impl Topology {
    /// The group of this id.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        let at = self.groups.binary_search_by_key(&id, |group| group.id).ok()?;
        self.groups.get(at)
    }
}
