use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use speedy_core::id::{ChunkId, GroupId, GroupVersion};
use speedy_core::placement::{Group, GroupOrder, Heartbeat, HeartbeatReply, Master, MasterError, Topology};
use speedy_proto::master::v1 as proto;
use speedy_proto::master::v1::master_service_client::MasterServiceClient;
use speedy_proto::master::v1::master_service_server::SERVICE_NAME;

use super::wire;
use crate::address::AddressList;
use crate::wire::{Choice, Connection, MAX_MESSAGE, Patience, Peer, Peers, unary};

/// A topology of thousands of nodes is larger than any other message here.
const MAX_TOPOLOGY: usize = 4 * MAX_MESSAGE;

/// The master behind the network: whichever of a list answers. One that says nothing for half a second is not waited
/// for: the next is asked beside it.
#[derive(Debug)]
pub struct MasterClient {
    peers: Arc<Peers>,
}

impl MasterClient {
    /// The master at these addresses. They are dialled at the first call, and again after a connection broke.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(list: &AddressList) -> Self {
        Self { peers: Arc::new(Peers::new(list, SERVICE_NAME, Choice::Sticky, Patience::Short)) }
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Where it looks for the master.
    pub fn list(&self) -> &AddressList {
        self.peers.list()
    }
}

fn client(peer: &Peer) -> MasterServiceClient<Connection> {
    MasterServiceClient::new(peer.control()).max_decoding_message_size(MAX_TOPOLOGY)
}

fn nonsense(peer: &Peer, why: &str) -> MasterError {
    MasterError::Unavailable(format!("{}: {why}", peer.address()))
}

#[async_trait]
impl Master for MasterClient {
    async fn topology(&self) -> Result<Topology, MasterError> {
        let call = |peer: Arc<Peer>| async move {
            let mut client = client(&peer);
            let request = proto::GetTopologyRequest {};
            let response = unary::<_, MasterError>(&peer, client.get_topology(request)).await?;
            wire::topology_from_wire(response).map_err(|why| nonsense(&peer, &why))
        };
        self.peers.call(call).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        let request = proto::HeartbeatRequest {
            node: heartbeat.node.as_bytes().to_vec().into(),
            group: heartbeat.group.get(),
            address: heartbeat.address,
            highest_chunk: heartbeat.highest_chunk.map(ChunkId::get),
            free_bytes: heartbeat.free_bytes,
            total_bytes: heartbeat.total_bytes,
            is_short_of_room: heartbeat.is_short_of_room,
            has_lost: heartbeat.has_lost,
            caught_up: heartbeat.caught_up.map(GroupVersion::get),
            backlog: Some(wire::backlog_to_wire(heartbeat.backlog)),
        };
        let call = |peer: Arc<Peer>| {
            let request = request.clone();
            async move {
                let response = unary::<_, MasterError>(&peer, client(&peer).heartbeat(request)).await?;
                let state = wire::state_from_wire(response.state());
                Ok(HeartbeatReply::new(GroupVersion::new(response.version), state))
            }
        };
        self.peers.call(call).await
    }

    async fn allocate_chunks(&self, group: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        let request = proto::AllocateChunksRequest { group: group.get(), count };
        let call = |peer: Arc<Peer>| async move {
            let range = unary::<_, MasterError>(&peer, client(&peer).allocate_chunks(request)).await?;
            match range.end.checked_sub(range.start) == Some(u64::from(count)) {
                true => Ok(range.start..range.end),
                false => Err(nonsense(&peer, "it handed out a range of another length than was asked for")),
            }
        };
        self.peers.call(call).await
    }

    async fn order(&self, group: GroupId, order: GroupOrder) -> Result<Group, MasterError> {
        let unknown = || MasterError::Refused("this program is too old to pass the order on".into());
        let request = wire::order_to_wire(group, order).ok_or_else(unknown)?;
        let call = |peer: Arc<Peer>| {
            let request = request.clone();
            async move {
                let group = unary::<_, MasterError>(&peer, client(&peer).order(request)).await?;
                wire::group_from_wire(group).map_err(|why| nonsense(&peer, &why))
            }
        };
        self.peers.call(call).await
    }
}
