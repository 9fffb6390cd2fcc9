//! The master's rows in the metadata store. `docs/meta.md` specifies them. Values are protocol buffers, so that they
//! can grow: an older master ignores a field that it does not know.

use bytes::Bytes;
use prost::Message;

use crate::id::{GroupId, GroupVersion, NodeId};
use crate::meta::Entry;
use crate::placement::{Group, MasterError, Member, MemberState};

/// Rises with every change of groups or members. Every such change checks it, so that they come one after the other.
pub(super) const REVISION_KEY: &[u8] = b"m/revision";
/// Before every [`group_key`].
pub(super) const GROUP_PREFIX: &[u8] = b"m/group/";

/// The row of a group and its members.
pub(super) fn group_key(group: GroupId) -> Bytes {
    // Fixed width keeps the order of keys that of ids.
    format!("m/group/{:08x}", group.get()).into()
}

/// The row of a group's next chunk id.
pub(super) fn chunks_key(group: GroupId) -> Bytes {
    format!("m/chunks/{:08x}", group.get()).into()
}

/// The row that is there while some master doubts that a node is alive.
pub(super) fn doubt_key(node: NodeId) -> Bytes {
    format!("m/doubt/{node}").into()
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RevisionRecord {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChunksRecord {
    /// The lowest id that was never handed out.
    #[prost(uint64, tag = "1")]
    pub(super) next: u64,
}

#[derive(Clone, PartialEq, Message)]
struct GroupRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(uint32, tag = "3")]
    replicas: u32,
    #[prost(uint32, tag = "4")]
    weight: u32,
    #[prost(message, repeated, tag = "5")]
    members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberRecord {
    #[prost(bytes = "vec", tag = "1")]
    node: Vec<u8>,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(enumeration = "StateRecord", tag = "3")]
    state: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
enum StateRecord {
    Unspecified = 0,
    Joining = 1,
    InSync = 2,
    Lost = 3,
}

/// A row's content.
pub(super) fn decode<M: Message + Default>(entry: &Entry) -> Result<M, MasterError> {
    M::decode(entry.value.clone()).map_err(|error| unreadable(&entry.key, &error))
}

fn unreadable(key: &[u8], reason: &dyn std::fmt::Display) -> MasterError {
    MasterError::Unavailable(format!(
        "its row {} in the metadata store can't be read: {reason}; run the version that wrote it, or a later one",
        key.escape_ascii()
    ))
}

/// The row of a group. Free space is not in it: it changes with every heartbeat.
pub(super) fn encode_group(group: &Group) -> Bytes {
    let member = |member: &Member| {
        let state = match member.state {
            MemberState::Joining => StateRecord::Joining,
            MemberState::InSync => StateRecord::InSync,
            MemberState::Lost => StateRecord::Lost,
        };
        let node = member.node.as_bytes().to_vec();
        MemberRecord { node, address: member.address.clone(), state: state.into() }
    };
    let record = GroupRecord {
        id: group.id.get(),
        version: group.version.get(),
        replicas: group.replicas,
        weight: group.weight,
        members: group.members.iter().map(member).collect(),
    };
    record.encode_to_vec().into()
}

/// The group of a row.
pub(super) fn decode_group(entry: &Entry) -> Result<Group, MasterError> {
    let record: GroupRecord = decode(entry)?;
    let member = |member: MemberRecord| {
        let node = NodeId::try_from(&member.node[..]).map_err(|error| unreadable(&entry.key, &error))?;
        let state = match member.state() {
            StateRecord::Joining => MemberState::Joining,
            StateRecord::InSync => MemberState::InSync,
            StateRecord::Lost => MemberState::Lost,
            StateRecord::Unspecified => {
                return Err(unreadable(&entry.key, &format_args!("state {} of node {node}", member.state)));
            }
        };
        Ok(Member { node, address: member.address, state, free_bytes: 0, total_bytes: 0 })
    };
    Ok(Group {
        id: GroupId::new(record.id),
        version: GroupVersion::new(record.version),
        replicas: record.replicas,
        weight: record.weight,
        members: record.members.into_iter().map(member).collect::<Result<_, _>>()?,
    })
}
