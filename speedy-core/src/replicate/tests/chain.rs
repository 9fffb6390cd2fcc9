use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::cluster::{Cluster, Way, metrics};
use super::{bytes, owner, payload};
use crate::checksum::crc32c;
use crate::id::{ChunkId, GroupVersion};
use crate::payload::{BodyError, Frames};
use crate::replicate::{
    BlockStream, ChunkNode, ChunkPage, ChunkStat, Fragments, Holdings, Link, NodeError, RangeEntries,
    WriteHeader, conformance,
};

const LENGTH: usize = 900_000;

/// The group's members as links, in the order of a chain.
fn links(cluster: &Cluster) -> Vec<Link> {
    let topology = cluster.topology.borrow().clone();
    let link = |member: &crate::placement::Member| Link::new(member.node, member.address.clone());
    topology.groups[0].members.iter().map(link).collect()
}

fn header(number: u64, data: &[u8], chain: &[Link]) -> WriteHeader {
    let (length, version) = (data.len() as u64, GroupVersion::new(1));
    let header = WriteHeader::new(ChunkId::new(number), owner(number), length, crc32c(data), version);
    header.through(chain.to_vec())
}

fn frames(data: &Bytes) -> Frames {
    let frames: Vec<_> = data.chunks(70_000).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
    stream::iter(frames).boxed()
}

fn first(cluster: &Cluster) -> Arc<dyn ChunkNode> {
    let member = cluster.topology.borrow().groups[0].members[0].clone();
    cluster.network().node(&member)
}

/// What was dialled since the last call.
fn dialled(cluster: &Cluster) -> Vec<Way> {
    std::mem::take(&mut cluster.dialled.lock())
}

fn way(from: &str, to: &str) -> Way {
    ((!from.is_empty()).then(|| from.to_owned()), to.to_owned())
}

/// The first of three nodes, every write to which goes along the chain.
#[derive(Debug)]
struct Chained {
    cluster: Cluster,
    first: Arc<dyn ChunkNode>,
}

#[async_trait]
impl ChunkNode for Chained {
    async fn write(&self, header: WriteHeader, frames: Frames) -> Result<u32, NodeError> {
        let id = header.id;
        let result = self.first.write(header.through(links(&self.cluster)[1..].to_vec()), frames).await;
        if result.is_ok() {
            let ids: Vec<bool> = self.cluster.nodes().map(|node| node.ids().contains(&id)).collect();
            assert_eq!((ids, &result), (vec![true; 3], &Ok(3)));
        }
        // As a node by itself would say it.
        result.map_err(|error| match error {
            NodeError::Downstream { error, .. } => *error,
            error => error,
        })
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        self.first.read(id, range).await
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        self.first.stat(id).await
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        for node in self.cluster.nodes() {
            node.delete(id, version).await?;
        }
        Ok(())
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        self.first.list(after, limit).await
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        self.first.holdings().await
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        self.first.entries(range).await
    }
}

#[tokio::test]
async fn a_chain_does_what_every_chunk_node_must() {
    conformance::run_all(|| async {
        let cluster = Cluster::new(1, 3);
        let first = first(&cluster);
        Arc::new(Chained { cluster, first }) as Arc<dyn ChunkNode>
    })
    .await;
}

#[tokio::test]
async fn each_node_gets_a_chunk_from_the_one_before() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    let file = client.write(owner(1), payload(LENGTH)).await.unwrap();
    assert_eq!(dialled(&cluster), [way("", "1.1"), way("1.1", "1.2"), way("1.2", "1.3")]);
    for node in cluster.replicas(file) {
        assert_eq!(node.ids(), [file.chunk]);
    }
    assert_eq!(metrics(&client).chains_broken, 0);
}

#[tokio::test]
async fn a_link_between_two_members_that_is_down_fails_no_write() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.cuts.lock().insert(way("1.1", "1.2"));
    let file = client.write(owner(1), payload(LENGTH)).await.unwrap();
    assert_eq!(cluster.chunks().len(), 3);
    dialled(&cluster);
    // It is not tried again at once.
    client.write(owner(2), payload(LENGTH)).await.unwrap();
    assert_eq!(dialled(&cluster), [way("", "1.1"), way("", "1.2"), way("", "1.3")]);
    let metrics = metrics(&client);
    assert_eq!((metrics.chains_broken, metrics.write_failovers, metrics.chunks_written), (1, 0, 2));
    assert_eq!(cluster.replicas(file).len(), 3);
}

#[tokio::test]
async fn nodes_that_know_of_no_chains_are_all_written_to() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client_of_old_nodes();
    client.write(owner(1), payload(LENGTH)).await.unwrap();
    client.write(owner(2), payload(LENGTH)).await.unwrap();
    assert_eq!(cluster.chunks().len(), 6);
    assert_eq!(metrics(&client).chains_broken, 1);
}

#[tokio::test]
async fn a_version_that_a_node_further_down_refuses_is_agreed_on() {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    cluster.node(1, 3).set_version(GroupVersion::new(2));
    let write = client.write(owner(1), payload(LENGTH));
    let change = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.change(1, |_| {});
        cluster.tell(1);
    };
    let (written, ()) = tokio::join!(write, change);
    written.unwrap();
    let metrics = metrics(&client);
    assert_eq!((metrics.chains_broken, metrics.write_failovers), (0, 0));
    cluster.settles_to(3).await;
}

#[tokio::test]
async fn the_last_one_without_room_sends_the_chunk_to_another_group() {
    let cluster = Cluster::new(2, 3);
    let client = cluster.client();
    for group in [1, 2] {
        cluster.node(group, 3).faults(|faults| faults.full = true);
    }
    let error = client.write(owner(1), payload(LENGTH)).await.unwrap_err();
    assert!(error.to_string().contains("at 1.3") && error.to_string().contains("at 2.3"), "{error}");
    assert_eq!(metrics(&client).chains_broken, 0, "no room is no break");
    cluster.settles_to(0).await;
}

#[tokio::test(start_paused = true)]
async fn who_stalls_is_named_by_its_neighbour() {
    for stalled in [2, 3] {
        let cluster = Cluster::new(1, 3);
        cluster.node(1, stalled).faults(|faults| faults.hangs = true);
        let data = bytes(LENGTH);
        let error = first(&cluster).write(header(1, &data, &links(&cluster)[1..]), frames(&data)).await;
        let Err(NodeError::Downstream { link, error }) = error else { panic!("{error:?}") };
        assert_eq!(link.address, format!("1.{stalled}"));
        assert!(matches!(*error, NodeError::Unavailable(_)), "{error}");
        assert!(cluster.chunks().is_empty(), "{:?}", cluster.chunks());
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_goes_away_leaves_nothing_on_any_node() {
    for (broken, number) in [(true, 1), (false, 2)] {
        let cluster = Cluster::new(1, 3);
        let data = bytes(LENGTH);
        let half: Vec<_> =
            data.chunks(70_000).take(6).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
        let rest: Frames = match broken {
            true => stream::iter([Err(BodyError("the client went away".into()))]).boxed(),
            false => stream::pending().boxed(),
        };
        let node = first(&cluster);
        let write =
            node.write(header(number, &data, &links(&cluster)[1..]), stream::iter(half).chain(rest).boxed());
        // A source that is silent is nobody's fault further down, however long it takes.
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(result) => assert!(broken && result.is_err(), "{result:?}"),
            Err(_) => assert!(!broken),
        }
        assert!(cluster.chunks().is_empty(), "{:?}", cluster.chunks());
    }
}
