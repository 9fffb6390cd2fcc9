use std::sync::Arc;

use async_trait::async_trait;
use speedy_core::id::{ChunkId, GroupId, GroupVersion, NodeId};
use speedy_core::placement::{Heartbeat, Master, MasterError};
use speedy_proto::master::v1 as proto;
use speedy_proto::master::v1::master_service_server::{MasterService, MasterServiceServer};
use tonic::{Request, Response, Status};

use super::wire;
use crate::address::HostPort;
use crate::wire::WireError;

/// Offers a master by gRPC.
#[derive(Debug)]
pub struct MasterServer {
    master: Arc<dyn Master>,
}

impl MasterServer {
    /// The service over a master.
    pub fn new(master: Arc<dyn Master>) -> MasterServiceServer<Self> {
        MasterServiceServer::new(Self { master })
    }
}

fn refuse(error: MasterError) -> Status {
    error.to_status()
}

#[async_trait]
impl MasterService for MasterServer {
    async fn get_topology(
        &self,
        _: Request<proto::GetTopologyRequest>,
    ) -> Result<Response<proto::Topology>, Status> {
        let topology = self.master.topology().await.map_err(refuse)?;
        Ok(Response::new(wire::topology_to_wire(topology)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let beat = heartbeat_from_wire(request.into_inner())
            .map_err(|why| refuse(MasterError::Refused(format!("a bad heartbeat: {why}"))))?;
        let reply = self.master.heartbeat(beat).await.map_err(refuse)?;
        let state = wire::state_to_wire(reply.state).into();
        Ok(Response::new(proto::HeartbeatResponse { version: reply.version.get(), state }))
    }

    async fn allocate_chunks(
        &self,
        request: Request<proto::AllocateChunksRequest>,
    ) -> Result<Response<proto::AllocateChunksResponse>, Status> {
        let proto::AllocateChunksRequest { group, count } = request.into_inner();
        let range = self.master.allocate_chunks(GroupId::new(group), count).await.map_err(refuse)?;
        Ok(Response::new(proto::AllocateChunksResponse { start: range.start, end: range.end }))
    }

    async fn order(&self, request: Request<proto::OrderRequest>) -> Result<Response<proto::Group>, Status> {
        let (group, order) = wire::order_from_wire(request.into_inner())
            .map_err(|why| refuse(MasterError::Refused(format!("a bad order: {why}"))))?;
        let group = self.master.order(group, order).await.map_err(refuse)?;
        Ok(Response::new(wire::group_to_wire(group)))
    }
}

fn heartbeat_from_wire(request: proto::HeartbeatRequest) -> Result<Heartbeat, String> {
    let node = NodeId::try_from(&request.node[..]).map_err(|error| error.to_string())?;
    // Everyone in the cluster will dial it: checked here, once.
    let address: HostPort =
        request.address.parse().map_err(|error| format!("{:?}: {error}", request.address))?;
    let mut beat = Heartbeat::new(node, GroupId::new(request.group), address.to_string());
    beat.highest_chunk = request.highest_chunk.map(ChunkId::new);
    beat.free_bytes = request.free_bytes;
    beat.total_bytes = request.total_bytes;
    (beat.is_short_of_room, beat.has_lost) = (request.is_short_of_room, request.has_lost);
    beat.caught_up = request.caught_up.map(GroupVersion::new);
    beat.backlog = wire::backlog_from_wire(request.backlog);
    Ok(beat)
}
