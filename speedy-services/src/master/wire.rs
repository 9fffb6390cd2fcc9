//! The topology and its form on the wire.

use speedy_core::id::{GroupId, GroupVersion, NodeId};
use speedy_core::placement::{Group, Member, MemberState, Topology};
use speedy_proto::master::v1 as proto;

pub(super) fn state_to_wire(state: MemberState) -> proto::MemberState {
    match state {
        MemberState::Joining => proto::MemberState::Joining,
        MemberState::InSync => proto::MemberState::InSync,
        MemberState::Lost => proto::MemberState::Lost,
        _ => proto::MemberState::Unspecified,
    }
}

/// A state that this version does not know reads as joining: the member serves no reads and counts for no writes.
pub(super) fn state_from_wire(state: proto::MemberState) -> MemberState {
    match state {
        proto::MemberState::Unspecified | proto::MemberState::Joining => MemberState::Joining,
        proto::MemberState::InSync => MemberState::InSync,
        proto::MemberState::Lost => MemberState::Lost,
    }
}

pub(super) fn topology_to_wire(topology: Topology) -> proto::Topology {
    let member = |member: Member| proto::Member {
        node: member.node.as_bytes().to_vec().into(),
        address: member.address,
        state: state_to_wire(member.state).into(),
        free_bytes: member.free_bytes,
        total_bytes: member.total_bytes,
    };
    let group = |group: Group| proto::Group {
        id: group.id.get(),
        version: group.version.get(),
        replicas: group.replicas,
        weight: group.weight,
        members: group.members.into_iter().map(member).collect(),
    };
    proto::Topology { revision: topology.revision, groups: topology.groups.into_iter().map(group).collect() }
}

/// # Errors
/// What is wrong with it.
pub(super) fn topology_from_wire(topology: proto::Topology) -> Result<Topology, String> {
    let member = |member: proto::Member| {
        Ok(Member {
            node: NodeId::try_from(&member.node[..]).map_err(|error| error.to_string())?,
            state: state_from_wire(member.state()),
            address: member.address,
            free_bytes: member.free_bytes,
            total_bytes: member.total_bytes,
        })
    };
    let group = |group: proto::Group| {
        Ok(Group {
            id: GroupId::new(group.id),
            version: GroupVersion::new(group.version),
            replicas: group.replicas,
            weight: group.weight,
            members: group.members.into_iter().map(member).collect::<Result<_, String>>()?,
        })
    };
    let groups: Vec<Group> = topology.groups.into_iter().map(group).collect::<Result<_, String>>()?;
    // Lookups search by id.
    if !groups.is_sorted_by(|a, b| a.id < b.id) {
        return Err("its groups are not in order of their ids".into());
    }
    Ok(Topology { revision: topology.revision, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32) -> Group {
        let member = |byte, state| Member {
            node: NodeId::from_bytes([byte; 16]),
            address: format!("store-{byte}:7654"),
            state,
            free_bytes: u64::MAX,
            total_bytes: 5,
        };
        Group {
            id: GroupId::new(id),
            version: GroupVersion::new(9),
            replicas: 3,
            weight: 100,
            members: vec![
                member(1, MemberState::Joining),
                member(2, MemberState::InSync),
                member(3, MemberState::Lost),
            ],
        }
    }

    #[test]
    fn a_topology_crosses_whole() {
        let topology = Topology { revision: 4, groups: vec![group(1), group(8)] };
        assert_eq!(topology_from_wire(topology_to_wire(topology.clone())), Ok(topology));
    }

    #[test]
    fn groups_out_of_order_and_bad_node_ids_are_refused() {
        let unordered = Topology { revision: 4, groups: vec![group(8), group(1)] };
        assert!(topology_from_wire(topology_to_wire(unordered)).is_err());
        let mut wire = topology_to_wire(Topology { revision: 4, groups: vec![group(1)] });
        wire.groups[0].members[0].node = vec![1, 2].into();
        assert!(topology_from_wire(wire).is_err());
    }

    #[test]
    fn a_state_of_a_newer_master_neither_reads_nor_writes() {
        let mut wire = topology_to_wire(Topology { revision: 4, groups: vec![group(1)] });
        wire.groups[0].members[1].state = 77;
        let topology = topology_from_wire(wire).unwrap();
        assert_eq!(topology.groups[0].members[1].state, MemberState::Joining);
    }
}
