use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use speedy_core::id::{FileId, GroupId, Owner};
use speedy_core::payload::Payload;
use speedy_core::replicate::Blocks;
use speedy_core::replicate::{FragmentError, FragmentPage, Fragments, ListCursor};
use speedy_proto::image::v1 as proto;
use speedy_proto::image::v1::fragment_service_client::FragmentServiceClient;
use speedy_proto::image::v1::fragment_service_server::SERVICE_NAME;
use speedy_proto::image::v1::write_request::Part;

use super::{resume, wire};
use crate::address::AddressList;
use crate::wire::{
    Choice, Connection, Instead, MAX_MESSAGE, Patience, Peer, Peers, WireError, blocks_from_wire, outgoing,
    owner_to_wire, pieces, unary,
};

/// Fragments kept by image nodes: each of a list in turn, so that they share the load. What one fails to do, or stops
/// in the middle of, another does: a write's bytes are at hand until it is acknowledged, and a read goes on where it was.
#[derive(Debug)]
pub struct ImageClient {
    peers: Arc<Peers>,
}

impl ImageClient {
    /// The image nodes at these addresses. They are dialled at the first call, and again after a connection broke.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(list: &AddressList) -> Self {
        Self { peers: Arc::new(Peers::new(list, SERVICE_NAME, Choice::Spread, Patience::WhileAlive)) }
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Whether at least one of them says that it is ready.
    ///
    /// # Errors
    /// What each of them lacks.
    pub async fn ready(&self) -> Result<(), String> {
        self.peers.ready().await
    }

    async fn write_to(
        &self,
        group: Option<GroupId>,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        let header = proto::WriteHeader {
            owner: Some(owner_to_wire(owner)),
            length: payload.len(),
            checksum: payload.checksum(),
            group: group.map(GroupId::get),
        };
        let call = |peer: Arc<Peer>| {
            let header = stream::iter([Part::Header(header.clone())]);
            let frames = stream::iter(payload.frames().to_vec());
            let parts = header.chain(frames.flat_map(|run| stream::iter(pieces(run))).map(Part::Frame));
            let messages = parts.map(|part| proto::WriteRequest { part: Some(part) });
            async move {
                let connection = Instead::new(peer.bulk(), outgoing(messages));
                match FragmentServiceClient::new(connection).write(stream::empty()).await {
                    Ok(file) => Ok(wire::file_from_wire(file.into_inner())),
                    Err(status) => Err(FragmentError::from_status(&status, peer.address())),
                }
            }
        };
        self.peers.call(call).await
    }
}

fn client(connection: Connection) -> FragmentServiceClient<Connection> {
    FragmentServiceClient::new(connection)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

fn nonsense(peer: &Peer, why: &str) -> FragmentError {
    FragmentError::Unavailable(format!("{}: {why}", peer.address()))
}

/// Opens a read at whichever image node answers.
pub(super) async fn open(
    peers: &Arc<Peers>,
    file: FileId,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
    let request =
        proto::ReadRequest { file: Some(wire::file_to_wire(file)), start: range.start, end: range.end };
    let call = |peer: Arc<Peer>| {
        let peers = Arc::clone(peers);
        async move {
            let response = client(peer.bulk()).read(request).await;
            let messages = response.map_err(|status| FragmentError::from_status(&status, peer.address()))?;
            let state = (peers, peer, messages.into_inner());
            let blocks = stream::try_unfold(state, |(peers, peer, mut messages)| async move {
                let next = async {
                    let next = messages.message().await;
                    next.map_err(|status| FragmentError::from_status(&status, peer.address()))
                };
                let Some(message) = peers.part(&peer, next).await? else { return Ok(None) };
                let blocks = blocks_from_wire(message)
                    .ok_or_else(|| nonsense(&peer, "it sent bytes that are no whole blocks"))?;
                Ok(Some((blocks, (peers, peer, messages))))
            });
            Ok(blocks.boxed())
        }
    };
    peers.call(call).await
}

#[async_trait]
impl Fragments for ImageClient {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.write_to(None, owner, payload).await
    }

    async fn write_in(
        &self,
        group: GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        let file = self.write_to(Some(group), owner, payload).await?;
        if file.group != group {
            // An older image node chose for itself.
            let text =
                format!("an image node of an older release wrote chunk {file} and not to group {group}");
            return Err(FragmentError::Unavailable(text));
        }
        Ok(file)
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        resume::read(Arc::clone(&self.peers), file, range).await
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        let request = proto::DeleteRequest { file: Some(wire::file_to_wire(file)) };
        let call = |peer: Arc<Peer>| async move {
            unary(&peer, client(peer.control()).delete(request)).await.map(|_: proto::DeleteResponse| ())
        };
        self.peers.call(call).await
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = proto::ListRequest { cursor: cursor.map(wire::cursor_to_wire), limit };
        let call = |peer: Arc<Peer>| async move {
            let page = unary::<_, FragmentError>(&peer, client(peer.control()).list(request)).await?;
            wire::page_from_wire(page).map_err(|why| nonsense(&peer, &why))
        };
        self.peers.call(call).await
    }
}
