//! A whole cluster in one thread and in virtual time: two masters over one store, two groups of three nodes that repair
//! themselves, clients that write, read and delete; and for a minute everything that can go wrong does. Afterwards nothing
//! that was acknowledged may be gone, no id may have been given twice, and the replicas must be equal.
//!
//! `SPEEDY_SEEDS=5000` runs more seeds than the tests do, `SPEEDY_SEED=17` one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::id::{FileId, GroupId, GroupVersion, NodeId};
use crate::meta::{Entry, KeyRange, MemoryMeta, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction};
use crate::payload::Payload;
use crate::placement::{
    Group, GroupOrder, Heartbeat, HeartbeatReply, Master, MasterError, MasterOptions, Member, StoredMaster,
    Topology,
};
use crate::replicate::{
    ChunkNode, FragmentError, Fragments, MemoryNode, Nodes, RelayNode, Repair, RepairOptions,
    ReplicationClient, ReplicationOptions, Routes,
};

const GROUPS: u32 = 2;
const MEMBERS: u32 = 3;
const CLIENTS: u64 = 3;
/// How long things go wrong.
const STORM: Duration = Duration::from_secs(60);
/// By when all is well again after that.
const CALM: Duration = Duration::from_secs(180);

/// A store whose clock is the simulation's.
#[derive(Debug)]
struct VirtualMeta {
    inner: MemoryMeta,
    start: Instant,
}

#[async_trait]
impl MetaStore for VirtualMeta {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.inner.get_many(keys).await
    }
    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.inner.scan(range, limit).await
    }
    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.inner.transact(transaction).await
    }
    async fn now(&self) -> Result<Timestamp, MetaError> {
        Ok(Timestamp(1 + self.start.elapsed().as_millis() as u64))
    }
}

/// Who can't reach whom.
#[derive(Debug, Default)]
struct Wires {
    cut: Mutex<HashSet<(String, String)>>,
}

impl Wires {
    fn carry(&self, from: &str, to: &str) -> bool {
        !self.cut.lock().contains(&(from.to_owned(), to.to_owned()))
    }
}

/// The masters as somebody reaches them: the first that answers.
#[derive(Debug)]
struct Masters {
    who: String,
    wires: Arc<Wires>,
    masters: Vec<(String, Arc<AtomicBool>, Arc<StoredMaster>)>,
}

impl Masters {
    fn reach(&self) -> Result<&StoredMaster, MasterError> {
        let answers = |(name, is_up, _): &&(String, Arc<AtomicBool>, _)| {
            is_up.load(Ordering::Relaxed) && self.wires.carry(&self.who, name)
        };
        let found = self.masters.iter().find(answers);
        found
            .map(|(_, _, master)| &**master)
            .ok_or_else(|| MasterError::Unavailable("no master answers".into()))
    }
}

#[async_trait]
impl Master for Masters {
    async fn topology(&self) -> Result<Topology, MasterError> {
        sleep(Duration::from_millis(1)).await;
        self.reach()?.topology().await
    }
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        sleep(Duration::from_millis(1)).await;
        self.reach()?.heartbeat(heartbeat).await
    }
    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        sleep(Duration::from_millis(1)).await;
        self.reach()?.allocate_chunks(group, count).await
    }
    async fn order(&self, group: GroupId, order: GroupOrder) -> Result<Group, MasterError> {
        self.reach()?.order(group, order).await
    }
}

/// The nodes as somebody reaches them.
#[derive(Debug)]
struct Network {
    who: String,
    wires: Arc<Wires>,
    nodes: Arc<HashMap<String, MemoryNode>>,
}

impl Nodes for Network {
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode> {
        if !self.wires.carry(&self.who, &member.address) {
            let nowhere = MemoryNode::new(GroupVersion::INITIAL);
            nowhere.faults(|faults| faults.down = true);
            return Arc::new(nowhere);
        }
        let onward = Self {
            who: member.address.clone(),
            wires: Arc::clone(&self.wires),
            nodes: Arc::clone(&self.nodes),
        };
        Arc::new(RelayNode::new(Arc::new(self.nodes[&member.address].clone()), Arc::new(onward)))
    }
}

/// A generator of numbers, the same for the same seed (xorshift; Marsaglia, 2003).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    chunks: BTreeMap<FileId, Bytes>,
    /// Every id that a write was ever acknowledged with.
    ever: HashSet<FileId>,
    /// Deletes that were begun; whether they were carried out is not known unless they were confirmed.
    deleting: HashSet<FileId>,
    unavailable: u64,
}

struct World {
    wires: Arc<Wires>,
    nodes: Arc<HashMap<String, MemoryNode>>,
    masters: Vec<(String, Arc<AtomicBool>, Arc<StoredMaster>)>,
    running: HashMap<String, Vec<JoinHandle<()>>>,
    told: Arc<Mutex<Told>>,
}

fn address(group: u32, member: u32) -> String {
    format!("{group}.{member}")
}

impl World {
    async fn new() -> Self {
        let meta = Arc::new(VirtualMeta { inner: MemoryMeta::new(), start: Instant::now() });
        let mut masters = Vec::new();
        for number in 1..=2 {
            let master = StoredMaster::new(meta.clone(), MasterOptions::default()).await.unwrap();
            let (master, is_up) = (Arc::new(master), Arc::new(AtomicBool::new(true)));
            let (ticking, up) = (Arc::clone(&master), Arc::clone(&is_up));
            tokio::spawn(async move {
                loop {
                    sleep(Duration::from_secs(1)).await;
                    if up.load(Ordering::Relaxed) {
                        let _ = ticking.tick().await;
                    }
                }
            });
            masters.push((format!("master-{number}"), is_up, master));
        }
        let all = (1..=GROUPS).flat_map(|group| (1..=MEMBERS).map(move |member| address(group, member)));
        let nodes: HashMap<_, _> = all.map(|at| (at, MemoryNode::new(GroupVersion::INITIAL))).collect();
        let mut world = Self {
            wires: Arc::default(),
            nodes: Arc::new(nodes),
            masters,
            running: HashMap::new(),
            told: Arc::default(),
        };
        for group in 1..=GROUPS {
            for member in 1..=MEMBERS {
                world.start(group, member);
            }
        }
        world
    }

    fn masters_of(&self, who: &str) -> Arc<dyn Master> {
        let (wires, masters) = (Arc::clone(&self.wires), self.masters.clone());
        Arc::new(Masters { who: who.to_owned(), wires, masters })
    }

    fn network_of(&self, who: &str) -> Arc<Network> {
        let (wires, nodes) = (Arc::clone(&self.wires), Arc::clone(&self.nodes));
        Arc::new(Network { who: who.to_owned(), wires, nodes })
    }

    /// What a chunk node's process does beside serving.
    fn start(&mut self, group: u32, member: u32) {
        let at = address(group, member);
        let node = self.nodes[&at].clone();
        node.faults(|faults| *faults = Default::default());
        let id = NodeId::from_bytes([(group * 16 + member) as u8; 16]);
        let master = self.masters_of(&at);
        let group = GroupId::new(group);
        let routes = Routes::follow(Arc::clone(&master), Duration::from_secs(1));
        let options = RepairOptions::default().interval(Duration::from_secs(20));
        let repair = Repair::new(Arc::new(node.clone()), id, group, routes, self.network_of(&at), options);
        let repairing = tokio::spawn(repair.clone().run());
        let beating = tokio::spawn(async move {
            loop {
                let mut beat = Heartbeat::new(id, group, at.clone());
                beat.highest_chunk = node.ids().last().copied();
                (beat.caught_up, beat.backlog) = (repair.caught_up(), repair.backlog());
                if let Ok(reply) = master.heartbeat(beat).await {
                    node.set_version(reply.version);
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        self.running.insert(address(group.get(), member), vec![repairing, beating]);
    }

    /// Ends a node's process, or makes it stand still.
    fn stop(&mut self, group: u32, member: u32, hangs: bool) {
        let at = address(group, member);
        self.running.remove(&at).into_iter().flatten().for_each(|task| task.abort());
        self.nodes[&at].faults(|faults| (faults.down, faults.hangs) = (!hangs, hangs));
    }

    fn client(&self, number: u64) -> ReplicationClient {
        let who = format!("client-{number}");
        let routes = Routes::follow(self.masters_of(&who), Duration::from_secs(1));
        let options = ReplicationOptions::new().with_id_range(16).unwrap();
        ReplicationClient::new(routes, self.network_of(&who), self.masters_of(&who), options)
    }

    /// One thing goes wrong, or is mended.
    fn disturb(&mut self, dice: &mut Dice) {
        let (group, member) = (1 + dice.below(GROUPS.into()) as u32, 1 + dice.below(MEMBERS.into()) as u32);
        let at = address(group, member);
        match dice.below(12) {
            0..=2 => self.stop(group, member, dice.below(3) == 0),
            3..=6 if !self.running.contains_key(&at) => self.start(group, member),
            7 => {
                let names: Vec<String> = self.nodes.keys().cloned().collect();
                let other = names[dice.below(names.len() as u64) as usize].clone();
                self.wires.cut.lock().insert((at, other));
            }
            8 => {
                let master = self.masters[dice.below(2) as usize].0.clone();
                self.wires.cut.lock().insert((at, master));
            }
            9 => {
                let client = format!("client-{}", dice.below(CLIENTS));
                self.wires.cut.lock().insert((client, at));
            }
            10 => {
                let master = &self.masters[dice.below(2) as usize].1;
                master.store(!master.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            _ => self.wires.cut.lock().clear(),
        }
    }

    fn mend(&mut self) {
        self.wires.cut.lock().clear();
        self.masters.iter().for_each(|(_, is_up, _)| is_up.store(true, Ordering::Relaxed));
        for group in 1..=GROUPS {
            for member in 1..=MEMBERS {
                if !self.running.contains_key(&address(group, member)) {
                    self.start(group, member);
                }
            }
        }
    }

    async fn is_well(&self) -> bool {
        let topology = self.masters[0].2.topology().await.unwrap();
        let complete =
            topology.groups.len() == GROUPS as usize && topology.groups.iter().all(Group::is_complete);
        complete && (1..=GROUPS).all(|group| self.holdings(group).windows(2).all(|pair| pair[0] == pair[1]))
    }

    fn holdings(&self, group: u32) -> Vec<Vec<crate::id::ChunkId>> {
        (1..=MEMBERS).map(|member| self.nodes[&address(group, member)].ids()).collect()
    }
}

async fn read(client: &ReplicationClient, file: FileId, length: u64) -> Result<Bytes, FragmentError> {
    let runs: Vec<_> = client.read(file, 0..length).await?.try_collect().await?;
    Ok(runs.into_iter().flat_map(|run| run.into_bytes().unwrap()).collect())
}

/// Writes, reads and deletes for ever.
async fn work(client: ReplicationClient, number: u64, seed: u64, told: Arc<Mutex<Told>>) {
    let mut dice = Dice::new(seed * 31 + number);
    for round in 0u64.. {
        sleep(Duration::from_millis(1 + dice.below(300))).await;
        let some = |told: &Told, at: u64| {
            let count = told.chunks.len().max(1) as u64;
            let found = told.chunks.iter().nth((at % count) as usize);
            found.map(|(file, data)| (*file, data.clone())).filter(|(file, _)| !told.deleting.contains(file))
        };
        match dice.below(10) {
            0..=5 => {
                let length = 1 + dice.below(200_000) as usize;
                let data: Bytes = (0..length).map(|at| (at as u64 ^ number ^ (round << 3)) as u8).collect();
                let owner = super::owner((number << 32) | round);
                let written = client.write(owner, Payload::new(vec![data.clone()])).await;
                let mut told = told.lock();
                match written {
                    Ok(file) => {
                        assert!(told.ever.insert(file), "chunk {file} was acknowledged twice (seed {seed})");
                        told.chunks.insert(file, data);
                    }
                    Err(FragmentError::Unavailable(_)) => told.unavailable += 1,
                    Err(error) => panic!("a write failed for good: {error} (seed {seed})"),
                }
            }
            6..=8 => {
                let found = some(&told.lock(), dice.below(1 << 20));
                let Some((file, data)) = found else { continue };
                match read(&client, file, data.len() as u64).await {
                    Ok(found) => assert!(found == data, "chunk {file} has other bytes (seed {seed})"),
                    Err(FragmentError::Unavailable(_)) => told.lock().unavailable += 1,
                    Err(error) => {
                        let is_deleted = told.lock().deleting.contains(&file);
                        assert!(is_deleted, "chunk {file} is gone: {error} (seed {seed})");
                    }
                }
            }
            _ => {
                let found = some(&told.lock(), dice.below(1 << 20));
                let Some((file, _)) = found else { continue };
                told.lock().deleting.insert(file);
                if client.delete(file).await.is_ok() {
                    told.lock().chunks.remove(&file);
                }
            }
        }
    }
}

async fn run(seed: u64) -> usize {
    let mut world = World::new().await;
    let mut dice = Dice::new(seed);
    sleep(Duration::from_secs(3)).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(work(world.client(number), number, seed, Arc::clone(&world.told))))
        .collect();
    let start = Instant::now();
    while start.elapsed() < STORM {
        sleep(Duration::from_millis(dice.below(4000))).await;
        world.disturb(&mut dice);
    }
    world.mend();
    sleep(Duration::from_secs(5)).await;
    for client in clients {
        client.abort();
        match client.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => {}
        }
    }
    let well = async {
        while !world.is_well().await {
            sleep(Duration::from_millis(500)).await;
        }
    };
    if timeout(CALM, well).await.is_err() {
        let topology = world.masters[0].2.topology().await;
        let held: Vec<_> = (1..=GROUPS).map(|group| world.holdings(group)).collect();
        panic!("the cluster does not recover (seed {seed}): {topology:?}\n{held:?}");
    }
    let reader = world.client(CLIENTS);
    sleep(Duration::from_secs(2)).await;
    let (files, deleting) = {
        let told = world.told.lock();
        let files: Vec<_> = told.chunks.iter().map(|(file, data)| (*file, data.clone())).collect();
        (files, told.deleting.clone())
    };
    for (file, data) in files.iter().filter(|(file, _)| !deleting.contains(file)) {
        let found = read(&reader, *file, data.len() as u64).await;
        assert!(
            found.as_ref() == Ok(data),
            "chunk {file} is lost (seed {seed}): {:?}",
            found.map(|it| it.len())
        );
    }
    // What was confirmed to be deleted stays so.
    let told = world.told.lock();
    for file in told.deleting.iter().filter(|file| !told.chunks.contains_key(file)) {
        let held = world.holdings(file.group.get());
        assert!(held.iter().all(|ids| !ids.contains(&file.chunk)), "chunk {file} is back (seed {seed})");
    }
    files.len()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_goes_wrong_nothing_acknowledged_is_lost_and_replicas_become_equal() {
    let seeds = match number("SPEEDY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SPEEDY_SEEDS").unwrap_or(40),
    };
    let (mut chunks, count) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        chunks += runtime.unwrap().block_on(run(seed));
    }
    // Otherwise the storms leave nothing to lose.
    assert!(chunks as u64 > 20 * count, "only {chunks} chunks were left in {count} runs");
}
