//! What every [`Master`] must do, as tests that any implementation can run.

#![allow(clippy::unwrap_used, reason = "a suite of tests stops at the first surprise")]

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::{Group, Heartbeat, HeartbeatReply, Master, MasterError, MemberState};
use crate::id::{ChunkId, GroupId, GroupVersion, NodeId};

type AnyMaster = Arc<dyn Master>;
type Case = (&'static str, fn(AnyMaster) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($case:ident),* $(,)?) => { &[$((stringify!($case), |master| $case(master).boxed())),*] };
}

const CASES: &[Case] = cases![
    a_master_knows_nothing_at_first,
    a_group_is_complete_when_its_last_member_joins,
    groups_are_in_order_of_their_ids,
    a_heartbeat_that_changes_nothing_leaves_the_revision,
    a_new_address_is_recorded,
    free_space_is_that_of_the_last_heartbeat,
    a_fourth_node_is_refused,
    a_node_of_another_group_is_refused,
    an_address_that_is_none_is_refused,
    nodes_that_join_at_once_all_find_a_place,
    no_chunk_ids_before_the_group_is_complete,
    ranges_of_chunk_ids_follow_each_other,
    groups_count_chunk_ids_apart,
    ranges_handed_out_at_once_do_not_overlap,
    chunk_ids_are_above_what_nodes_hold,
];

/// Runs every case, each on a fresh master of groups of three that `factory` makes.
///
/// # Panics
/// At the first case that fails, with its name.
pub async fn run_all<F, Made>(factory: F)
where
    F: Fn() -> Made,
    Made: Future<Output = AnyMaster>,
{
    for (name, case) in CASES {
        let master = factory().await;
        if let Err(panic) = AssertUnwindSafe(case(master)).catch_unwind().await {
            let reason = panic.downcast_ref::<String>().map(String::as_str);
            let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see above");
            panic!("master conformance, case {name}: {reason}");
        }
    }
}

const FIRST: GroupId = GroupId::new(1);

pub(super) fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// A heartbeat of one of the nodes of a test.
pub(super) fn beat(number: u8, group: GroupId) -> Heartbeat {
    Heartbeat::new(node(number), group, format!("chunk-{number}:7654"))
}

/// Three nodes join a group.
pub(super) async fn fill(master: &dyn Master, group: GroupId, nodes: [u8; 3]) -> HeartbeatReply {
    let mut last = None;
    for number in nodes {
        last = Some(master.heartbeat(beat(number, group)).await.unwrap());
    }
    last.unwrap()
}

async fn group(master: &AnyMaster) -> Group {
    master.topology().await.unwrap().group(FIRST).cloned().unwrap()
}

async fn a_master_knows_nothing_at_first(master: AnyMaster) {
    assert!(master.topology().await.unwrap().groups.is_empty());
    assert!(matches!(master.allocate_chunks(FIRST, 1).await, Err(MasterError::Refused(_))));
}

async fn a_group_is_complete_when_its_last_member_joins(master: AnyMaster) {
    let mut revision = master.topology().await.unwrap().revision;
    for number in 1..=2 {
        let reply = master.heartbeat(beat(number, FIRST)).await.unwrap();
        assert_eq!(reply, HeartbeatReply::new(GroupVersion::INITIAL, MemberState::Joining));
        let topology = master.topology().await.unwrap();
        assert!(topology.revision > revision, "the revision rises with each change");
        assert!(!topology.group(FIRST).unwrap().is_complete());
        revision = topology.revision;
    }
    let complete = HeartbeatReply::new(GroupVersion::INITIAL.next(), MemberState::InSync);
    assert_eq!(master.heartbeat(beat(3, FIRST)).await.unwrap(), complete);
    let group = group(&master).await;
    assert!(group.is_complete());
    assert_eq!((group.version, group.replicas), (GroupVersion::new(1), 3));
    let members: Vec<NodeId> = group.members.iter().map(|member| member.node).collect();
    assert_eq!(members, [node(1), node(2), node(3)], "in the order in which they joined");
    assert_eq!(master.heartbeat(beat(1, FIRST)).await.unwrap(), complete);
}

async fn groups_are_in_order_of_their_ids(master: AnyMaster) {
    for (number, id) in [(1, 70_000), (2, 3), (3, 255), (4, 256)] {
        master.heartbeat(beat(number, GroupId::new(id))).await.unwrap();
    }
    let topology = master.topology().await.unwrap();
    let ids: Vec<u32> = topology.groups.iter().map(|group| group.id.get()).collect();
    assert_eq!(ids, [3, 255, 256, 70_000]);
}

async fn a_heartbeat_that_changes_nothing_leaves_the_revision(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    let before = master.topology().await.unwrap();
    for number in [1, 2, 3, 1] {
        master.heartbeat(beat(number, FIRST)).await.unwrap();
    }
    assert_eq!(master.topology().await.unwrap(), before);
}

async fn a_new_address_is_recorded(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    let before = master.topology().await.unwrap();
    let mut moved = beat(2, FIRST);
    moved.address = "[2001:db8::7]:7000".into();
    let reply = master.heartbeat(moved).await.unwrap();
    let after = master.topology().await.unwrap();
    assert!(after.revision > before.revision);
    let group = after.group(FIRST).unwrap();
    assert_eq!(group.members[1].address, "[2001:db8::7]:7000");
    assert_eq!((reply.version, group.members.len()), (before.groups[0].version, 3), "nobody joined or left");
}

async fn free_space_is_that_of_the_last_heartbeat(master: AnyMaster) {
    for free in [100, 70] {
        let mut heartbeat = beat(1, FIRST);
        (heartbeat.free_bytes, heartbeat.total_bytes) = (free, 200);
        master.heartbeat(heartbeat).await.unwrap();
        let member = &group(&master).await.members[0];
        assert_eq!((member.free_bytes, member.total_bytes), (free, 200));
    }
}

async fn a_fourth_node_is_refused(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    let before = master.topology().await.unwrap();
    let mut replacement = beat(4, FIRST);
    replacement.address = beat(3, FIRST).address;
    for stranger in [beat(4, FIRST), replacement] {
        let error = master.heartbeat(stranger).await.unwrap_err();
        assert!(matches!(&error, MasterError::Refused(_)), "{error}");
        assert!(error.to_string().contains(&node(4).to_string()), "{error}");
    }
    assert_eq!(master.topology().await.unwrap(), before);
    master.heartbeat(beat(4, GroupId::new(2))).await.unwrap();
}

async fn a_node_of_another_group_is_refused(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    let error = master.heartbeat(beat(1, GroupId::new(2))).await.unwrap_err();
    assert!(matches!(error, MasterError::Refused(_)), "{error}");
    assert!(master.topology().await.unwrap().group(GroupId::new(2)).is_none());
}

async fn an_address_that_is_none_is_refused(master: AnyMaster) {
    for address in ["", "host", ":7654", "host:", "host:0", "host:70000", "host:http"] {
        let heartbeat = Heartbeat::new(node(1), FIRST, address);
        let error = master.heartbeat(heartbeat).await.unwrap_err();
        assert!(matches!(error, MasterError::Refused(_)), "{address:?}: {error}");
    }
    assert!(master.topology().await.unwrap().groups.is_empty());
}

async fn nodes_that_join_at_once_all_find_a_place(master: AnyMaster) {
    let joins = (1..=9).map(|number| {
        let master = Arc::clone(&master);
        tokio::spawn(async move { master.heartbeat(beat(number, GroupId::new(u32::from(number % 3)))).await })
    });
    for join in join_all(joins.collect::<Vec<_>>()).await {
        join.unwrap().unwrap();
    }
    let topology = master.topology().await.unwrap();
    assert_eq!(topology.groups.len(), 3);
    assert!(topology.groups.iter().all(|group| group.is_complete() && group.version == GroupVersion::new(1)));
}

async fn no_chunk_ids_before_the_group_is_complete(master: AnyMaster) {
    for number in 1..=2 {
        master.heartbeat(beat(number, FIRST)).await.unwrap();
        let error = master.allocate_chunks(FIRST, 1).await.unwrap_err();
        assert!(matches!(error, MasterError::Unavailable(_)), "{error}");
    }
}

async fn ranges_of_chunk_ids_follow_each_other(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    assert_eq!(master.allocate_chunks(FIRST, 100).await.unwrap(), 1..101, "ids begin at 1");
    assert_eq!(master.allocate_chunks(FIRST, 1).await.unwrap(), 101..102);
    assert_eq!(master.allocate_chunks(FIRST, u32::MAX).await.unwrap(), 102..102 + u64::from(u32::MAX));
    assert!(matches!(master.allocate_chunks(FIRST, 0).await, Err(MasterError::Refused(_))));
}

async fn groups_count_chunk_ids_apart(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    fill(&*master, GroupId::new(2), [4, 5, 6]).await;
    assert_eq!(master.allocate_chunks(FIRST, 10).await.unwrap(), 1..11);
    assert_eq!(master.allocate_chunks(GroupId::new(2), 10).await.unwrap(), 1..11);
}

async fn ranges_handed_out_at_once_do_not_overlap(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    let asked = (1..=12_u32).map(|count| {
        let master = Arc::clone(&master);
        tokio::spawn(async move { master.allocate_chunks(FIRST, count).await.unwrap() })
    });
    let ranges = join_all(asked.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap);
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
    let ids: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    assert_eq!(ids, (1..=12).sum(), "everyone got what was asked for");
}

async fn chunk_ids_are_above_what_nodes_hold(master: AnyMaster) {
    fill(&*master, FIRST, [1, 2, 3]).await;
    master.allocate_chunks(FIRST, 10).await.unwrap();
    let mut heartbeat = beat(2, FIRST);
    heartbeat.highest_chunk = Some(ChunkId::new(5000));
    master.heartbeat(heartbeat.clone()).await.unwrap();
    assert_eq!(master.allocate_chunks(FIRST, 10).await.unwrap(), 5001..5011);
    heartbeat.highest_chunk = Some(ChunkId::new(20));
    master.heartbeat(heartbeat.clone()).await.unwrap();
    assert_eq!(master.allocate_chunks(FIRST, 10).await.unwrap(), 5011..5021);
    heartbeat.highest_chunk = Some(ChunkId::new(u64::MAX));
    master.heartbeat(heartbeat).await.unwrap();
    assert!(matches!(master.allocate_chunks(FIRST, 1).await, Err(MasterError::Refused(_))));
}
