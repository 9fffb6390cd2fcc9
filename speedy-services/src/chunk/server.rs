use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use speedy_core::id::{ChunkId, GroupVersion, NodeId};
use speedy_core::payload::{BodyError, Frames};
use speedy_core::ranges::RangeDigest;
use speedy_core::replicate::{ChunkNode, Link, NodeError, WriteHeader};
use speedy_proto::chunk::v1 as proto;
use speedy_proto::chunk::v1::chunk_service_server::{ChunkService, ChunkServiceServer};
use speedy_proto::chunk::v1::write_request::Part;
use tonic::{Request, Response, Status, Streaming};

use crate::wire::{
    FRAME_PATIENCE, Incoming, MAX_MESSAGE, PayloadService, WireError, answer, blocks_to_wire, link_from_wire,
    meant_for, owner_from_wire, stat_to_wire, within,
};

/// Most chunks in one page of a list.
const MAX_LIST: usize = 10_000;

/// Offers a chunk node by gRPC.
#[derive(Debug)]
pub struct ChunkServer {
    id: NodeId,
    node: Arc<dyn ChunkNode>,
    patience: Duration,
}

impl ChunkServer {
    /// The service over a node, which has this id. Calls for another are refused.
    pub fn new(id: NodeId, node: Arc<dyn ChunkNode>) -> PayloadService<ChunkServiceServer<Self>> {
        let service = ChunkServiceServer::new(Self { id, node, patience: FRAME_PATIENCE })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        PayloadService::new(service, "Write")
    }

    /// The node, for a call that is for it.
    fn node<T>(&self, call: &Request<T>) -> Result<&dyn ChunkNode, Status> {
        meant_for(self.id, call.metadata()).map_err(refuse)?;
        Ok(&*self.node)
    }
}

fn refuse(error: NodeError) -> Status {
    error.to_status()
}

fn invalid(why: impl Into<String>) -> Status {
    NodeError::Invalid(why.into()).to_status()
}

#[async_trait]
impl ChunkService for ChunkServer {
    async fn write(
        &self,
        request: Request<Streaming<proto::WriteRequest>>,
    ) -> Result<Response<proto::WriteResponse>, Status> {
        let node = self.node(&request)?;
        let mut messages = Incoming::of(request)?;
        let first = within(self.patience, messages.message()).await;
        let header = match first.map_err(|why| refuse(NodeError::Body(why)))?.and_then(|first| first.part) {
            Some(Part::Header(header)) => header_from_wire(header).map_err(invalid)?,
            _ => return Err(invalid("the first message is not a header")),
        };
        let frames = frames(messages, header.length, self.patience);
        let copies = node.write(header, frames).await.map_err(refuse)?;
        Ok(Response::new(proto::WriteResponse { copies }))
    }

    type ReadStream = BoxStream<'static, Result<proto::Blocks, Status>>;

    async fn read(&self, request: Request<proto::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let node = self.node(&request)?;
        let proto::ReadRequest { id, start, end } = request.into_inner();
        let blocks = node.read(ChunkId::new(id), start..end).await.map_err(refuse)?;
        let messages = blocks.flat_map(|run| match run {
            Ok(run) => stream::iter(blocks_to_wire(run)).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(refuse(error))]).right_stream(),
        });
        Ok(answer(messages.boxed()))
    }

    async fn stat(&self, request: Request<proto::StatRequest>) -> Result<Response<proto::ChunkStat>, Status> {
        let stat = self.node(&request)?.stat(ChunkId::new(request.into_inner().id)).await.map_err(refuse)?;
        Ok(Response::new(stat_to_wire(stat)))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::DeleteResponse>, Status> {
        let node = self.node(&request)?;
        let proto::DeleteRequest { id, version } = request.into_inner();
        node.delete(ChunkId::new(id), GroupVersion::new(version)).await.map_err(refuse)?;
        Ok(Response::new(proto::DeleteResponse {}))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let node = self.node(&request)?;
        let proto::ListRequest { after, limit } = request.into_inner();
        let limit = usize::try_from(limit).map_or(MAX_LIST, |limit| limit.min(MAX_LIST));
        let page = node.list(after.map(ChunkId::new), limit).await.map_err(refuse)?;
        let chunks = page.chunks.into_iter().map(stat_to_wire).collect();
        Ok(Response::new(proto::ListResponse { chunks, more: page.more }))
    }

    async fn holdings(
        &self,
        request: Request<proto::HoldingsRequest>,
    ) -> Result<Response<proto::HoldingsResponse>, Status> {
        let holdings = self.node(&request)?.holdings().await.map_err(refuse)?;
        let digest = |digest: RangeDigest| {
            let RangeDigest { range, chunks, deleted, sum } = digest;
            proto::RangeDigest { range, chunks, deleted, sum }
        };
        let digests = holdings.digests.into_iter().map(digest).collect();
        Ok(Response::new(proto::HoldingsResponse {
            version: holdings.version.map(GroupVersion::get),
            digests,
        }))
    }

    async fn entries(
        &self,
        request: Request<proto::EntriesRequest>,
    ) -> Result<Response<proto::EntriesResponse>, Status> {
        let entries = self.node(&request)?.entries(request.into_inner().range).await.map_err(refuse)?;
        let (chunks, lengths) = entries.chunks.into_iter().map(|(id, length)| (id.get(), length)).unzip();
        let deleted = entries.deleted.into_iter().map(ChunkId::get).collect();
        Ok(Response::new(proto::EntriesResponse { chunks, lengths, deleted }))
    }
}

fn header_from_wire(header: proto::WriteHeader) -> Result<WriteHeader, String> {
    let owner = owner_from_wire(header.owner)?;
    let (id, version) = (ChunkId::new(header.id), GroupVersion::new(header.version));
    let chain: Result<Vec<Link>, String> = header.chain.into_iter().map(link_from_wire).collect();
    let heals = header.heals;
    let header = WriteHeader::new(id, owner, header.length, header.checksum, version).through(chain?);
    Ok(if heals { header.healing() } else { header })
}

/// The frames that follow the header. After an error nothing more is read.
///
/// The transport ends the stream of a writer that went away as it ends that of one that is done, so an end before
/// the announced length is told apart here.
fn frames(messages: Incoming<proto::WriteRequest>, length: u64, patience: Duration) -> Frames {
    stream::unfold(Some((messages, 0)), move |state| async move {
        let (mut messages, received) = state?;
        let frame = match within(patience, messages.message()).await {
            Ok(None) if received < length => {
                Err(BodyError(format!("the writer sent {received} of {length} bytes")))
            }
            Ok(None) => return None,
            Ok(Some(proto::WriteRequest { part: Some(Part::Frame(bytes)) })) => Ok(bytes),
            Ok(Some(proto::WriteRequest { part: Some(Part::Abort(why)) })) => Err(BodyError(why)),
            Ok(Some(_)) => Err(BodyError("a message after the header is no frame".into())),
            Err(why) => Err(BodyError(why)),
        };
        let received = received + frame.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rest = frame.is_ok().then_some((messages, received));
        Some((frame, rest))
    })
    .boxed()
}
