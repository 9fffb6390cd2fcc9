use std::fmt;

use crate::id::GroupId;
use crate::placement::{Group, MemberState, Topology};
use crate::replicate::FragmentError;

/// What kept a group from taking a chunk, in words for an operator.
#[derive(Debug)]
pub(super) enum Lack {
    /// Not enough of its members are in sync, or one has no room.
    Members(String),
    /// A member has no room.
    Full(String),
    /// There is no chunk id to be had.
    Ids(String),
    /// A member failed.
    Failed(String),
}

impl Lack {
    /// Whether it may well be over in a moment.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Ids(_))
    }

    /// What a group lacks that takes no chunks.
    pub(super) fn of(group: &Group) -> Self {
        let mut text = format!("has {} of {} members in sync", group.in_sync().count(), group.replicas);
        let mut separator = ": ";
        for member in group.members.iter().filter(|member| member.state != MemberState::InSync) {
            text += &format!("{separator}node {} at {} is {}", member.node, member.address, member.state);
            separator = ", ";
        }
        Self::Members(text)
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(text) => f.write_str(text),
            Self::Full(text) => write!(f, "is full: {text}"),
            Self::Ids(text) => write!(f, "has no chunk ids left: {text}"),
            Self::Failed(text) => write!(f, "failed: {text}"),
        }
    }
}

/// The error of a write that no group took: what each of them lacks.
pub(super) fn lacks(topology: &Topology, tried: Vec<(GroupId, Lack)>) -> FragmentError {
    if topology.groups.is_empty() {
        return FragmentError::Unavailable(
            "no group is known. Either no chunk node has reported to the master yet, or the master has not answered \
             this process since it began"
                .into(),
        );
    }
    let full = !tried.is_empty() && tried.iter().all(|(_, lack)| matches!(lack, Lack::Full(_)));
    let mut lacks = tried;
    for group in topology.groups.iter().filter(|group| !group.takes_new_chunks()) {
        if lacks.iter().all(|(id, _)| *id != group.id) {
            lacks.push((group.id, reason(group)));
        }
    }
    lacks.sort_by_key(|(id, _)| *id);
    let text = lacks.iter().map(|(id, lack)| format!("group {id} {lack}")).collect::<Vec<_>>().join("; ");
    match full {
        true => FragmentError::Full(text),
        false => FragmentError::Unavailable(text),
    }
}

/// Why a group was not even tried.
fn reason(group: &Group) -> Lack {
    match group.is_drained() {
        true => Lack::Members("is drained: it takes no new chunks".to_owned()),
        false => Lack::of(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupVersion, NodeId};
    use crate::placement::Member;

    #[test]
    fn what_each_group_lacks_is_told_in_an_operators_words() {
        let group = |id: u32, weight: u32, state: MemberState| {
            let members = vec![Member::new(NodeId::from_bytes([id as u8; 16]), "h:1", state)];
            Group { id: GroupId::new(id), version: GroupVersion::INITIAL, replicas: 1, weight, members }
        };
        let drained = group(1, 0, MemberState::InSync);
        let (drained_and_away, away) = (group(2, 0, MemberState::Lost), group(3, 1, MemberState::Lost));
        // Only one group was asked for; this one would take chunks.
        let other = group(4, 1, MemberState::InSync);
        let topology = Topology { revision: 1, groups: vec![drained, drained_and_away, away, other] };
        let text = lacks(&topology, Vec::new()).to_string();
        for lack in ["group 1 is drained: it", "group 2 is drained: it", "group 3 has 0 of 1 members in sync"]
        {
            assert!(text.contains(lack), "{text}");
        }
        assert!(!text.contains("group 4"), "{text}");
    }
}
