use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use speedy_core::id::{ChunkId, GroupVersion, NodeId};
use speedy_core::payload::Frames;
use speedy_core::ranges::{RangeDigest, range_of};
use speedy_core::replicate::{
    BlockStream, ChunkNode, ChunkPage, ChunkStat, Holdings, NodeError, RangeEntries, WriteHeader,
};
use speedy_proto::chunk::v1 as proto;
use speedy_proto::chunk::v1::chunk_service_client::ChunkServiceClient;
use speedy_proto::chunk::v1::chunk_service_server::SERVICE_NAME;
use speedy_proto::chunk::v1::write_request::Part;

use crate::address::HostPort;
use crate::wire::{
    Connection, Instead, MAX_MESSAGE, Peer, WireError, blocks_from_wire, link_to_wire, outgoing,
    owner_to_wire, pieces, stat_from_wire, unary,
};

/// The summaries of a node with billions of chunks are larger than any other message.
const MAX_HOLDINGS: usize = 16 * MAX_MESSAGE;

/// A chunk node behind the network.
#[derive(Debug)]
pub struct ChunkClient {
    peer: Arc<Peer>,
}

impl ChunkClient {
    /// The node at an address. It is dialled at the first call, and again after the connection broke.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(address: HostPort) -> Self {
        Self { peer: Peer::new(address, SERVICE_NAME) }
    }

    /// This node, at an address where it was last heard of. Whatever other node is there by now refuses its calls, so that
    /// none is taken for it: a chunk has the same id in two groups, and a copy on one node is not one on two.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn of(node: NodeId, address: HostPort) -> Self {
        Self { peer: Peer::of(node, address, SERVICE_NAME) }
    }

    fn control(&self) -> ChunkServiceClient<Connection> {
        client(self.peer.control())
    }

    fn bulk(&self) -> ChunkServiceClient<Connection> {
        client(self.peer.bulk())
    }

    fn nonsense(&self, what: &str) -> NodeError {
        NodeError::Unavailable(format!("{}: {what}", self.peer.address()))
    }
}

fn client(connection: Connection) -> ChunkServiceClient<Connection> {
    ChunkServiceClient::new(connection)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

#[async_trait]
impl ChunkNode for ChunkClient {
    async fn write(&self, header: WriteHeader, frames: Frames) -> Result<u32, NodeError> {
        let messages = stream::iter([message(Part::Header(header_to_wire(header)))]).chain(parts(frames));
        let connection = Instead::new(self.peer.bulk(), outgoing(messages));
        match ChunkServiceClient::new(connection).write(stream::empty()).await {
            Ok(answer) => Ok(answer.into_inner().copies.max(1)),
            Err(status) => Err(NodeError::from_status(&status, self.peer.address())),
        }
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        let request = proto::ReadRequest { id: id.get(), start: range.start, end: range.end };
        let peer = Arc::clone(&self.peer);
        let restore = move |status| NodeError::from_status(&status, peer.address());
        let messages = self.bulk().read(request).await.map_err(&restore)?.into_inner();
        let misfit = self.nonsense("it sent bytes that are no whole blocks");
        let blocks = messages
            .map(move |message| blocks_from_wire(message.map_err(&restore)?).ok_or_else(|| misfit.clone()));
        Ok(blocks.boxed())
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        let mut client = self.control();
        let request = proto::StatRequest { id: id.get() };
        let stat = unary::<_, NodeError>(&self.peer, client.stat(request)).await?;
        stat_from_wire(stat).map_err(|why| self.nonsense(&why))
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        let mut client = self.control();
        let request = proto::DeleteRequest { id: id.get(), version: version.get() };
        unary(&self.peer, client.delete(request)).await.map(|_: proto::DeleteResponse| ())
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        let mut client = self.control();
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = proto::ListRequest { after: after.map(ChunkId::get), limit };
        let page = unary::<_, NodeError>(&self.peer, client.list(request)).await?;
        let chunks: Result<_, _> = page.chunks.into_iter().map(stat_from_wire).collect();
        Ok(ChunkPage { chunks: chunks.map_err(|why: String| self.nonsense(&why))?, more: page.more })
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        let mut client = self.control().max_decoding_message_size(MAX_HOLDINGS);
        let request = proto::HoldingsRequest {};
        let answer = unary::<_, NodeError>(&self.peer, client.holdings(request)).await?;
        let digest = |digest: proto::RangeDigest| {
            let proto::RangeDigest { range, chunks, deleted, sum } = digest;
            RangeDigest { range, chunks, deleted, sum }
        };
        let digests = answer.digests.into_iter().map(digest).collect();
        Ok(Holdings { version: answer.version.map(GroupVersion::new), digests })
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        let mut client = self.control();
        let request = proto::EntriesRequest { range };
        let answer = unary::<_, NodeError>(&self.peer, client.entries(request)).await?;
        let proto::EntriesResponse { chunks, lengths, deleted } = answer;
        let ids = chunks.iter().chain(&deleted);
        if chunks.len() != lengths.len() || ids.clone().any(|&id| range_of(ChunkId::new(id)) != range) {
            return Err(self.nonsense("its entries of a range of ids make no sense"));
        }
        Ok(RangeEntries {
            chunks: chunks.into_iter().map(ChunkId::new).zip(lengths).collect(),
            deleted: deleted.into_iter().map(ChunkId::new).collect(),
        })
    }
}

fn message(part: Part) -> proto::WriteRequest {
    proto::WriteRequest { part: Some(part) }
}

fn header_to_wire(header: WriteHeader) -> proto::WriteHeader {
    proto::WriteHeader {
        id: header.id.get(),
        owner: Some(owner_to_wire(header.owner)),
        length: header.length,
        checksum: header.checksum,
        version: header.version.get(),
        chain: header.chain.into_iter().map(link_to_wire).collect(),
        heals: header.heals,
    }
}

/// The messages of a body. A body that breaks off says so, rather than look like one that is merely short.
fn parts(frames: Frames) -> impl futures_util::Stream<Item = proto::WriteRequest> + Send + 'static {
    frames.flat_map(|frame| match frame {
        Ok(bytes) => stream::iter(pieces(bytes)).map(|piece| message(Part::Frame(piece))).left_stream(),
        Err(error) => stream::iter([message(Part::Abort(error.0))]).right_stream(),
    })
}
