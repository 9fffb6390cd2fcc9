use std::time::Duration;

use super::*;
use crate::meta::MemoryMeta;
use crate::placement::MemberState;
use crate::placement::conformance::{self, beat, fill, node};

const GROUP: GroupId = GroupId::new(1);
const TIMEOUT: Duration = Duration::from_secs(5);

fn store() -> Arc<dyn MetaStore> {
    Arc::new(MemoryMeta::new())
}

async fn open(meta: &Arc<dyn MetaStore>) -> StoredMaster {
    StoredMaster::open(Arc::clone(meta), MasterOptions::default()).await.unwrap()
}

async fn states(master: &StoredMaster) -> (u64, Vec<MemberState>) {
    let topology = master.topology().await.unwrap();
    let group = topology.group(GROUP).unwrap();
    (group.version.get(), group.members.iter().map(|member| member.state).collect())
}

/// Lets seconds pass, in which these nodes report to `heard` and all masters tick.
async fn pass(seconds: u64, masters: &[&StoredMaster], heard: &StoredMaster, nodes: &[u8]) {
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        for &number in nodes {
            heard.heartbeat(beat(number, GROUP)).await.unwrap();
        }
        for master in masters {
            master.tick().await.unwrap();
        }
    }
}

use MemberState::{InSync, Joining, Lost};

#[tokio::test]
async fn the_stored_master_conforms() {
    conformance::run_all(|| async {
        let master = StoredMaster::open(store(), MasterOptions::default()).await.unwrap();
        Arc::new(master) as Arc<dyn Master>
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_lost_and_comes_back() {
    let meta = store();
    let master = open(&meta).await;
    fill(&master, GROUP, [1, 2, 3]).await;
    pass(30, &[&master], &master, &[1, 2, 3]).await;
    assert_eq!(states(&master).await, (1, vec![InSync; 3]));

    pass(4, &[&master], &master, &[1, 2]).await;
    assert_eq!(states(&master).await, (1, vec![InSync; 3]), "not before the timeout");
    pass(2, &[&master], &master, &[1, 2]).await;
    assert_eq!(states(&master).await, (2, vec![InSync, InSync, Lost]));
    assert!(!master.topology().await.unwrap().group(GROUP).unwrap().is_complete());
    assert_eq!(states(&open(&meta).await).await, (2, vec![InSync, InSync, Lost]), "it is in the store");
    pass(30, &[&master], &master, &[1, 2]).await;
    assert_eq!(states(&master).await, (2, vec![InSync, InSync, Lost]), "a member is lost once");

    let reply = master.heartbeat(beat(3, GROUP)).await.unwrap();
    assert_eq!(reply, HeartbeatReply::new(GroupVersion::new(3), InSync));
    pass(30, &[&master], &master, &[1, 2, 3]).await;
    assert_eq!(states(&master).await, (3, vec![InSync; 3]));
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_empty_directory_does_not_take_the_place_of_the_one_it_was() {
    let master = open(&store()).await;
    fill(&master, GROUP, [1, 2, 3]).await;
    pass(10, &[&master], &master, &[1, 2]).await;
    let emptied = Heartbeat::new(node(9), GROUP, beat(3, GROUP).address);
    let error = master.heartbeat(emptied).await.unwrap_err();
    assert!(error.to_string().contains("Start the node with the directory that it had"), "{error}");
    assert_eq!(states(&master).await, (2, vec![InSync, InSync, Lost]));
}

#[tokio::test(start_paused = true)]
async fn a_master_that_starts_gives_members_a_full_timeout() {
    let meta = store();
    let first = open(&meta).await;
    fill(&first, GROUP, [1, 2, 3]).await;
    drop(first);
    tokio::time::advance(TIMEOUT * 100).await;
    let second = open(&meta).await;
    pass(4, &[&second], &second, &[]).await;
    assert_eq!(states(&second).await, (1, vec![InSync; 3]));
    pass(2, &[&second], &second, &[1, 2]).await;
    assert_eq!(states(&second).await, (2, vec![InSync, InSync, Lost]));
}

#[tokio::test(start_paused = true)]
async fn a_master_that_was_stopped_for_a_while_asks_before_it_judges() {
    let master = open(&store()).await;
    fill(&master, GROUP, [1, 2, 3]).await;
    tokio::time::advance(TIMEOUT * 10).await;
    master.tick().await.unwrap();
    master.tick().await.unwrap();
    pass(10, &[&master], &master, &[1, 2, 3]).await;
    assert_eq!(states(&master).await, (1, vec![InSync; 3]));
}

#[tokio::test(start_paused = true)]
async fn a_master_that_hears_vouches_for_a_node_to_one_that_does_not() {
    let meta = store();
    let (hears, deaf) = (open(&meta).await, open(&meta).await);
    fill(&hears, GROUP, [1, 2, 3]).await;
    pass(60, &[&hears, &deaf], &hears, &[1, 2, 3]).await;
    assert_eq!(states(&deaf).await, (1, vec![InSync; 3]));
    pass(8, &[&hears, &deaf], &hears, &[1, 2]).await;
    assert_eq!(states(&deaf).await, (2, vec![InSync, InSync, Lost]), "what neither hears is lost, once");
    assert_eq!(deaf.topology().await.unwrap().revision, hears.topology().await.unwrap().revision);
    let left = meta.scan(KeyRange::prefix("m/doubt/"), 10).await.unwrap();
    assert!(left.entries.iter().all(|entry| entry.key != doubt_key(node(3))), "the doubt is settled");
}

#[tokio::test]
async fn two_masters_over_one_store_agree() {
    let meta = store();
    let (left, right) = (open(&meta).await, open(&meta).await);
    left.heartbeat(beat(1, GROUP)).await.unwrap();
    right.heartbeat(beat(2, GROUP)).await.unwrap();
    let reply = left.heartbeat(beat(3, GROUP)).await.unwrap();
    assert_eq!(reply.version, GroupVersion::new(1));
    assert_eq!(right.heartbeat(beat(1, GROUP)).await.unwrap(), reply);
    assert_eq!(left.topology().await.unwrap(), right.topology().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_masters_over_one_store_never_hand_out_an_id_twice() {
    let meta = store();
    let masters = [Arc::new(open(&meta).await), Arc::new(open(&meta).await)];
    for master in &masters {
        fill(&**master, GROUP, [1, 2, 3]).await;
    }
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let master = Arc::clone(&masters[task % 2]);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for count in 1..20 {
                    ids.extend(master.allocate_chunks(GROUP, count).await.unwrap());
                }
                ids
            })
        })
        .collect();
    let mut all = std::collections::HashSet::new();
    for task in tasks {
        for id in task.await.unwrap() {
            assert!(all.insert(id), "{id} was handed out twice");
        }
    }
    assert_eq!(all.len(), 8 * (1..20).sum::<usize>());
}

#[tokio::test]
async fn a_restored_master_allocates_above_what_nodes_hold() {
    let (meta, backup) = (store(), store());
    let before = open(&meta).await;
    fill(&before, GROUP, [1, 2, 3]).await;
    before.allocate_chunks(GROUP, 10).await.unwrap();
    for entry in meta.scan(KeyRange::prefix("m/"), 100).await.unwrap().entries {
        let copy = Transaction::new().write(Write::Put(entry.key, entry.value));
        assert!(backup.transact(copy).await.unwrap().is_committed());
    }
    let late = before.allocate_chunks(GROUP, 1000).await.unwrap();

    let restored = open(&backup).await;
    for number in 1..=3 {
        let error = restored.allocate_chunks(GROUP, 1).await.unwrap_err();
        assert!(
            matches!(&error, MasterError::Unavailable(reason) if reason.contains("not heard from")),
            "{error}"
        );
        let mut heartbeat = beat(number, GROUP);
        // Only one of them had committed the last chunk when the disk of the metadata store went.
        heartbeat.highest_chunk = Some(ChunkId::new(if number == 2 { late.end - 1 } else { 5 }));
        restored.heartbeat(heartbeat).await.unwrap();
    }
    assert_eq!(restored.allocate_chunks(GROUP, 10).await.unwrap().start, late.end);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_went_before_the_group_was_complete_holds_no_place() {
    let master = open(&store()).await;
    master.heartbeat(beat(1, GROUP)).await.unwrap();
    // Its directory was emptied, so that it is another node at the same address.
    master.heartbeat(Heartbeat::new(node(7), GROUP, beat(1, GROUP).address)).await.unwrap();
    master.heartbeat(beat(2, GROUP)).await.unwrap();
    assert_eq!(states(&master).await, (0, vec![Joining; 2]));
    tokio::time::advance(TIMEOUT).await;
    master.heartbeat(beat(2, GROUP)).await.unwrap();
    master.heartbeat(beat(3, GROUP)).await.unwrap();
    let members: Vec<NodeId> =
        master.topology().await.unwrap().groups[0].members.iter().map(|member| member.node).collect();
    assert_eq!(members, [node(2), node(3)]);
}

#[tokio::test]
async fn the_number_of_replicas_is_fixed_when_a_group_is_complete() {
    let meta = store();
    let three = open(&meta).await;
    three.heartbeat(beat(1, GROUP)).await.unwrap();
    let options = MasterOptions::default().replicas(1);
    let one = StoredMaster::open(Arc::clone(&meta), options).await.unwrap();
    assert_eq!(one.heartbeat(beat(1, GROUP)).await.unwrap().state, InSync);
    assert_eq!(three.heartbeat(beat(1, GROUP)).await.unwrap().state, InSync);
    assert!(matches!(three.heartbeat(beat(2, GROUP)).await, Err(MasterError::Refused(_))));
    assert!(three.topology().await.unwrap().group(GROUP).unwrap().is_complete());
}

#[tokio::test]
async fn options_out_of_bounds_are_refused() {
    for options in [
        MasterOptions::default().replicas(0),
        MasterOptions::default().heartbeat_timeout(Duration::from_millis(999)),
    ] {
        let refused = StoredMaster::open(store(), options).await;
        assert!(matches!(refused, Err(MasterError::Refused(_))));
    }
}

#[tokio::test]
async fn heartbeats_write_nothing_while_all_is_well() {
    let meta = store();
    let master = open(&meta).await;
    fill(&master, GROUP, [1, 2, 3]).await;
    let marker = || Transaction::new().write(Write::Put("marker".into(), Bytes::new()));
    let Outcome::Committed(before) = meta.transact(marker()).await.unwrap() else {
        panic!("no check failed")
    };
    for _ in 0..10 {
        fill(&master, GROUP, [1, 2, 3]).await;
        master.tick().await.unwrap();
    }
    let Outcome::Committed(after) = meta.transact(marker()).await.unwrap() else { panic!("no check failed") };
    assert_eq!(after.0, before.0 + 1, "no commit between the two");
}
