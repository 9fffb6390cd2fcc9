use crate::id::{GroupId, GroupVersion, NodeId};

/// What a node is in its group. Only a master changes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// Known, but the group has never been complete with it: it holds nothing yet.
    Joining,
    /// Holds every chunk of the group; counts for writes and serves reads.
    InSync,
    /// In sync when last heard of, but its heartbeats stopped. It may hold everything still; the group takes no
    /// writes until it is back.
    Lost,
}

/// A chunk node as a member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who it is.
    pub node: NodeId,
    /// `HOST:PORT` to dial.
    pub address: String,
    /// What it is in the group.
    pub state: MemberState,
    /// Bytes that its disks can still take, as of its last heartbeat.
    pub free_bytes: u64,
    /// Bytes that its disks hold in all.
    pub total_bytes: u64,
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
    /// Share of new chunks relative to other groups.
    pub weight: u32,
    /// Its members, in the order in which they joined.
    pub members: Vec<Member>,
}

impl Group {
    /// Members that hold every chunk of the group, whether or not they can be reached.
    pub fn holders(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| matches!(member.state, MemberState::InSync | MemberState::Lost))
    }

    /// Members that a write must reach.
    pub fn in_sync(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.state == MemberState::InSync)
    }

    /// Whether all its replicas are in sync: only then does it take chunks.
    pub fn is_complete(&self) -> bool {
        self.replicas > 0 && self.in_sync().count() >= self.replicas as usize
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
