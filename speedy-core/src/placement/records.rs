//! What a master keeps in the metadata store, under `m/`. Values are protocol buffers, so that neighbouring versions
//! read each other's.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Group, Member, MemberState};
use crate::id::{GroupId, GroupVersion, NodeId};
use crate::meta::KeyRange;

/// `m/r`: rises with each change of any group. Its entry's version tells other masters that they must look again.
pub(super) const REVISION: Bytes = Bytes::from_static(b"m/r");

/// `m/g/` group: the record of a group.
pub(super) fn group_key(group: GroupId) -> Bytes {
    numbered(b"m/g/", group)
}

/// All groups.
pub(super) fn groups() -> KeyRange {
    KeyRange::prefix(&b"m/g/"[..])
}

/// `m/i/` group: the chunk ids that are handed out.
pub(super) fn ids_key(group: GroupId) -> Bytes {
    numbered(b"m/i/", group)
}

/// `m/s/` node: when a node was last heard of, by any master.
pub(super) fn seen_key(node: NodeId) -> Bytes {
    let mut key = BytesMut::from(&b"m/s/"[..]);
    key.put_slice(node.as_bytes());
    key.freeze()
}

/// All nodes heard of.
pub(super) fn all_seen() -> KeyRange {
    KeyRange::prefix(&b"m/s/"[..])
}

/// The node that a key of [`seen_key`] names.
pub(super) fn node_of_seen(key: &[u8]) -> Option<NodeId> {
    NodeId::try_from(key.get(4..)?).ok()
}

fn numbered(prefix: &[u8], group: GroupId) -> Bytes {
    let mut key = BytesMut::from(prefix);
    key.put_u32(group.get());
    key.freeze()
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RevisionRecord {
    #[prost(uint64, tag = "1")]
    pub revision: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GroupRecord {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(uint64, tag = "2")]
    pub version: u64,
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    #[prost(uint32, tag = "4")]
    pub weight: u32,
    #[prost(message, repeated, tag = "5")]
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub node: Bytes,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(enumeration = "StateRecord", tag = "3")]
    pub state: i32,
    #[prost(uint64, tag = "4")]
    pub since: u64,
    #[prost(bool, tag = "5")]
    pub is_behind: bool,
    #[prost(bool, tag = "6")]
    pub is_leaving: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum StateRecord {
    /// Also what a state of a later version reads as: such a member counts for nothing here.
    Joining = 0,
    InSync = 1,
    Lost = 2,
    CatchingUp = 3,
    Settling = 4,
    ReadOnly = 5,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct IdsRecord {
    /// The lowest chunk id that was never handed out.
    #[prost(uint64, tag = "1")]
    pub next: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SeenRecord {
    /// Milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    #[prost(uint64, optional, tag = "2")]
    pub highest_chunk: Option<u64>,
    #[prost(uint64, tag = "3")]
    pub free_bytes: u64,
    #[prost(uint64, tag = "4")]
    pub total_bytes: u64,
    #[prost(uint64, tag = "5")]
    pub backlog_chunks: u64,
    #[prost(uint64, tag = "6")]
    pub backlog_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub backlog_rate: u64,
    /// What it says that others dial. Empty in records of earlier versions.
    #[prost(string, tag = "8")]
    pub address: String,
}

impl From<&Group> for GroupRecord {
    fn from(group: &Group) -> Self {
        let member = |member: &Member| MemberRecord {
            node: Bytes::copy_from_slice(member.node.as_bytes()),
            address: member.address.clone(),
            state: match member.state {
                MemberState::Joining => StateRecord::Joining,
                MemberState::InSync => StateRecord::InSync,
                MemberState::Lost => StateRecord::Lost,
                MemberState::CatchingUp => StateRecord::CatchingUp,
                MemberState::Settling => StateRecord::Settling,
                MemberState::ReadOnly => StateRecord::ReadOnly,
            }
            .into(),
            since: member.since.get(),
            is_behind: member.is_behind,
            is_leaving: member.is_leaving,
        };
        Self {
            id: group.id.get(),
            version: group.version.get(),
            replicas: group.replicas,
            weight: group.weight,
            members: group.members.iter().map(member).collect(),
        }
    }
}

impl GroupRecord {
    /// The group, with the sizes of its members' disks unknown.
    pub(super) fn group(&self) -> Result<Group, crate::id::ParseIdError> {
        let member = |record: &MemberRecord| {
            let state = match record.state() {
                StateRecord::Joining => MemberState::Joining,
                StateRecord::InSync => MemberState::InSync,
                StateRecord::Lost => MemberState::Lost,
                StateRecord::CatchingUp => MemberState::CatchingUp,
                StateRecord::Settling => MemberState::Settling,
                StateRecord::ReadOnly => MemberState::ReadOnly,
            };
            let mut member = Member::new(NodeId::try_from(&record.node[..])?, record.address.clone(), state);
            member.since = GroupVersion::new(record.since);
            (member.is_behind, member.is_leaving) = (record.is_behind, record.is_leaving);
            Ok(member)
        };
        Ok(Group {
            id: GroupId::new(self.id),
            version: GroupVersion::new(self.version),
            replicas: self.replicas,
            weight: self.weight,
            members: self.members.iter().map(member).collect::<Result<_, _>>()?,
        })
    }
}
