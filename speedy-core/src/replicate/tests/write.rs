use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::{Cluster, metrics, read};
use super::{bytes, owner, payload};
use crate::id::{ChunkId, GroupId, GroupVersion};
use crate::payload::Payload;
use crate::placement::{GroupChooser, MemberState};
use crate::replicate::ReplicationOptions;
use crate::replicate::{FragmentError, Fragments};

/// The group that the ring chooses for a chunk.
fn first_choice(cluster: &Cluster, number: u64) -> u32 {
    let topology = cluster.topology.borrow().clone();
    GroupChooser::new().candidates(&topology, owner(number), 1).unwrap()[0].get()
}

#[tokio::test]
async fn every_member_has_what_is_acknowledged() {
    let cluster = Cluster::new(4, 3);
    let client = cluster.client();
    for number in 0..40 {
        let file = client.write(owner(number), payload(100_000)).await.unwrap();
        assert_eq!(file.group.get(), first_choice(&cluster, number));
        for node in cluster.replicas(file) {
            assert!(node.ids().contains(&file.chunk));
        }
    }
    assert_eq!(cluster.chunks().len(), 40 * 3);
    let metrics = metrics(&client);
    assert_eq!((metrics.chunks_written, metrics.bytes_written), (40, 4_000_000));
    assert_eq!((metrics.write_retries, metrics.write_failovers), (0, 0));
}

#[tokio::test]
async fn with_a_member_down_the_chunk_goes_to_another_group() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    let group = first_choice(&cluster, 1);
    cluster.node(group, 2).faults(|faults| faults.down = true);
    let file = client.write(owner(1), payload(100_000)).await.unwrap();
    assert_ne!(file.group.get(), group);
    assert_eq!(metrics(&client).write_failovers, 1);
    // What the two good members took is gone again.
    cluster.settles_to(3).await;
    // The group that failed is not asked again at once, though it is the ring's choice.
    let before = metrics(&client);
    client.write(owner(1), payload(100_000)).await.unwrap();
    assert_eq!(metrics(&client).write_failovers, before.write_failovers);
}

#[tokio::test]
async fn without_another_group_the_error_names_the_node() {
    let cluster = Cluster::new(1, 3);
    cluster.node(1, 2).faults(|faults| faults.down = true);
    let error = cluster.client().write(owner(1), payload(1000)).await.unwrap_err();
    let FragmentError::Unavailable(text) = error else { panic!("{error:?}") };
    assert!(
        text.contains("group 1 failed") && text.contains("at 1.2: the chunk node is unavailable"),
        "{text}"
    );
    cluster.settles_to(0).await;
}

#[tokio::test]
async fn groups_with_too_few_in_sync_take_no_chunks_and_the_error_says_why() {
    let cluster = Cluster::new(2, 3);
    cluster.change(1, |group| {
        group.members[1].state = MemberState::Lost;
        group.members[2].state = MemberState::CatchingUp;
    });
    cluster.change(2, |group| group.members[0].state = MemberState::ReadOnly);
    let node = cluster.topology.borrow().groups[0].members[1].node;
    let error = cluster.client().write(owner(1), payload(1000)).await.unwrap_err();
    let FragmentError::Unavailable(text) = error else { panic!("{error:?}") };
    let lost = format!("group 1 has 1 of 3 members in sync: node {node} at 1.2 is lost, node");
    assert!(text.starts_with(&lost) && text.contains("at 1.3 is catching up; group 2"), "{text}");
    assert!(text.ends_with("at 2.1 is read-only"), "{text}");
    assert!(cluster.chunks().is_empty());
}

#[tokio::test]
async fn a_group_goes_on_with_two_of_three() {
    let cluster = Cluster::new(1, 3);
    cluster.change(1, |group| group.members[1].state = MemberState::Lost);
    cluster.tell(1);
    cluster.node(1, 2).faults(|faults| faults.hangs = true);
    cluster.client().write(owner(1), payload(1000)).await.unwrap();
    assert_eq!(cluster.chunks().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_outlasts_the_loss_of_a_member_of_the_only_group() {
    for hangs in [false, true] {
        let cluster = Cluster::new(1, 3);
        let client = cluster.client_with(ReplicationOptions::new());
        cluster.node(1, 2).faults(|faults| (faults.down, faults.hangs) = (!hangs, hangs));
        let start = Instant::now();
        let (written, ()) = tokio::join!(client.write(owner(1), payload(300_000)), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            cluster.change(1, |group| group.members[1].state = MemberState::Lost);
            cluster.tell(1);
        });
        let file = written.unwrap();
        // Whoever hangs is not waited for once it is lost: that would take ten seconds.
        assert!(start.elapsed() < Duration::from_millis(6_500), "{:?}", start.elapsed());
        assert_eq!(cluster.chunks().iter().filter(|(_, id)| *id == file.chunk).count(), 2);
    }
}

#[tokio::test]
async fn a_member_that_catches_up_gets_new_chunks_and_nobody_waits_for_it() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.change(1, |group| group.members[0].state = MemberState::CatchingUp);
    cluster.tell(1);
    client.write(owner(1), payload(900_000)).await.unwrap();
    cluster.settles_to(3).await;
    cluster.node(1, 1).faults(|faults| faults.hangs = true);
    let start = std::time::Instant::now();
    client.write(owner(2), payload(900_000)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(cluster.chunks().len(), 5);
    // While it settles it counts.
    cluster.change(1, |group| group.members[0].state = MemberState::Settling);
    cluster.tell(1);
    cluster.node(1, 1).faults(|faults| (faults.hangs, faults.down) = (false, true));
    client.write(owner(3), payload(1000)).await.unwrap_err();
}

#[tokio::test]
async fn without_any_group_the_error_says_so() {
    let cluster = Cluster::new(0, 0);
    let error = cluster.client().write(owner(1), payload(1000)).await.unwrap_err();
    assert!(error.to_string().contains("no group is known"), "{error}");
}

#[tokio::test]
async fn full_groups_are_passed_over_until_all_are_full() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    let group = first_choice(&cluster, 1);
    cluster.node(group, 1).faults(|faults| faults.full = true);
    let file = client.write(owner(1), payload(1000)).await.unwrap();
    assert_ne!(file.group.get(), group);
    cluster.node(3 - group, 3).faults(|faults| faults.full = true);
    let error = client.write(owner(1), payload(1000)).await.unwrap_err();
    assert!(matches!(error, FragmentError::Full(_)), "{error:?}");
    cluster.settles_to(3).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_id() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.node(1, 1).faults(|faults| faults.lose_answers = 1);
    cluster.node(1, 3).faults(|faults| faults.lose_answers = 1);
    let file = client.write(owner(1), payload(100_000)).await.unwrap();
    let metrics = metrics(&client);
    // The first one broke the chain.
    assert_eq!((metrics.chains_broken, metrics.write_retries), (1, 1));
    assert_eq!((metrics.chunks_written, metrics.id_conflicts), (1, 0));
    assert_eq!(cluster.chunks().len(), 3);
    assert_eq!(read(&client, file, 0..100_000).await.unwrap(), bytes(100_000));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_makes_no_progress_is_given_up() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    let group = first_choice(&cluster, 1);
    cluster.node(group, 2).faults(|faults| faults.hangs = true);
    let start = Instant::now();
    let file = client.write(owner(1), payload(1000)).await.unwrap();
    assert_ne!(file.group.get(), group);
    assert!((10..11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn progress_is_what_counts_and_not_the_length() {
    let options = ReplicationOptions::new().with_progress_timeout(Duration::from_millis(100)).unwrap();
    let watched = crate::replicate::progress::Progress::new();
    let mut frames = watched.frames(&payload(4 << 20));
    let slow = async {
        use futures_util::StreamExt;
        while frames.next().await.is_some() {
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    };
    let start = Instant::now();
    assert!(watched.watch(options.progress_timeout, slow).await.is_ok());
    assert_eq!(start.elapsed(), Duration::from_millis(90 * 16));
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_is_learned_and_the_id_kept() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    // The nodes have heard of the change and this client has not; one member even took the chunk before.
    for member in [1, 3] {
        cluster.node(1, member).set_version(GroupVersion::new(2));
    }
    let (file, ()) = tokio::join!(client.write(owner(1), payload(1000)), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.change(1, |_| {});
        cluster.tell(1);
    });
    assert_eq!(file.unwrap().chunk, ChunkId::new(1));
    assert_eq!(cluster.chunks().len(), 3);
    assert!(metrics(&client).write_retries > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_behind_is_waited_for() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.change(1, |_| {});
    let (file, ()) = tokio::join!(client.write(owner(1), payload(1000)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.tell(1);
    });
    assert_eq!(file.unwrap().chunk, ChunkId::new(1));
    assert_eq!(cluster.chunks().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_agrees_on_is_given_up() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    let group = first_choice(&cluster, 1);
    cluster.node(group, 2).set_version(GroupVersion::new(9));
    let start = Instant::now();
    let file = client.write(owner(1), payload(1000)).await.unwrap();
    assert_ne!(file.group.get(), group);
    assert!((3..4).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    cluster.settles_to(3).await;
}

#[tokio::test]
async fn an_id_that_is_taken_is_replaced_and_counted() {
    let cluster = Cluster::new(1, 3);
    cluster.client().write(owner(1), payload(1000)).await.unwrap();
    // Another process, and a master that lost its memory.
    cluster.master.forget(GroupId::new(1));
    let client = cluster.client();
    let file = client.write(owner(2), payload(2000)).await.unwrap();
    assert_eq!(file.chunk, ChunkId::new(2));
    assert_eq!(metrics(&client).id_conflicts, 1);
}

#[tokio::test]
async fn a_payload_that_lies_is_refused_and_leaves_nothing() {
    let cluster = Cluster::new(2, 3);
    let lie = Payload::with_checksum(vec![bytes(1000)], 1);
    let error = cluster.client().write(owner(1), lie).await.unwrap_err();
    assert!(matches!(error, FragmentError::Invalid(_)), "{error:?}");
    cluster.settles_to(0).await;
}

#[tokio::test]
async fn a_dropped_write_is_cleaned_up() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.node(1, 3).faults(|faults| faults.hangs = true);
    let write = client.write(owner(1), payload(1000));
    assert!(tokio::time::timeout(Duration::from_millis(50), write).await.is_err());
    cluster.settles_to(0).await;
    // The tombstones refuse what may still be on its way.
    cluster.node(1, 3).faults(|faults| faults.hangs = false);
    assert_eq!(client.write(owner(1), payload(1000)).await.unwrap().chunk, ChunkId::new(2));
}

#[tokio::test(start_paused = true)]
async fn writes_go_on_without_a_master_until_the_ids_are_used_up() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client_with(ReplicationOptions::new().with_id_range(100).unwrap());
    client.write(owner(0), payload(10)).await.unwrap();
    cluster.master.down.store(true, Ordering::Relaxed);
    for number in 1..100 {
        client.write(owner(number), payload(10)).await.unwrap();
    }
    let error = client.write(owner(100), payload(10)).await.unwrap_err();
    assert!(
        error.to_string().contains("group 1 has no chunk ids left: the master is unavailable"),
        "{error}"
    );
    cluster.master.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.write(owner(100), payload(10)).await.unwrap();
    assert_eq!(cluster.chunks().len(), 303);
}
