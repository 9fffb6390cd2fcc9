use std::sync::atomic::AtomicU64;

use super::*;
use crate::id::{ChunkId, GroupVersion};
use crate::meta::{MemoryMeta, Page};

const GROUP: GroupId = GroupId::new(1);
const SECOND: Duration = Duration::from_secs(1);

/// A metadata store with a clock that the test sets, and that can be away.
#[derive(Debug, Default)]
struct Timed {
    inner: MemoryMeta,
    /// Milliseconds.
    clock: AtomicU64,
    is_away: AtomicBool,
}

impl Timed {
    fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn ask(&self) -> Result<&MemoryMeta, MetaError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(MetaError::Unavailable("it is away".into())),
            false => Ok(&self.inner),
        }
    }
}

#[async_trait]
impl MetaStore for Timed {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.ask()?.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.ask()?.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.ask()?.transact(transaction).await
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.ask().map(|_| Timestamp(1_000_000 + self.clock.load(Ordering::Relaxed)))
    }
}

async fn master(meta: &Arc<Timed>) -> Arc<StoredMaster> {
    Arc::new(StoredMaster::new(meta.clone(), MasterOptions::default()).await.unwrap())
}

/// So many seconds in which nobody says anything but these nodes.
async fn seconds(count: u32, meta: &Timed, master: &StoredMaster, nodes: &[u8]) {
    for _ in 0..count {
        meta.pass(SECOND);
        beat(master, nodes.iter().copied()).await;
        master.tick().await.unwrap();
    }
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
    let meta = Arc::default();
    let master = master(&meta).await;
    beat(&master, 1..=3).await;
    seconds(5, &meta, &master, &[1, 3]).await;
    assert_eq!(states(&master).await, [InSync, InSync, InSync]);
    seconds(1, &meta, &master, &[1, 3]).await;
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
    let meta = Arc::default();
    let master = master(&meta).await;
    beat(&master, 1..=3).await;
    seconds(6, &meta, &master, &[1]).await;
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
    let meta = Arc::default();
    let master = master(&meta).await;
    beat(&master, [1, 2]).await;
    seconds(6, &meta, &master, &[1]).await;
    assert_eq!(states(&master).await, [Joining]);
    beat(&master, [3, 4]).await;
    assert_eq!(states(&master).await, [InSync, InSync, InSync]);
}

#[tokio::test]
async fn a_restarted_master_gives_nodes_time_and_hands_out_no_ids_before_they_report() {
    let meta = Arc::default();
    let first = master(&meta).await;
    beat(&first, 1..=3).await;
    let taken = first.allocate_chunks(GROUP, 100).await.unwrap();
    drop(first);
    meta.pass(10 * SECOND);
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
    let meta = Arc::default();
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
    for _ in 0..20 {
        meta.pass(SECOND);
        beat(&one, 1..=3).await;
        two.tick().await.unwrap();
    }
    assert_eq!(states(&two).await, [InSync, InSync, InSync]);
    // Nor are they sooner than to the first, which has heard them last.
    seconds(5, &meta, &two, &[]).await;
    assert_eq!(states(&two).await, [InSync, InSync, InSync]);
    seconds(3, &meta, &two, &[]).await;
    assert_eq!(states(&two).await, [Lost, Lost, Lost]);
}

#[tokio::test]
async fn nobody_is_lost_while_nobody_could_be_heard() {
    let meta = Arc::default();
    let master = master(&meta).await;
    beat(&master, 1..=3).await;
    seconds(2, &meta, &master, &[]).await;
    meta.is_away.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        meta.pass(SECOND);
        master.tick().await.unwrap_err();
        master.heartbeat(heartbeat(1)).await.unwrap_err();
    }
    meta.is_away.store(false, Ordering::Relaxed);
    // Five seconds from now on, for everybody.
    seconds(5, &meta, &master, &[1]).await;
    assert_eq!(states(&master).await, [InSync, InSync, InSync]);
    seconds(2, &meta, &master, &[1]).await;
    assert_eq!(states(&master).await, [InSync, Lost, Lost]);
    // The master itself stood still, and its first look comes before the first heartbeat.
    beat(&master, 2..=3).await;
    meta.pass(10 * SECOND);
    master.tick().await.unwrap();
    assert!(!states(&master).await[..2].contains(&Lost), "{:?}", states(&master).await);
}

#[tokio::test]
async fn two_nodes_are_not_at_one_address() {
    let meta = Arc::default();
    let master = master(&meta).await;
    beat(&master, 1..=3).await;
    let moved = |node, address: &str| Heartbeat { address: address.into(), ..heartbeat(node) };
    let refused = master.heartbeat(moved(3, "h2:1")).await.unwrap_err();
    assert!(matches!(&refused, MasterError::Refused(why) if why.contains("--advertise")), "{refused}");
    // The other one is where it was, whoever claims to be there.
    beat(&master, [2]).await;
    master.heartbeat(moved(3, "h2:1")).await.unwrap_err();
    // Once it is gone its address is free, as for a machine that takes over that of another.
    seconds(6, &meta, &master, &[1]).await;
    master.heartbeat(moved(3, "h2:1")).await.unwrap();
    // Two change places: each says where it is now, and the first is heard as the second has said so.
    master.heartbeat(moved(1, "h2:1")).await.unwrap_err();
    master.heartbeat(moved(3, "h1:1")).await.unwrap();
    master.heartbeat(moved(1, "h2:1")).await.unwrap();
    let group = master.topology().await.unwrap().groups[0].clone();
    let addresses: Vec<_> = group.members.iter().map(|member| member.address.as_str()).collect();
    assert_eq!(addresses, ["h2:1", "h2:1", "h1:1"]);
}
