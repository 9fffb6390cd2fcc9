use super::*;
use crate::id::{ChunkId, GroupVersion};
use crate::meta::MemoryMeta;

const GROUP: GroupId = GroupId::new(1);
const TIMEOUT: Duration = Duration::from_millis(60);

async fn master(meta: &Arc<MemoryMeta>) -> Arc<StoredMaster> {
    let options = MasterOptions::default().timeout(TIMEOUT);
    Arc::new(StoredMaster::new(meta.clone(), options).await.unwrap())
}

fn heartbeat(node: u8) -> Heartbeat {
    Heartbeat::new(NodeId::from_bytes([node; 16]), GROUP, format!("h{node}:1"))
}

async fn beat(master: &StoredMaster, nodes: impl IntoIterator<Item = u8>) {
    for node in nodes {
        master.heartbeat(heartbeat(node)).await.unwrap();
    }
}

async fn states(master: &StoredMaster) -> Vec<MemberState> {
    let topology = master.topology().await.unwrap();
    topology.group(GROUP).unwrap().members.iter().map(|member| member.state).collect()
}

async fn version(master: &StoredMaster) -> u64 {
    master.topology().await.unwrap().group(GROUP).unwrap().version.get()
}

use MemberState::{CatchingUp, InSync, Joining, Lost};

#[tokio::test]
async fn it_does_what_every_master_must() {
    crate::placement::conformance::run_all(|| async {
        let master = StoredMaster::new(Arc::new(MemoryMeta::new()), MasterOptions::default()).await.unwrap();
        Arc::new(master) as Arc<dyn Master>
    })
    .await;
}

#[tokio::test]
async fn a_group_goes_on_without_a_silent_member_which_catches_up_when_it_is_back() {
    let master = master(&Arc::default()).await;
    beat(&master, 1..=3).await;
    tokio::time::sleep(TIMEOUT * 2).await;
    beat(&master, [1, 3]).await;
    master.tick().await.unwrap();
    assert_eq!((states(&master).await, version(&master).await), (vec![InSync, Lost, InSync], 2));
    assert!(master.allocate_chunks(GROUP, 1).await.is_ok());
    let reply = master.heartbeat(heartbeat(2)).await.unwrap();
    assert_eq!((reply.state, reply.version.get()), (CatchingUp, 3));
    let backlog = Backlog { chunks: 5, bytes: 70, bytes_per_second: 2 };
    let behind = Heartbeat { backlog, ..heartbeat(2) };
    master.heartbeat(behind).await.unwrap();
    assert_eq!(master.topology().await.unwrap().group(GROUP).unwrap().members[1].backlog, backlog);
    for version in [3, 4] {
        let caught_up = Heartbeat { caught_up: Some(GroupVersion::new(version)), ..heartbeat(2) };
        master.heartbeat(caught_up).await.unwrap();
    }
    assert_eq!((states(&master).await, version(&master).await), (vec![InSync; 3], 5));
    // An empty replacement is another node.
    assert!(matches!(master.heartbeat(heartbeat(9)).await, Err(MasterError::Refused(_))));
}

#[tokio::test]
async fn a_group_with_one_member_takes_no_chunks_and_goes_on_when_another_is_back() {
    let master = master(&Arc::default()).await;
    beat(&master, 1..=3).await;
    tokio::time::sleep(TIMEOUT * 2).await;
    beat(&master, [1]).await;
    master.tick().await.unwrap();
    assert!(matches!(master.allocate_chunks(GROUP, 1).await, Err(MasterError::Unavailable(_))));
    beat(&master, [2]).await;
    assert_eq!(states(&master).await, [InSync, InSync, Lost]);
    assert!(master.allocate_chunks(GROUP, 1).await.is_ok());
    beat(&master, [3]).await;
    assert_eq!(states(&master).await, [InSync, InSync, CatchingUp]);
}

#[tokio::test]
async fn orders_change_a_group_once() {
    let master = master(&Arc::default()).await;
    let weight = GroupOrder::Weight(2);
    assert!(matches!(master.order(GROUP, weight).await, Err(MasterError::Refused(_))));
    beat(&master, 1..=3).await;
    let first = master.order(GROUP, weight).await.unwrap();
    assert_eq!((first.weight, first.version.get()), (2, 2));
    assert_eq!(master.order(GROUP, weight).await.unwrap(), first);
}

#[tokio::test]
async fn the_last_group_that_takes_chunks_is_not_drained() {
    const OTHER: GroupId = GroupId::new(2);
    let drain = GroupOrder::Weight(0);
    let meta = Arc::default();
    let (master, another) = (master(&meta).await, master(&meta).await);
    beat(&master, 1..=3).await;
    let refused = |answer| match answer {
        Err(MasterError::Refused(why)) => assert!(why.starts_with("no other group takes chunks"), "{why}"),
        answer => panic!("{answer:?}"),
    };
    refused(master.order(GROUP, drain).await);
    for node in 4..=6 {
        let beat = |node| Heartbeat { group: OTHER, ..heartbeat(node) };
        refused(master.order(GROUP, drain).await);
        master.heartbeat(beat(node)).await.unwrap();
    }
    // Of two that are given at once, to two masters, one is done.
    let (one, two) = tokio::join!(master.order(GROUP, drain), another.order(OTHER, drain));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let (drained, left) = if one.is_ok() { (GROUP, OTHER) } else { (OTHER, GROUP) };
    refused(master.order(left, drain).await);
    // Given again it changes nothing, whatever the others do.
    master.order(drained, drain).await.unwrap();
    master.order(drained, GroupOrder::Weight(1)).await.unwrap();
    master.order(left, drain).await.unwrap();
    refused(master.order(drained, drain).await);
}

#[tokio::test]
async fn a_node_that_never_held_anything_is_forgotten() {
    let master = master(&Arc::default()).await;
    beat(&master, [1, 2]).await;
    tokio::time::sleep(TIMEOUT * 2).await;
    beat(&master, [1]).await;
    master.tick().await.unwrap();
    assert_eq!(states(&master).await, [Joining]);
    beat(&master, [3, 4]).await;
    assert_eq!(states(&master).await, [InSync, InSync, InSync]);
}

#[tokio::test]
async fn a_restarted_master_gives_nodes_time_and_hands_out_no_ids_before_they_report() {
    let meta = Arc::new(MemoryMeta::new());
    let first = master(&meta).await;
    beat(&first, 1..=3).await;
    let taken = first.allocate_chunks(GROUP, 100).await.unwrap();
    drop(first);
    tokio::time::sleep(TIMEOUT * 2).await;
    let second = master(&meta).await;
    second.tick().await.unwrap();
    assert_eq!(states(&second).await, [InSync, InSync, InSync]);
    assert!(matches!(second.allocate_chunks(GROUP, 1).await, Err(MasterError::Unavailable(_))));
    beat(&second, 1..=3).await;
    assert!(second.allocate_chunks(GROUP, 1).await.unwrap().start >= taken.end);
}

#[tokio::test]
async fn a_master_restored_from_an_old_backup_allocates_above_what_nodes_hold() {
    let master = master(&Arc::default()).await;
    for (node, highest) in [(1, 40), (2, 70), (3, 55)] {
        let report = Heartbeat { highest_chunk: Some(ChunkId::new(highest)), ..heartbeat(node) };
        master.heartbeat(report).await.unwrap();
    }
    assert_eq!(master.allocate_chunks(GROUP, 5).await.unwrap(), 71..76);
}

#[tokio::test]
async fn two_masters_over_one_store_agree() {
    let meta = Arc::new(MemoryMeta::new());
    let (one, two) = (master(&meta).await, master(&meta).await);
    beat(&one, [1, 2]).await;
    beat(&two, [3]).await;
    assert_eq!(one.topology().await.unwrap().groups[0].version.get(), 1);
    let mut ranges = Vec::new();
    for _ in 0..20 {
        let (a, b) = tokio::join!(one.allocate_chunks(GROUP, 7), two.allocate_chunks(GROUP, 3));
        ranges.extend([a.unwrap(), b.unwrap()]);
    }
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    // Nodes that report to one master are not lost to the other.
    for _ in 0..4 {
        tokio::time::sleep(TIMEOUT / 2).await;
        beat(&one, 1..=3).await;
        two.tick().await.unwrap();
    }
    assert_eq!(states(&two).await, [InSync, InSync, InSync]);
}
