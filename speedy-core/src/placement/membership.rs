//! How a group changes: with what its nodes say of themselves, with their silence, and with an operator's orders.
//!
//! # The invariant
//! Every member that is in sync holds every chunk that was ever acknowledged. A write is acknowledged when all
//! [recipients](Group::recipients) of one version have it, and a node refuses writes of another version than its own. So:
//!
//! - A member that leaves the in-sync set does so with a new version. Once the group can take chunks under a version
//!   without it, it counts as behind and has to catch up. While the group can't, nothing is acknowledged that it
//!   lacks, and it comes back in sync.
//! - A member that catches up says up to which version it has: it has fetched all that a member in sync held which
//!   knew this version already, and had finished the writes of earlier ones. With the first such word it begins to
//!   settle: from that version on every write waits for it. What was acknowledged before it finds by a second
//!   comparison, made under that version or a later one. Then it is in sync.

use super::{Group, GroupOrder, Heartbeat, MasterError, Member, MemberState};
use crate::id::{GroupVersion, NodeId};

/// The group with a node that says that it is there; `None` where that changes nothing. `is_gone` says whether a member
/// was silent for so long that another node may take its place.
pub(super) fn heard(
    group: Option<&Group>,
    beat: &Heartbeat,
    replicas: u32,
    is_gone: impl Fn(NodeId) -> bool,
) -> Option<Result<Group, MasterError>> {
    let Some(group) = group else {
        let version = GroupVersion::INITIAL;
        let empty = Group { id: beat.group, version, replicas, weight: 1, members: Vec::new() };
        return Some(Ok(joined(&empty, beat)));
    };
    match group.member(beat.node) {
        Some(member) => {
            let state = next_state(group, member, beat);
            if state == member.state && member.address == beat.address {
                return None;
            }
            Some(Ok(changed(group, |members| {
                let member = members.iter_mut().find(|member| member.node == beat.node);
                let member = member.expect("it was found above");
                member.address.clone_from(&beat.address);
                member.state = state;
                match state {
                    MemberState::InSync | MemberState::ReadOnly => member.is_behind = false,
                    MemberState::CatchingUp => member.is_behind = true,
                    _ => {}
                }
            })))
        }
        None => Some(admit(group, beat, is_gone)),
    }
}

/// What a member is from now on.
fn next_state(group: &Group, member: &Member, beat: &Heartbeat) -> MemberState {
    let has_room = if beat.is_short_of_room { MemberState::ReadOnly } else { MemberState::InSync };
    // Where nobody else has all, it has the most there is.
    let can_fetch = group.holders().any(|other| other.node != member.node);
    let caught_up = beat.caught_up.is_some_and(|version| version >= member.since);
    match member.state {
        MemberState::Joining => MemberState::Joining,
        MemberState::InSync | MemberState::ReadOnly if beat.has_lost && can_fetch => MemberState::CatchingUp,
        MemberState::InSync | MemberState::ReadOnly => has_room,
        MemberState::Lost if member.is_behind || (beat.has_lost && can_fetch) => MemberState::CatchingUp,
        MemberState::Lost => has_room,
        MemberState::CatchingUp if caught_up => MemberState::Settling,
        MemberState::CatchingUp => MemberState::CatchingUp,
        MemberState::Settling if caught_up => has_room,
        MemberState::Settling => MemberState::Settling,
    }
}

/// The group with a node that it did not know.
fn admit(group: &Group, beat: &Heartbeat, is_gone: impl Fn(NodeId) -> bool) -> Result<Group, MasterError> {
    if group.members.iter().all(|member| member.state == MemberState::Joining) {
        return Ok(joined(group, beat));
    }
    let staying = group.members.iter().filter(|member| !member.is_leaving);
    // The one that is away is replaced only where nothing depends on its coming back.
    let replaced =
        |member: &&Member| member.state == MemberState::Lost && member.is_behind && is_gone(member.node);
    let replaced = if staying.clone().count() < group.replicas as usize {
        None
    } else if let Some(gone) = staying.clone().find(replaced) {
        Some(gone.node)
    } else {
        return Err(MasterError::Refused(is_full(group, beat)));
    };
    if beat.highest_chunk.is_some() {
        return Err(MasterError::Refused(format!(
            "group {} takes another member, but node {} at {} already holds chunks that this group knows nothing of; \
             start it with an empty data directory",
            group.id, beat.node, beat.address
        )));
    }
    Ok(changed(group, |members| {
        members.retain(|member| Some(member.node) != replaced);
        members.push(Member::new(beat.node, beat.address.clone(), MemberState::CatchingUp));
    }))
}

/// A group that has never been complete, with one more member. The last one makes it complete.
fn joined(group: &Group, beat: &Heartbeat) -> Group {
    let mut group = group.clone();
    let mut member = Member::new(beat.node, beat.address.clone(), MemberState::Joining);
    // Noted until the group is complete: who holds chunks, when others hold none, is the one to copy from.
    member.is_behind = beat.highest_chunk.is_none();
    group.members.push(member);
    if group.members.len() < group.replicas as usize {
        return group;
    }
    let some_hold = group.members.iter().any(|member| !member.is_behind);
    changed(&group, |members| {
        for member in members {
            member.is_behind &= some_hold;
            member.state = if member.is_behind { MemberState::CatchingUp } else { MemberState::InSync };
        }
    })
}

fn is_full(group: &Group, beat: &Heartbeat) -> String {
    let members: Vec<String> =
        group.members.iter().map(|member| format!("{} at {}", member.node, member.address)).collect();
    format!(
        "group {} has all its {} members ({}) and node {} at {} is none of them; start it with its own data directory \
         if it is one of these, or with another --group. To put it in the place of one: speedy cluster replace",
        group.id,
        group.replicas,
        members.join(", "),
        beat.node,
        beat.address
    )
}

/// The group without those who are silent; `None` where nobody is.
pub(super) fn silence(group: &Group, is_silent: impl Fn(&Member) -> bool) -> Option<Group> {
    let concerned = |member: &Member| member.state != MemberState::Lost && is_silent(member);
    if !group.members.iter().any(concerned) {
        return None;
    }
    Some(changed(group, |members| {
        // They never came to hold anything.
        members.retain(|member| member.state != MemberState::Joining || !concerned(member));
        for member in members.iter_mut().filter(|member| concerned(member)) {
            member.state = MemberState::Lost;
        }
    }))
}

/// The group as an operator wants it; `None` where it is so already.
pub(super) fn ordered(group: &Group, order: GroupOrder) -> Option<Result<Group, MasterError>> {
    let unknown = |node: NodeId| {
        Some(Err(MasterError::Refused(format!("node {node} is no member of group {}", group.id))))
    };
    match order {
        GroupOrder::Weight(weight) if group.weight == weight => None,
        GroupOrder::Weight(weight) => Some(Ok(Group { weight, ..changed(group, |_| {}) })),
        GroupOrder::Replicas(0) => Some(Err(MasterError::Refused("a group has at least one replica".into()))),
        GroupOrder::Replicas(replicas) if group.replicas == replicas => None,
        GroupOrder::Replicas(replicas) => Some(Ok(changed(&Group { replicas, ..group.clone() }, |_| {}))),
        GroupOrder::Leave(node) | GroupOrder::Stay(node) => {
            let is_leaving = matches!(order, GroupOrder::Leave(_));
            let Some(member) = group.member(node) else { return unknown(node) };
            if member.is_leaving == is_leaving {
                return None;
            }
            let staying = group.members.iter().filter(|member| !member.is_leaving).count();
            if !is_leaving && staying >= group.replicas as usize {
                return Some(Err(MasterError::Refused(format!(
                    "another node has taken the place of node {node} in group {} already",
                    group.id
                ))));
            }
            Some(Ok(changed(group, |members| {
                for member in members.iter_mut().filter(|member| member.node == node) {
                    member.is_leaving = is_leaving;
                }
            })))
        }
    }
}

/// A group after a change of its members, under its next version.
fn changed(before: &Group, change: impl FnOnce(&mut Vec<Member>)) -> Group {
    let mut group = Group { version: before.version.next(), ..before.clone() };
    change(&mut group.members);
    let staying = group.in_sync().filter(|member| !member.is_leaving).count();
    if staying >= group.replicas as usize {
        group.members.retain(|member| !member.is_leaving);
    }
    let takes_chunks = group.in_sync().count() >= group.min_in_sync();
    for member in &mut group.members {
        if before.member(member.node).is_none_or(|earlier| earlier.state != member.state) {
            member.since = group.version;
        }
        member.is_behind |= member.state == MemberState::Lost && takes_chunks;
    }
    group
}

#[cfg(test)]
mod tests;
