use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;

use super::*;
use crate::checksum::crc32c;
use crate::id::{BlobId, ChunkId, Owner};
use crate::placement::{Group, Topology};
use crate::replicate::MemoryNode;

const GROUP: GroupId = GroupId::new(1);

/// Two members of a group and the repair of the first.
#[derive(Debug)]
struct Pair {
    nodes: [MemoryNode; 3],
    topology: watch::Sender<std::sync::Arc<Topology>>,
    repair: Repair,
}

#[derive(Debug)]
struct Known([MemoryNode; 3]);

impl Nodes for Known {
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode> {
        Arc::new(self.0[usize::from(member.node.as_bytes()[0])].clone())
    }
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn three(first: MemberState) -> Pair {
    let nodes = [(); 3].map(|()| MemoryNode::new(GroupVersion::new(1)));
    let member = |number: u8| {
        let state = if number == 0 { first } else { MemberState::InSync };
        Member::new(node_id(number), number.to_string(), state)
    };
    let members = (0..3).map(member).collect();
    let group = Group { id: GROUP, version: GroupVersion::new(1), replicas: 3, weight: 1, members };
    let topology = Topology { revision: 1, groups: vec![group] };
    let topology = watch::channel(std::sync::Arc::new(topology)).0;
    let routes = Routes::new(topology.subscribe());
    let known = Arc::new(Known(nodes.clone()));
    let local = Arc::new(nodes[0].clone());
    let repair = Repair::new(local, node_id(0), GROUP, routes, known, RepairOptions::default());
    Pair { nodes, topology, repair }
}

fn content(number: u64) -> Bytes {
    let length = [1, 1000, 65_536, 300_000][(number % 4) as usize];
    (0..length).map(|at: u64| (at * 7 + number) as u8).collect()
}

async fn put(node: &MemoryNode, number: u64) {
    let data = content(number);
    let owner = Owner { blob: BlobId::from_bytes([1; 16]), offset: number };
    let version = node.holdings().await.unwrap().version.unwrap();
    let header = WriteHeader::new(ChunkId::new(number), owner, data.len() as u64, crc32c(&data), version);
    node.write(header, stream::iter([Ok(data)]).boxed()).await.unwrap();
}

use crate::replicate::WriteHeader;

async fn delete(node: &MemoryNode, number: u64) {
    let version = node.holdings().await.unwrap().version.unwrap();
    node.delete(ChunkId::new(number), version).await.unwrap();
}

fn ids(node: &MemoryNode) -> Vec<u64> {
    node.ids().into_iter().map(ChunkId::get).collect()
}

async fn has_caught_up(pair: &Pair, version: u64) {
    for _ in 0..1000 {
        if pair.repair.caught_up() == Some(GroupVersion::new(version)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it has not caught up with version {version}: {:?}", pair.repair.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_gets_what_it_missed_and_what_was_deleted() {
    let pair = three(MemberState::CatchingUp);
    // Over several ranges of ids.
    let numbers: Vec<u64> = (1..40).map(|number| number * 10_007).collect();
    for &number in &numbers {
        put(&pair.nodes[1], number).await;
        put(&pair.nodes[2], number).await;
    }
    for &number in &numbers[..10] {
        put(&pair.nodes[0], number).await;
    }
    for &number in &numbers[5..15] {
        delete(&pair.nodes[1], number).await;
        delete(&pair.nodes[2], number).await;
    }
    // What only it has is for the others to fetch.
    put(&pair.nodes[0], 7).await;
    let task = tokio::spawn(pair.repair.clone().run());
    has_caught_up(&pair, 1).await;
    let mut expected = ids(&pair.nodes[1]);
    expected.insert(0, 7);
    assert_eq!(ids(&pair.nodes[0]), expected);
    let done = pair.repair.snapshot();
    assert_eq!((done.chunks_fetched, done.deletes_taken, done.failures), (24, 10, 0));
    assert_eq!(done.backlog, Backlog::default());
    for &number in &numbers[15..] {
        let stat = pair.nodes[0].stat(ChunkId::new(number)).await.unwrap();
        assert_eq!((stat.checksum, stat.owner.offset), (crc32c(&content(number)), number));
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn nobody_has_caught_up_with_a_version_that_the_source_does_not_know() {
    let pair = three(MemberState::CatchingUp);
    put(&pair.nodes[1], 1).await;
    put(&pair.nodes[2], 1).await;
    pair.nodes[0].set_version(GroupVersion::new(2));
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(pair.repair.caught_up(), None);
    pair.nodes[2].set_version(GroupVersion::new(2));
    has_caught_up(&pair, 2).await;
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_gives_way_to_another() {
    let pair = three(MemberState::CatchingUp);
    for number in 1..30 {
        put(&pair.nodes[1], number).await;
        put(&pair.nodes[2], number).await;
    }
    pair.nodes[1].faults(|faults| faults.corrupt_byte = Some(0));
    pair.nodes[2].faults(|faults| faults.break_reads_at = Some(65_536));
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(pair.repair.caught_up(), None, "the long ones can't be had");
    assert!(ids(&pair.nodes[0]).len() > 10, "the others can");
    pair.nodes[1].faults(|faults| *faults = Default::default());
    has_caught_up(&pair, 1).await;
    assert_eq!(ids(&pair.nodes[0]), ids(&pair.nodes[1]));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn replicas_in_sync_become_equal_and_what_is_on_its_way_is_left_alone() {
    let pair = three(MemberState::InSync);
    put(&pair.nodes[1], 1).await;
    delete(&pair.nodes[2], 2).await;
    put(&pair.nodes[0], 2).await;
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ids(&pair.nodes[0]), [2], "it might have been on its way");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(ids(&pair.nodes[0]), [1]);
    assert!(matches!(pair.nodes[0].stat(ChunkId::new(2)).await, Err(NodeError::Deleted(_))));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn one_that_was_cut_off_while_it_ran_catches_up_as_soon_as_it_hears_of_it() {
    let pair = three(MemberState::InSync);
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(5)).await;
    put(&pair.nodes[1], 1).await;
    put(&pair.nodes[2], 1).await;
    pair.topology.send_modify(|topology| {
        let mut changed = Topology::clone(topology);
        changed.groups[0].members[0].state = MemberState::CatchingUp;
        *topology = std::sync::Arc::new(changed);
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.repair.caught_up(), Some(GroupVersion::new(1)), "not only when a comparison is due");
    assert_eq!(ids(&pair.nodes[0]), [1]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn it_keeps_to_its_rate_and_says_what_is_left() {
    let mut pair = three(MemberState::CatchingUp);
    let mut bytes = 0;
    for number in 1..40 {
        bytes += content(number).len() as u64;
        put(&pair.nodes[1], number).await;
        put(&pair.nodes[2], number).await;
    }
    let routes = Routes::new(pair.topology.subscribe());
    let options = RepairOptions::default().bytes_per_second(Some(bytes / 100));
    let known = Arc::new(Known(pair.nodes.clone()));
    let local = Arc::new(pair.nodes[0].clone());
    pair.repair = Repair::new(local, node_id(0), GROUP, routes, known, options);
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(50)).await;
    let backlog = pair.repair.backlog();
    let done = pair.repair.snapshot().bytes_fetched;
    assert!((bytes / 4..bytes * 3 / 4).contains(&done), "{done} of {bytes}");
    assert!(backlog.bytes == bytes - done && (1..39).contains(&backlog.chunks), "{backlog:?}");
    assert!((bytes / 200..bytes / 50).contains(&backlog.bytes_per_second), "{backlog:?}");
    has_caught_up(&pair, 1).await;
    task.abort();
}

/// One that stood still, say: its comparison goes on where it was, and by its end the master has given it up.
#[tokio::test(start_paused = true)]
async fn one_that_falls_behind_during_a_comparison_does_not_rest_after_it() {
    let pair = three(MemberState::InSync);
    let task = tokio::spawn(pair.repair.clone().run());
    tokio::time::sleep(Duration::from_secs(30)).await;
    for node in &pair.nodes[1..] {
        put(node, 1).await;
        node.faults(|faults| faults.delay = Duration::from_secs(3));
    }
    // The next comparison.
    tokio::time::sleep(Duration::from_secs(31)).await;
    pair.topology.send_modify(|topology| {
        let mut now = Topology::clone(topology);
        now.revision += 1;
        now.groups[0].members[0].state = MemberState::CatchingUp;
        *topology = std::sync::Arc::new(now);
    });
    let began = tokio::time::Instant::now();
    has_caught_up(&pair, 1).await;
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    assert_eq!(ids(&pair.nodes[0]), [1]);
    task.abort();
}
