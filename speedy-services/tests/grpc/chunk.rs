use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use speedy_core::checksum::{BLOCK_SIZE, crc32c};
use speedy_core::id::{BlobId, ChunkId, GroupVersion, NodeId, Owner};
use speedy_core::payload::{BodyError, Frames};
use speedy_core::ranges::RangeDigest;
use speedy_core::replicate::{
    BlockStream, Blocks, ChunkNode, ChunkPage, ChunkStat, Holdings, Link, MemoryNode, NodeError,
    RangeEntries, RelayNode, WriteHeader,
};
use speedy_proto::chunk::v1 as proto;
use speedy_proto::chunk::v1::chunk_service_client::ChunkServiceClient;
use speedy_services::chunk::{ChunkClient, ChunkNodes, ChunkServer};
use tonic::service::Routes;

use super::Server;

const VERSION: GroupVersion = GroupVersion::new(1);
const MIB: usize = 1 << 20;

/// A node of one chunk, that keeps how it came.
#[derive(Debug, Default)]
struct OneChunk {
    header: Mutex<Option<WriteHeader>>,
    frames: Mutex<Vec<Bytes>>,
    broken: Mutex<Option<BodyError>>,
    /// Writes that are under way.
    writing: AtomicU32,
}

/// Counts a write for as long as its future lives.
struct Writing<'a>(&'a AtomicU32);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl ChunkNode for OneChunk {
    async fn write(&self, header: WriteHeader, mut frames: Frames) -> Result<u32, NodeError> {
        if header.version != VERSION {
            return Err(NodeError::WrongVersion { current: VERSION });
        }
        self.writing.fetch_add(1, Ordering::Relaxed);
        let _writing = Writing(&self.writing);
        while let Some(frame) = frames.next().await {
            match frame {
                Ok(frame) => self.frames.lock().push(frame),
                Err(error) => {
                    *self.broken.lock() = Some(error.clone());
                    return Err(NodeError::Body(error.0));
                }
            }
        }
        *self.header.lock() = Some(header);
        Ok(1)
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        if self.header.lock().as_ref().is_none_or(|header| header.id != id) {
            return Err(NodeError::NotFound(id));
        }
        let data = Bytes::from(self.frames.lock().concat());
        let data = data.slice(range.start as usize..range.end as usize);
        let checksums = data.chunks(BLOCK_SIZE).map(crc32c).collect();
        let blocks = Blocks::verified(range.start, data, checksums);
        let damaged = NodeError::Damaged { id, reason: "further on".into() };
        Ok(stream::iter([Ok(blocks), Err(damaged)]).boxed())
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        match &*self.header.lock() {
            Some(header) => Ok(ChunkStat::new(id, header.owner, header.length, header.checksum)),
            None => Err(NodeError::Deleted(id)),
        }
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        match version == VERSION {
            true => Ok(()),
            false => Err(NodeError::Conflict(id)),
        }
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        let first = after.map_or(0, |after| after.get() + 1);
        let stat = |id| ChunkStat::new(ChunkId::new(id), owner(), 1, 2);
        Ok(ChunkPage { chunks: (first..first + limit as u64).map(stat).collect(), more: true })
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        let digest = RangeDigest { range: 7, chunks: 1, deleted: 2, sum: u64::MAX };
        Ok(Holdings { version: Some(VERSION), digests: vec![digest] })
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        // Of one range only what it says is true.
        let id = |low: u64| ChunkId::new((7 << 16) + low);
        match range {
            7 | 8 => Ok(RangeEntries { chunks: vec![(id(1), 64 << 20)], deleted: vec![id(2), id(65_535)] }),
            _ => Err(NodeError::Unavailable("no more".into())),
        }
    }
}

fn owner() -> Owner {
    Owner { blob: BlobId::from_bytes([9; 16]), offset: 4 << 20 }
}

fn header(length: usize, version: GroupVersion) -> WriteHeader {
    WriteHeader::new(ChunkId::new(u64::MAX), owner(), length as u64, 0x1234_5678, version)
}

const NODE: NodeId = NodeId::from_bytes([7; 16]);

async fn serve() -> (Arc<OneChunk>, Server, ChunkClient) {
    let node = Arc::new(OneChunk::default());
    let server = Server::start(Routes::new(ChunkServer::new(NODE, Arc::clone(&node) as _))).await;
    let client = ChunkClient::new(server.address.clone());
    (node, server, client)
}

fn sample(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn a_chunk_crosses_in_pieces_and_comes_back_in_messages_of_a_mebibyte() {
    let (node, _server, client) = serve().await;
    let data = sample(3 * MIB + 77);
    let frames = stream::iter([Ok(data.slice(..10)), Ok(Bytes::new()), Ok(data.slice(10..))]).boxed();
    client.write(header(data.len(), VERSION), frames).await.unwrap();
    assert_eq!(*node.header.lock(), Some(header(data.len(), VERSION)));
    let lengths: Vec<usize> = node.frames.lock().iter().map(Bytes::len).collect();
    // As HTTP/2 had them, not joined.
    assert!(lengths[0] == 10 && lengths.iter().all(|&length| length <= 256 << 10), "{lengths:?}");
    assert_eq!(node.frames.lock().concat(), data);

    let start = BLOCK_SIZE as u64;
    let mut blocks = client.read(ChunkId::new(u64::MAX), start..data.len() as u64).await.unwrap();
    let mut read = Vec::new();
    let error = loop {
        match blocks.next().await.unwrap() {
            Ok(run) => {
                assert!(run.len() <= MIB);
                assert_eq!(run.offset(), start + read.len() as u64);
                read.extend_from_slice(&run.into_bytes().unwrap());
            }
            Err(error) => break error,
        }
    };
    assert_eq!(read, data[BLOCK_SIZE..]);
    // An error in the middle of a stream is as exact as one at its beginning.
    let id = ChunkId::new(u64::MAX);
    assert_eq!(error, NodeError::Damaged { id, reason: "further on".into() });
}

#[tokio::test]
async fn small_calls_cross_whole_and_errors_are_exact() {
    let (node, _server, client) = serve().await;
    let id = ChunkId::new(5);
    assert_eq!(client.stat(id).await, Err(NodeError::Deleted(id)));
    assert_eq!(client.read(id, 0..1).await.err(), Some(NodeError::NotFound(id)));
    *node.header.lock() = Some(header(7, VERSION));
    assert_eq!(client.stat(id).await, Ok(ChunkStat::new(id, owner(), 7, 0x1234_5678)));
    assert_eq!(client.delete(id, VERSION).await, Ok(()));
    assert_eq!(client.delete(id, VERSION.next()).await, Err(NodeError::Conflict(id)));
    let page = client.list(Some(id), 2).await.unwrap();
    assert_eq!((page.chunks.len(), page.chunks[0].id, page.more), (2, ChunkId::new(6), true));
    assert_eq!(client.list(None, usize::MAX).await.unwrap().chunks.len(), 10_000);
}

#[tokio::test]
async fn a_refusal_comes_at_once_however_much_is_still_to_be_sent() {
    let (_node, _server, client) = serve().await;
    let run = sample(MIB);
    let endless = stream::repeat_with(move || Ok(run.clone())).boxed();
    let write = client.write(header(64 * MIB, VERSION.next()), endless);
    let refused = tokio::time::timeout(Duration::from_secs(10), write).await.unwrap();
    assert_eq!(refused, Err(NodeError::WrongVersion { current: VERSION }));
}

#[tokio::test]
async fn a_body_that_breaks_off_at_the_source_says_so() {
    let (node, _server, client) = serve().await;
    let broken = BodyError("the disk of the source failed".into());
    let frames = stream::iter([Ok(sample(10)), Err(broken.clone())]).boxed();
    let error = client.write(header(20, VERSION), frames).await;
    assert_eq!(error, Err(NodeError::Body(broken.0.clone())));
    assert_eq!(*node.broken.lock(), Some(broken));
}

#[tokio::test]
async fn a_write_that_is_dropped_ends_at_the_node() {
    let (node, _server, client) = serve().await;
    let frames = stream::iter([Ok(sample(10))]).chain(stream::pending()).boxed();
    let write = client.write(header(20, VERSION), frames);
    assert!(tokio::time::timeout(Duration::from_millis(300), write).await.is_err());
    assert_eq!(node.frames.lock().len(), 1, "it had begun");
    let ended = async {
        while node.writing.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert!(node.header.lock().is_none());
}

#[tokio::test]
async fn a_stream_without_a_header_or_with_a_bad_owner_is_refused() {
    use proto::write_request::Part;
    let (node, server, _client) = serve().await;
    let mut raw = ChunkServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let no_owner = proto::WriteHeader { id: 1, owner: None, length: 1, checksum: 0, ..Default::default() };
    let short_owner = proto::Owner { blob: vec![1, 2].into(), offset: 0 };
    let bad_owner = proto::WriteHeader { owner: Some(short_owner), ..no_owner.clone() };
    for part in [
        None,
        Some(Part::Frame(Bytes::from_static(b"x"))),
        Some(Part::Header(no_owner)),
        Some(Part::Header(bad_owner)),
    ] {
        let messages = stream::iter([proto::WriteRequest { part }]);
        let status = raw.write(messages).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    }
    assert!(node.header.lock().is_none());
}

/// Three nodes that pass chunks on, and the links to the second and the third.
async fn chain() -> (Vec<(MemoryNode, Server)>, ChunkClient, Vec<Link>) {
    let mut nodes = Vec::new();
    for index in 0..3 {
        let node = MemoryNode::new(VERSION);
        let relay = RelayNode::new(Arc::new(node.clone()), Arc::new(ChunkNodes::new()));
        let service = ChunkServer::new(NodeId::from_bytes([index; 16]), Arc::new(relay));
        nodes.push((node, Server::start(Routes::new(service)).await));
    }
    let client = ChunkClient::new(nodes[0].1.address.clone());
    let link = |(index, (_, server)): (usize, &(MemoryNode, Server))| {
        Link::new(NodeId::from_bytes([index as u8; 16]), server.address.to_string())
    };
    let links = nodes.iter().enumerate().skip(1).map(link).collect();
    (nodes, client, links)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_goes_along_a_chain_and_its_end_says_what_is_wrong() {
    let (mut nodes, client, links) = chain().await;
    let data = sample(5 * MIB + 3);
    let body = || stream::iter([Ok(data.clone())]).boxed();
    let header = |id| {
        let (length, checksum) = (data.len() as u64, crc32c(&data));
        WriteHeader::new(ChunkId::new(id), owner(), length, checksum, VERSION).through(links.clone())
    };
    assert_eq!(client.write(header(1), body()).await, Ok(3));
    for (node, _) in &nodes {
        assert_eq!(node.ids(), [ChunkId::new(1)]);
    }
    nodes[2].0.faults(|faults| faults.full = true);
    let error = client.write(header(2), body()).await.unwrap_err();
    let full = NodeError::Full("0 bytes free".into());
    assert_eq!(error, NodeError::Downstream { link: links[1].clone(), error: Box::new(full) });
    nodes[2].0.faults(|faults| faults.full = false);
    nodes[2].0.set_version(VERSION.next());
    let error = client.write(header(3), body()).await.unwrap_err();
    let newer = NodeError::WrongVersion { current: VERSION.next() };
    assert_eq!(error, NodeError::Downstream { link: links[1].clone(), error: Box::new(newer) });
    // One that is gone is named by the node before it.
    nodes.remove(1).1.stop().await;
    let error = client.write(header(4), body()).await.unwrap_err();
    let NodeError::Downstream { link, error } = error else { panic!("{error}") };
    assert_eq!(link, links[0]);
    assert!(matches!(*error, NodeError::Unavailable(_)), "{error}");
}

/// Whatever a node is told of another's address: what is meant for that one never ends there.
#[tokio::test(flavor = "multi_thread")]
async fn calls_for_another_node_are_refused() {
    let (node, server, _) = serve().await;
    let chunk = ChunkId::new(1);
    let right = ChunkClient::of(NODE, server.address.clone());
    assert_eq!(right.holdings().await, node.holdings().await);
    let wrong = ChunkClient::of(NodeId::from_bytes([8; 16]), server.address.clone());
    let body = || stream::iter([Ok(sample(10))]).boxed();
    let errors = [
        wrong.write(header(10, VERSION), body()).await.err(),
        wrong.read(chunk, 0..1).await.err(),
        wrong.stat(chunk).await.err(),
        wrong.delete(chunk, VERSION).await.err(),
        wrong.list(None, 1).await.err(),
        wrong.holdings().await.err(),
        wrong.entries(7).await.err(),
    ];
    for error in errors {
        let Some(NodeError::Unavailable(why)) = error else { panic!("{error:?}") };
        assert!(why.contains(&NODE.to_string()) && why.contains("--advertise"), "{why}");
    }
    assert!(node.header.lock().is_none());

    let (nodes, client, links) = chain().await;
    let swapped = vec![Link::new(links[1].node, links[0].address.clone())];
    let data = sample(10);
    let header = WriteHeader::new(chunk, owner(), 10, crc32c(&data), VERSION).through(swapped.clone());
    let error = client.write(header, body()).await.unwrap_err();
    let NodeError::Downstream { link, .. } = error else { panic!("{error}") };
    assert_eq!(link, swapped[0]);
    assert!(nodes[1].0.ids().is_empty() && nodes[2].0.ids().is_empty());
}

#[tokio::test]
async fn what_a_node_holds_crosses_whole_and_nonsense_is_refused() {
    let (node, _server, client) = serve().await;
    assert_eq!(client.holdings().await, node.holdings().await);
    assert_eq!(client.entries(7).await, node.entries(7).await);
    assert!(
        matches!(client.entries(8).await, Err(NodeError::Unavailable(text)) if text.contains("no sense"))
    );
    assert_eq!(client.entries(9).await, node.entries(9).await);
}
