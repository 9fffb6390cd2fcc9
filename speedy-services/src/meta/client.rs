use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use speedy_core::meta::{
    Entry, KeyRange, MAX_GET_KEYS, MAX_KEY_LEN, MAX_VALUE_LEN, MetaError, MetaStore, Outcome, Page,
    Timestamp, Transaction,
};
use speedy_proto::meta::v1 as proto;
use speedy_proto::meta::v1::meta_service_client::MetaServiceClient;
use speedy_proto::meta::v1::meta_service_server::SERVICE_NAME;

use super::wire;
use crate::address::AddressList;
use crate::wire::{Choice, Connection, MAX_MESSAGE, Patience, Peer, Peers, WireError, unary};

/// Pauses between the tries of a transaction whose outcome is unknown, about 3 s in all: longer than a restart of
/// a meta node takes, and far shorter than ids of transactions are remembered.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(900),
    Duration::from_millis(1500),
];
/// The largest answer is that to a read of many keys, which has no limit on bytes of its own.
const MAX_ANSWER: usize = MAX_GET_KEYS * (MAX_KEY_LEN + MAX_VALUE_LEN + 64);

/// A metadata store behind the network: the first meta node of a list that answers.
#[derive(Debug)]
pub struct MetaClient {
    peers: Arc<Peers>,
}

impl MetaClient {
    /// The store at these addresses. They are dialled at the first call, and again after a connection broke.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(list: &AddressList) -> Self {
        Self { peers: Arc::new(Peers::new(list, SERVICE_NAME, Choice::Sticky, Patience::WhileAlive)) }
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    async fn transact_once(&self, request: &proto::TransactRequest) -> Result<Outcome, MetaError> {
        let call = |peer: Arc<Peer>| async move {
            let response = unary(&peer, client(&peer).transact(request.clone())).await?;
            wire::outcome_from_wire(response).ok_or_else(|| nonsense(&peer))
        };
        self.peers.call(call).await
    }
}

fn client(peer: &Peer) -> MetaServiceClient<Connection> {
    MetaServiceClient::new(peer.control())
        .max_decoding_message_size(MAX_ANSWER)
        .max_encoding_message_size(MAX_MESSAGE)
}

fn nonsense(peer: &Peer) -> MetaError {
    MetaError::Unavailable(format!(
        "{}: its answer has another form than the question asks for",
        peer.address()
    ))
}

/// Refuses a request above the limit of a message here: the transport would answer as if the node were away. Every
/// request that the store takes is far below it.
fn fits(request: &impl Message) -> Result<(), MetaError> {
    match request.encoded_len() {
        ..=MAX_MESSAGE => Ok(()),
        bytes => Err(MetaError::Invalid(format!("a request of {bytes} bytes; the most is {MAX_MESSAGE}"))),
    }
}

#[async_trait]
impl MetaStore for MetaClient {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        let request = proto::GetManyRequest { keys: keys.to_vec() };
        fits(&request)?;
        let call = |peer: Arc<Peer>| {
            let request = request.clone();
            async move {
                let response = unary::<_, MetaError>(&peer, client(&peer).get_many(request)).await?;
                if response.lookups.len() != keys.len() {
                    return Err(nonsense(&peer));
                }
                let entry = |lookup: proto::Lookup| lookup.entry.map(wire::entry_from_wire);
                Ok(response.lookups.into_iter().map(entry).collect())
            }
        };
        self.peers.call(call).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = proto::ScanRequest { range: Some(wire::range_to_wire(range)), limit };
        fits(&request)?;
        let call = |peer: Arc<Peer>| {
            let request = request.clone();
            async move { unary(&peer, client(&peer).scan(request)).await.map(wire::page_from_wire) }
        };
        self.peers.call(call).await
    }

    /// Tries a transaction whose outcome is unknown again, under its id, a few times before it gives up.
    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        let request = wire::transaction_to_wire(transaction);
        fits(&request)?;
        let mut pauses = PAUSES.into_iter();
        loop {
            let result = self.transact_once(&request).await;
            match pauses.next() {
                Some(pause) if result.as_ref().is_err_and(WireError::is_unavailable) => {
                    tokio::time::sleep(pause).await;
                }
                _ => return result,
            }
        }
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        let call = |peer: Arc<Peer>| async move {
            let response = unary::<_, MetaError>(&peer, client(&peer).now(proto::NowRequest {})).await?;
            Ok(Timestamp(response.milliseconds))
        };
        self.peers.call(call).await
    }
}
