use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use speedy_core::budget::Budget;
use speedy_core::id::GroupId;
use speedy_core::payload::Payload;
use speedy_core::replicate::{FragmentError, Fragments};
use speedy_proto::chunk::v1::Blocks;
use speedy_proto::image::v1 as proto;
use speedy_proto::image::v1::fragment_service_server::{FragmentService, FragmentServiceServer};
use speedy_proto::image::v1::write_request::Part;
use tonic::{Request, Response, Status, Streaming};

use super::wire;
use crate::wire::{
    FRAME_PATIENCE, Incoming, MAX_CHUNK_LENGTH, MAX_MESSAGE, PayloadService, WireError, answer,
    blocks_to_wire, owner_from_wire, within,
};

/// Most chunks in one page of a list.
const MAX_LIST: usize = 10_000;

/// Offers fragments by gRPC. A fragment's bytes are held while they are replicated, within the budget: room for all
/// of them is reserved before the first is read.
#[derive(Debug)]
pub struct ImageServer {
    fragments: Arc<dyn Fragments>,
    budget: Budget,
    patience: Duration,
}

impl ImageServer {
    /// The service over a way to keep fragments.
    pub fn new(fragments: Arc<dyn Fragments>, budget: Budget) -> PayloadService<FragmentServiceServer<Self>> {
        let service = FragmentServiceServer::new(Self { fragments, budget, patience: FRAME_PATIENCE })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        PayloadService::new(service, "Write")
    }
}

fn refuse(error: FragmentError) -> Status {
    error.to_status()
}

fn invalid(why: impl Into<String>) -> Status {
    FragmentError::Invalid(why.into()).to_status()
}

#[async_trait]
impl FragmentService for ImageServer {
    async fn write(
        &self,
        request: Request<Streaming<proto::WriteRequest>>,
    ) -> Result<Response<proto::FileId>, Status> {
        let mut messages = Incoming::of(request)?;
        let first = next(&mut messages, self.patience).await?;
        let Some(Part::Header(header)) = first else {
            return Err(invalid("the first message is not a header"));
        };
        if !(1..=MAX_CHUNK_LENGTH).contains(&header.length) {
            return Err(invalid(format!(
                "a fragment of {} bytes; a fragment has 1 to {MAX_CHUNK_LENGTH}",
                header.length
            )));
        }
        let owner = owner_from_wire(header.owner).map_err(invalid)?;
        let _held = self.budget.reserve(header.length).await;
        let payload = receive(&mut messages, header.length, header.checksum, self.patience).await?;
        let file = match header.group {
            None => self.fragments.write(owner, payload).await,
            Some(group) => self.fragments.write_in(GroupId::new(group), owner, payload).await,
        };
        let file = file.map_err(refuse)?;
        Ok(Response::new(wire::file_to_wire(file)))
    }

    type ReadStream = BoxStream<'static, Result<Blocks, Status>>;

    async fn read(&self, request: Request<proto::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let proto::ReadRequest { file, start, end } = request.into_inner();
        let file = wire::file_from_wire(file.ok_or_else(|| invalid("the file id is missing"))?);
        let blocks = self.fragments.read(file, start..end).await.map_err(refuse)?;
        let messages = blocks.flat_map(|run| match run {
            Ok(run) => stream::iter(blocks_to_wire(run)).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(refuse(error))]).right_stream(),
        });
        Ok(answer(messages.boxed()))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::DeleteResponse>, Status> {
        let file = request.into_inner().file.ok_or_else(|| invalid("the file id is missing"))?;
        self.fragments.delete(wire::file_from_wire(file)).await.map_err(refuse)?;
        Ok(Response::new(proto::DeleteResponse {}))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let proto::ListRequest { cursor, limit } = request.into_inner();
        let limit = usize::try_from(limit).map_or(MAX_LIST, |limit| limit.min(MAX_LIST));
        let page = self.fragments.list(cursor.map(wire::cursor_from_wire), limit).await.map_err(refuse)?;
        Ok(Response::new(wire::page_to_wire(page)))
    }
}

async fn next(
    messages: &mut Incoming<proto::WriteRequest>,
    patience: Duration,
) -> Result<Option<Part>, Status> {
    let message = within(patience, messages.message()).await;
    Ok(message.map_err(|why| refuse(FragmentError::Unavailable(why)))?.and_then(|message| message.part))
}

/// The bytes that follow the header, as many as it says and with the checksum that it says.
async fn receive(
    messages: &mut Incoming<proto::WriteRequest>,
    length: u64,
    checksum: u32,
    patience: Duration,
) -> Result<Payload, Status> {
    let mut frames: Vec<Bytes> = Vec::new();
    let mut received = 0;
    while let Some(part) = next(messages, patience).await? {
        let Part::Frame(frame) = part else { return Err(invalid("a message after the header is no frame")) };
        received += frame.len() as u64;
        if received > length {
            return Err(invalid(format!("more than the {length} bytes that the header announced")));
        }
        frames.push(frame);
    }
    let payload = Payload::new(frames);
    if received < length {
        return Err(invalid(format!("{received} bytes, where the header announced {length}")));
    }
    if payload.checksum() != checksum {
        // Damage on the way: the sender has the bytes and can send them again.
        let why = "the bytes changed on their way to the image node: their checksum is another one";
        return Err(refuse(FragmentError::Unavailable(why.into())));
    }
    Ok(payload)
}
