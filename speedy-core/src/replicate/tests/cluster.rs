use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::id::{ChunkId, FileId, GroupId, GroupVersion, NodeId};
use crate::placement::{
    Group, Heartbeat, HeartbeatReply, Master, MasterError, Member, MemberState, Topology,
};
use crate::replicate::{
    ChunkNode, MemoryNode, Nodes, RelayNode, ReplicationClient, ReplicationOptions, ReplicationSnapshot,
    Routes,
};
use crate::replicate::{FragmentError, Fragments};

/// A master that hands out ids, and fails on demand.
#[derive(Debug, Default)]
pub(in crate::replicate) struct TestMaster {
    next: Mutex<HashMap<GroupId, u64>>,
    pub(in crate::replicate) down: AtomicBool,
    /// Answers are lost: the range is handed out, and nobody hears of it.
    pub(in crate::replicate) lose_answers: AtomicU32,
    /// Every other call fails.
    pub(in crate::replicate) flaky: AtomicBool,
    pub(in crate::replicate) calls: AtomicU32,
    pub(in crate::replicate) topology: Mutex<Topology>,
}

impl TestMaster {
    /// Makes the master hand out a range again that it handed out before.
    pub(in crate::replicate) fn forget(&self, group: GroupId) {
        self.next.lock().remove(&group);
    }
}

#[async_trait]
impl Master for TestMaster {
    async fn topology(&self) -> Result<Topology, MasterError> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(MasterError::Unavailable("connection refused".into())),
            false => Ok(self.topology.lock().clone()),
        }
    }

    async fn heartbeat(&self, _: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        Err(MasterError::Refused("this master has no use for heartbeats".into()))
    }

    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let unavailable = |text: &str| Err(MasterError::Unavailable(text.into()));
        if self.down.load(Ordering::Relaxed) {
            return unavailable("connection refused");
        }
        let range = {
            let mut next = self.next.lock();
            let next = next.entry(group).or_insert(1);
            let range = *next..*next + u64::from(count);
            *next = range.end;
            range
        };
        let lose = |left: u32| left.checked_sub(1);
        if self.lose_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_ok() {
            return unavailable("connection reset");
        }
        match self.flaky.load(Ordering::Relaxed) && call.is_multiple_of(2) {
            true => unavailable("overloaded"),
            false => Ok(range),
        }
    }
}

/// Options of a client that does not wait for a group to go on without a member.
fn hasty() -> ReplicationOptions {
    ReplicationOptions::new().with_failover_wait(Duration::from_millis(10)).unwrap()
}

/// Groups of nodes in memory, with a master.
#[derive(Debug)]
pub(in crate::replicate) struct Cluster {
    nodes: Arc<Addresses>,
    /// Links between nodes that are down, one way.
    pub(in crate::replicate) cuts: Arc<Mutex<HashSet<Way>>>,
    /// Who asked whom, nobody for a client, since this was last emptied.
    pub(in crate::replicate) dialled: Arc<Mutex<Vec<Way>>>,
    pub(in crate::replicate) master: Arc<TestMaster>,
    pub(in crate::replicate) topology: watch::Sender<Arc<Topology>>,
}

#[derive(Debug, Default)]
struct Addresses(HashMap<String, MemoryNode>);

impl Nodes for Addresses {
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode> {
        Arc::new(self.0[&member.address].clone())
    }
}

/// From whom, nobody for a client, to whom.
pub(in crate::replicate) type Way = (Option<String>, String);

/// The nodes as another one, or a client, reaches them; they pass chunks on.
#[derive(Debug)]
struct Network {
    nodes: Arc<Addresses>,
    /// Whoever asks; nobody for a client.
    from: Option<String>,
    cuts: Arc<Mutex<HashSet<Way>>>,
    dialled: Arc<Mutex<Vec<Way>>>,
}

impl Nodes for Network {
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode> {
        let there = Self {
            nodes: Arc::clone(&self.nodes),
            from: Some(member.address.clone()),
            cuts: Arc::clone(&self.cuts),
            dialled: Arc::clone(&self.dialled),
        };
        let way = (self.from.clone(), member.address.clone());
        self.dialled.lock().push(way.clone());
        if self.cuts.lock().contains(&way) {
            let nowhere = MemoryNode::new(GroupVersion::new(1));
            nowhere.faults(|faults| faults.down = true);
            return Arc::new(nowhere);
        }
        let relay = RelayNode::new(self.nodes.node(member), Arc::new(there));
        Arc::new(relay.patience(Duration::from_millis(400)))
    }
}

impl Cluster {
    /// Complete groups 1, 2... of version 1, with so many members each. Member 2 of group 1 is at "1.2".
    pub(in crate::replicate) fn new(groups: u32, members: u32) -> Self {
        let mut nodes = Addresses::default();
        let mut topology = Topology { revision: 1, groups: Vec::new() };
        for group in 1..=groups {
            let members = (1..=members).map(|member| {
                let address = format!("{group}.{member}");
                nodes.0.insert(address.clone(), MemoryNode::new(GroupVersion::new(1)));
                let node = NodeId::from_bytes([(group * 16 + member) as u8; 16]);
                Member::new(node, address, MemberState::InSync)
            });
            let members: Vec<_> = members.collect();
            topology.groups.push(Group {
                id: GroupId::new(group),
                version: GroupVersion::new(1),
                replicas: members.len() as u32,
                weight: 1,
                members,
            });
        }
        let topology = watch::channel(Arc::new(topology)).0;
        let (cuts, dialled) = (Arc::default(), Arc::default());
        Self { nodes: Arc::new(nodes), cuts, dialled, master: Arc::default(), topology }
    }

    pub(in crate::replicate) fn client(&self) -> ReplicationClient {
        self.client_with(hasty())
    }

    pub(in crate::replicate) fn client_with(&self, options: ReplicationOptions) -> ReplicationClient {
        self.client_through(self.network(), options)
    }

    /// The nodes as a client reaches them.
    pub(in crate::replicate) fn network(&self) -> Arc<dyn Nodes> {
        let (nodes, cuts, dialled) = (self.nodes.clone(), self.cuts.clone(), self.dialled.clone());
        Arc::new(Network { nodes, from: None, cuts, dialled })
    }

    /// A client of nodes that know of no chains.
    pub(in crate::replicate) fn client_of_old_nodes(&self) -> ReplicationClient {
        self.client_through(self.nodes.clone(), hasty())
    }

    fn client_through(&self, nodes: Arc<dyn Nodes>, options: ReplicationOptions) -> ReplicationClient {
        let routes = Routes::new(self.topology.subscribe());
        ReplicationClient::new(routes, nodes, self.master.clone(), options)
    }

    pub(in crate::replicate) fn node(&self, group: u32, member: u32) -> &MemoryNode {
        &self.nodes.0[&format!("{group}.{member}")]
    }

    pub(in crate::replicate) fn nodes(&self) -> impl Iterator<Item = &MemoryNode> {
        self.nodes.0.values()
    }

    /// The members of the group that a chunk is in.
    pub(in crate::replicate) fn replicas(&self, file: FileId) -> Vec<&MemoryNode> {
        (1..).map_while(|member| self.nodes.0.get(&format!("{}.{member}", file.group))).collect()
    }

    /// Changes one group as a master does: with a new version.
    pub(in crate::replicate) fn change(&self, group: u32, change: impl FnOnce(&mut Group)) {
        self.topology.send_modify(|topology| {
            let topology = Arc::make_mut(topology);
            topology.revision += 1;
            let group = &mut topology.groups[group as usize - 1];
            group.version = group.version.next();
            change(group);
        });
    }

    /// Tells the nodes of a group its version.
    pub(in crate::replicate) fn tell(&self, group: u32) {
        let topology = self.topology.borrow().clone();
        let group = topology.group(GroupId::new(group)).unwrap();
        for member in &group.members {
            self.nodes.0[&member.address].set_version(group.version);
        }
    }

    /// Every chunk, by the address of its node.
    pub(in crate::replicate) fn chunks(&self) -> HashSet<(String, ChunkId)> {
        let of = |(address, node): (&String, &MemoryNode)| {
            node.ids().into_iter().map(|id| (address.clone(), id)).collect::<Vec<_>>()
        };
        self.nodes.0.iter().flat_map(of).collect()
    }

    /// Waits until the clean-up in the background has left only these chunks.
    pub(in crate::replicate) async fn settles_to(&self, expected: usize) {
        for _ in 0..200 {
            if self.chunks().len() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.chunks().len(), expected, "{:?}", self.chunks());
    }
}

pub(in crate::replicate) async fn read(
    client: &ReplicationClient,
    file: FileId,
    range: Range<u64>,
) -> Result<Bytes, FragmentError> {
    let start = range.start / 65_536 * 65_536;
    let mut blocks = client.read(file, range).await?;
    let mut data = Vec::new();
    while let Some(run) = blocks.try_next().await? {
        assert_eq!(run.offset(), start + data.len() as u64);
        data.extend_from_slice(&run.into_bytes().unwrap());
    }
    Ok(data.into())
}

pub(in crate::replicate) fn metrics(client: &ReplicationClient) -> ReplicationSnapshot {
    client.metrics().snapshot()
}
