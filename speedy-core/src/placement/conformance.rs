//! What every [`Master`] must do, as tests that any implementation can run, remote ones included.

use std::sync::Arc;

use super::{Heartbeat, Master, MasterError, MemberState};
use crate::id::{ChunkId, GroupId, GroupVersion, NodeId};

const GROUP: GroupId = GroupId::new(7);

/// Runs all cases, each against a fresh master whose groups have three replicas.
///
/// # Panics
/// With the case and what it found, when a master does not do what it must.
pub async fn run_all<F, M>(fresh: F)
where
    F: Fn() -> M,
    M: Future<Output = Arc<dyn Master>>,
{
    a_group_is_complete_with_its_last_member(fresh().await).await;
    a_node_too_many_is_refused(fresh().await).await;
    a_node_of_another_group_is_refused(fresh().await).await;
    a_new_address_is_known_at_once(fresh().await).await;
    ids_are_never_handed_out_twice(fresh().await).await;
    ids_begin_above_what_nodes_hold(fresh().await).await;
    groups_that_take_no_chunks_get_no_ids(fresh().await).await;
}

fn heartbeat(node: u8) -> Heartbeat {
    Heartbeat::new(NodeId::from_bytes([node; 16]), GROUP, format!("10.0.0.{node}:7654"))
}

async fn complete(master: &Arc<dyn Master>) {
    for node in 1..=3 {
        master.heartbeat(heartbeat(node)).await.expect("a group takes its members");
    }
}

async fn a_group_is_complete_with_its_last_member(master: Arc<dyn Master>) {
    assert!(master.topology().await.expect("topology").groups.is_empty(), "a fresh master knows no group");
    for node in 1..=2 {
        let reply = master.heartbeat(heartbeat(node)).await.expect("a group takes its members");
        assert_eq!((reply.version, reply.state), (GroupVersion::INITIAL, MemberState::Joining));
    }
    let before = master.topology().await.expect("topology");
    assert!(!before.group(GROUP).expect("the group is known").is_complete());
    let reply = master.heartbeat(heartbeat(3)).await.expect("a group takes its members");
    assert_eq!((reply.version, reply.state), (GroupVersion::new(1), MemberState::InSync));
    let after = master.topology().await.expect("topology");
    assert!(after.revision > before.revision, "a change raises the revision");
    let group = after.group(GROUP).expect("the group is known");
    assert!(group.is_complete() && group.version == GroupVersion::new(1));
    let again = master.heartbeat(heartbeat(1)).await.expect("a member is known");
    assert_eq!((again.version, again.state), (GroupVersion::new(1), MemberState::InSync));
    assert_eq!(master.topology().await.expect("topology").revision, after.revision);
}

async fn a_node_too_many_is_refused(master: Arc<dyn Master>) {
    complete(&master).await;
    let refused = master.heartbeat(heartbeat(4)).await;
    assert!(matches!(refused, Err(MasterError::Refused(_))), "{refused:?}");
}

async fn a_node_of_another_group_is_refused(master: Arc<dyn Master>) {
    complete(&master).await;
    let moved = Heartbeat { group: GroupId::new(8), ..heartbeat(1) };
    let refused = master.heartbeat(moved).await;
    assert!(matches!(refused, Err(MasterError::Refused(_))), "{refused:?}");
}

async fn a_new_address_is_known_at_once(master: Arc<dyn Master>) {
    complete(&master).await;
    let before = master.topology().await.expect("topology");
    let moved = Heartbeat { address: "10.9.9.9:1".into(), free_bytes: 5, total_bytes: 9, ..heartbeat(2) };
    master.heartbeat(moved).await.expect("a member may move");
    let after = master.topology().await.expect("topology");
    assert!(after.revision > before.revision);
    let members = &after.group(GROUP).expect("the group is known").members;
    let member = members.iter().find(|member| member.node == heartbeat(2).node).expect("the member is known");
    assert_eq!((member.address.as_str(), member.free_bytes, member.total_bytes), ("10.9.9.9:1", 5, 9));
}

async fn ids_are_never_handed_out_twice(master: Arc<dyn Master>) {
    complete(&master).await;
    let tasks: Vec<_> = (1..=20)
        .map(|count| {
            let master = Arc::clone(&master);
            tokio::spawn(async move { master.allocate_chunks(GROUP, count).await })
        })
        .collect();
    let mut ranges = Vec::new();
    for task in tasks {
        // Many at once may make a master give up on some: those hand out nothing.
        if let Ok(range) = task.await.expect("no panic") {
            ranges.push(range);
        }
    }
    assert!(!ranges.is_empty());
    ranges.sort_by_key(|range| range.start);
    assert!(ranges[0].start >= 1, "0 is no id");
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
}

async fn ids_begin_above_what_nodes_hold(master: Arc<dyn Master>) {
    complete(&master).await;
    let holds = Heartbeat { highest_chunk: Some(ChunkId::new(1_000)), ..heartbeat(2) };
    master.heartbeat(holds).await.expect("a member is known");
    let range = master.allocate_chunks(GROUP, 10).await.expect("a complete group gets ids");
    assert!(range.start > 1_000 && range.end - range.start == 10, "{range:?}");
}

async fn groups_that_take_no_chunks_get_no_ids(master: Arc<dyn Master>) {
    let unknown = master.allocate_chunks(GROUP, 1).await;
    assert!(matches!(unknown, Err(MasterError::Refused(_))), "{unknown:?}");
    master.heartbeat(heartbeat(1)).await.expect("a group takes its members");
    let incomplete = master.allocate_chunks(GROUP, 1).await;
    assert!(matches!(incomplete, Err(MasterError::Unavailable(_))), "{incomplete:?}");
}
