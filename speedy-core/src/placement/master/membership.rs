//! The rules of membership, on their own: what a heartbeat and a silence make of a group.
//!
//! # Why a lost member may come back as it is
//! A group takes writes only while all its replicas are in sync, and every write names the version that the group had.
//! When a member is lost the version rises, so that no write made for the old one is accepted any more, and the group
//! takes none at all until the member is back. It therefore missed nothing, and comes back in sync under a new version.
//!
//! This rests on the node having kept its store. A node's id is in its store's directory: a node that comes back with
//! an empty directory has another id. It is then no member of the group, and the group, which has all its members, does
//! not take it in.

use crate::id::{GroupId, GroupVersion, NodeId};
use crate::placement::{Group, Heartbeat, MasterError, Member, MemberState, Topology};

/// Share of new chunks that a group has unless told otherwise.
const DEFAULT_WEIGHT: u32 = 100;

/// A group that nobody has joined yet.
pub(super) fn new_group(id: GroupId, replicas: u32) -> Group {
    Group { id, version: GroupVersion::INITIAL, replicas, weight: DEFAULT_WEIGHT, members: Vec::new() }
}

/// Refuses a heartbeat that contradicts what is known of its node or makes no sense.
pub(super) fn check(heartbeat: &Heartbeat, topology: &Topology) -> Result<(), MasterError> {
    let port = heartbeat.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(MasterError::Refused(format!(
            "node {} gives its address as {:?}, which is not HOST:PORT; start it with --advertise HOST:PORT",
            heartbeat.node, heartbeat.address
        )));
    }
    let elsewhere = topology
        .groups
        .iter()
        .find(|group| group.id != heartbeat.group && position(group, heartbeat.node).is_some());
    match elsewhere {
        Some(group) => Err(MasterError::Refused(format!(
            "node {} belongs to group {} and was started for group {}; start it with --group {}, or give it an empty \
             data directory to make it another node",
            heartbeat.node, group.id, heartbeat.group, group.id
        ))),
        None => Ok(()),
    }
}

fn position(group: &Group, node: NodeId) -> Option<usize> {
    group.members.iter().position(|member| member.node == node)
}

/// What a heartbeat makes of its group; `None` where it changes nothing.
///
/// `replicas` is what a group needs to be complete, for one that has never been; `silent` says of which nodes nothing
/// was heard for the heartbeat timeout.
pub(super) fn hear(
    group: &Group,
    heartbeat: &Heartbeat,
    replicas: u32,
    silent: impl Fn(NodeId) -> bool,
) -> Result<Option<Group>, MasterError> {
    let mut changed = group.clone();
    if let Some(at) = position(&changed, heartbeat.node) {
        let member = &mut changed.members[at];
        member.address.clone_from(&heartbeat.address);
        if member.state == MemberState::Lost {
            member.state = MemberState::InSync;
            changed.version = changed.version.next();
        }
    } else if changed.version == GroupVersion::INITIAL {
        // Nothing was ever written here, so a node that is gone again costs nothing and must not hold a place.
        changed.members.retain(|member| member.address != heartbeat.address && !silent(member.node));
        changed.members.push(Member {
            node: heartbeat.node,
            address: heartbeat.address.clone(),
            state: MemberState::Joining,
            free_bytes: 0,
            total_bytes: 0,
        });
    } else {
        return Err(stranger(group, heartbeat));
    }
    if changed.version == GroupVersion::INITIAL {
        changed.replicas = replicas;
        if changed.members.len() >= replicas as usize {
            complete(&mut changed);
        }
    }
    Ok((changed != *group).then_some(changed))
}

/// From here on the group takes chunks: its members are these, and all of them hold all that it holds, which is
/// nothing.
fn complete(group: &mut Group) {
    group.replicas = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
    group.version = group.version.next();
    for member in &mut group.members {
        member.state = MemberState::InSync;
    }
}

fn stranger(group: &Group, heartbeat: &Heartbeat) -> MasterError {
    let members: Vec<String> =
        group.members.iter().map(|member| format!("{} at {}", member.node, member.address)).collect();
    MasterError::Refused(format!(
        "group {} has all its {} members ({}), and node {} at {} is none of them. A node's id is in its data \
         directory: if that directory was emptied or replaced, the chunks that were in it are not there, and the group \
         would take the node for a full copy. Start the node with the directory that it had, or with --group N for a \
         group that still takes members",
        group.id,
        group.replicas,
        members.join(", "),
        heartbeat.node,
        heartbeat.address,
    ))
}

/// What a silence makes of a group; `None` where the node is not in sync in it.
pub(super) fn lose(group: &Group, node: NodeId) -> Option<Group> {
    let at = position(group, node).filter(|&at| group.members[at].state == MemberState::InSync)?;
    let mut changed = group.clone();
    changed.members[at].state = MemberState::Lost;
    changed.version = changed.version.next();
    Some(changed)
}
