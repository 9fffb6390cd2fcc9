//! The topology and its form on the wire.

use speedy_core::id::{GroupId, GroupVersion, NodeId};
use speedy_core::placement::{Backlog, Group, GroupOrder, Member, MemberState, Topology};
use speedy_proto::master::v1 as proto;

pub(super) fn state_to_wire(state: MemberState) -> proto::MemberState {
    match state {
        MemberState::Joining => proto::MemberState::Joining,
        MemberState::InSync => proto::MemberState::InSync,
        MemberState::Lost => proto::MemberState::Lost,
        MemberState::CatchingUp => proto::MemberState::CatchingUp,
        MemberState::Settling => proto::MemberState::Settling,
        MemberState::ReadOnly => proto::MemberState::ReadOnly,
        _ => proto::MemberState::Unspecified,
    }
}

/// A state that this version does not know reads as joining: the member serves no reads and counts for no writes.
pub(super) fn state_from_wire(state: proto::MemberState) -> MemberState {
    match state {
        proto::MemberState::Unspecified | proto::MemberState::Joining => MemberState::Joining,
        proto::MemberState::InSync => MemberState::InSync,
        proto::MemberState::Lost => MemberState::Lost,
        proto::MemberState::CatchingUp => MemberState::CatchingUp,
        proto::MemberState::Settling => MemberState::Settling,
        proto::MemberState::ReadOnly => MemberState::ReadOnly,
    }
}

pub(super) fn backlog_to_wire(backlog: Backlog) -> proto::Backlog {
    let Backlog { chunks, bytes, bytes_per_second } = backlog;
    proto::Backlog { chunks, bytes, bytes_per_second }
}

pub(super) fn backlog_from_wire(backlog: Option<proto::Backlog>) -> Backlog {
    let proto::Backlog { chunks, bytes, bytes_per_second } = backlog.unwrap_or_default();
    Backlog { chunks, bytes, bytes_per_second }
}

pub(super) fn group_to_wire(group: Group) -> proto::Group {
    let member = |member: Member| proto::Member {
        node: member.node.as_bytes().to_vec().into(),
        address: member.address,
        state: state_to_wire(member.state).into(),
        free_bytes: member.free_bytes,
        total_bytes: member.total_bytes,
        since: member.since.get(),
        is_behind: member.is_behind,
        is_leaving: member.is_leaving,
        backlog: Some(backlog_to_wire(member.backlog)),
    };
    proto::Group {
        id: group.id.get(),
        version: group.version.get(),
        replicas: group.replicas,
        weight: group.weight,
        members: group.members.into_iter().map(member).collect(),
    }
}

/// # Errors
/// What is wrong with it.
pub(super) fn group_from_wire(group: proto::Group) -> Result<Group, String> {
    let member = |wire: proto::Member| {
        let node = NodeId::try_from(&wire.node[..]).map_err(|error| error.to_string())?;
        let mut member = Member::new(node, wire.address.clone(), state_from_wire(wire.state()));
        member.since = GroupVersion::new(wire.since);
        (member.is_behind, member.is_leaving) = (wire.is_behind, wire.is_leaving);
        (member.free_bytes, member.total_bytes) = (wire.free_bytes, wire.total_bytes);
        member.backlog = backlog_from_wire(wire.backlog);
        Ok(member)
    };
    Ok(Group {
        id: GroupId::new(group.id),
        version: GroupVersion::new(group.version),
        replicas: group.replicas,
        weight: group.weight,
        members: group.members.into_iter().map(member).collect::<Result<_, String>>()?,
    })
}

/// `None` where this version has no words for the order.
pub(super) fn order_to_wire(group: GroupId, order: GroupOrder) -> Option<proto::OrderRequest> {
    use proto::order_request::Order;
    let node = |node: NodeId| node.as_bytes().to_vec().into();
    let order = match order {
        GroupOrder::Weight(weight) => Order::Weight(weight),
        GroupOrder::Replicas(replicas) => Order::Replicas(replicas),
        GroupOrder::Leave(leaving) => Order::Leave(node(leaving)),
        GroupOrder::Stay(staying) => Order::Stay(node(staying)),
        _ => return None,
    };
    Some(proto::OrderRequest { group: group.get(), order: Some(order) })
}

/// # Errors
/// What is wrong with it.
pub(super) fn order_from_wire(request: proto::OrderRequest) -> Result<(GroupId, GroupOrder), String> {
    use proto::order_request::Order;
    let node = |bytes: &[u8]| NodeId::try_from(bytes).map_err(|error| error.to_string());
    let order = match request.order.ok_or("it holds no order that this master knows")? {
        Order::Weight(weight) => GroupOrder::Weight(weight),
        Order::Replicas(replicas) => GroupOrder::Replicas(replicas),
        Order::Leave(leaving) => GroupOrder::Leave(node(&leaving)?),
        Order::Stay(staying) => GroupOrder::Stay(node(&staying)?),
    };
    Ok((GroupId::new(request.group), order))
}

pub(super) fn topology_to_wire(topology: Topology) -> proto::Topology {
    let groups = topology.groups.into_iter().map(group_to_wire).collect();
    proto::Topology { revision: topology.revision, groups }
}

/// # Errors
/// What is wrong with it.
pub(super) fn topology_from_wire(topology: proto::Topology) -> Result<Topology, String> {
    let groups: Vec<Group> =
        topology.groups.into_iter().map(group_from_wire).collect::<Result<_, String>>()?;
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
        let member = |byte, state| {
            let mut member = Member::new(NodeId::from_bytes([byte; 16]), format!("store-{byte}:7654"), state);
            (member.free_bytes, member.total_bytes, member.is_leaving) = (u64::MAX, 5, byte == 2);
            member.since = GroupVersion::new(u64::from(byte));
            member.backlog = Backlog { chunks: 1, bytes: 2, bytes_per_second: u64::from(byte) };
            member
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
                member(4, MemberState::CatchingUp),
                member(5, MemberState::Settling),
                member(6, MemberState::ReadOnly),
            ],
        }
    }

    #[test]
    fn a_topology_crosses_whole() {
        let topology = Topology { revision: 4, groups: vec![group(1), group(8)] };
        assert_eq!(topology_from_wire(topology_to_wire(topology.clone())), Ok(topology));
    }

    #[test]
    fn orders_cross_whole() {
        let node = NodeId::from_bytes([4; 16]);
        for order in
            [GroupOrder::Weight(0), GroupOrder::Replicas(5), GroupOrder::Leave(node), GroupOrder::Stay(node)]
        {
            let wire = order_to_wire(GroupId::new(3), order).unwrap();
            assert_eq!(order_from_wire(wire), Ok((GroupId::new(3), order)));
        }
        assert!(order_from_wire(proto::OrderRequest { group: 3, order: None }).is_err());
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
