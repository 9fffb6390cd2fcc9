use std::sync::Arc;

use async_trait::async_trait;
use speedy_core::meta::{MetaError, MetaStore};
use speedy_proto::meta::v1 as proto;
use speedy_proto::meta::v1::meta_service_server::{MetaService, MetaServiceServer};
use tonic::{Request, Response, Status};

use super::wire;
use crate::wire::{MAX_MESSAGE, WireError};

/// Offers a metadata store by gRPC.
#[derive(Debug)]
pub struct MetaServer {
    store: Arc<dyn MetaStore>,
}

impl MetaServer {
    /// The service over a store.
    pub fn new(store: Arc<dyn MetaStore>) -> MetaServiceServer<Self> {
        MetaServiceServer::new(Self { store }).max_decoding_message_size(MAX_MESSAGE)
    }
}

fn refuse(error: MetaError) -> Status {
    error.to_status()
}

#[async_trait]
impl MetaService for MetaServer {
    async fn get_many(
        &self,
        request: Request<proto::GetManyRequest>,
    ) -> Result<Response<proto::GetManyResponse>, Status> {
        let entries = self.store.get_many(&request.into_inner().keys).await.map_err(refuse)?;
        let lookup = |entry: Option<_>| proto::Lookup { entry: entry.map(wire::entry_to_wire) };
        Ok(Response::new(proto::GetManyResponse { lookups: entries.into_iter().map(lookup).collect() }))
    }

    async fn scan(
        &self,
        request: Request<proto::ScanRequest>,
    ) -> Result<Response<proto::ScanResponse>, Status> {
        let proto::ScanRequest { range, limit } = request.into_inner();
        let range = wire::range_from_wire(range).map_err(refuse)?;
        let page = self.store.scan(range, limit as usize).await.map_err(refuse)?;
        Ok(Response::new(wire::page_to_wire(page)))
    }

    async fn transact(
        &self,
        request: Request<proto::TransactRequest>,
    ) -> Result<Response<proto::TransactResponse>, Status> {
        let transaction = wire::transaction_from_wire(request.into_inner()).map_err(refuse)?;
        let outcome = self.store.transact(transaction).await.map_err(refuse)?;
        Ok(Response::new(wire::outcome_to_wire(outcome)))
    }

    async fn now(&self, _: Request<proto::NowRequest>) -> Result<Response<proto::NowResponse>, Status> {
        let now = self.store.now().await.map_err(refuse)?;
        Ok(Response::new(proto::NowResponse { milliseconds: now.0 }))
    }
}
