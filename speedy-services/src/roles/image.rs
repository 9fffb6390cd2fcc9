use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use speedy_core::blob::{BlobOptions, BlobStore};
use speedy_core::budget::Budget;
use speedy_core::placement::{Master, Topology};
use speedy_core::replicate::{ReplicationClient, ReplicationOptions, Routes};
use speedy_proto::image::v1::fragment_service_server::SERVICE_NAME;
use tonic::service::Routes as Services;

use super::process::Process;
use super::{StartError, figures};
use crate::chunk::ChunkNodes;
use crate::cli;
use crate::image::ImageServer;
use crate::master::MasterClient;
use crate::meta::MetaClient;
use crate::registry::gc::Gc;

/// How often the groups are looked up.
const FOLLOW: Duration = Duration::from_secs(1);

/// Whether there is any chunk node to read from.
fn has_groups(topology: &Topology) -> Result<(), &'static str> {
    match topology.groups.iter().any(|group| group.holders().next().is_some()) {
        true => Ok(()),
        false => Err("no group of chunk nodes has been complete yet"),
    }
}

/// `speedy image`: the replication client behind gRPC, and the collector.
pub(super) async fn run(options: cli::Image, process: Process) -> Result<(), StartError> {
    let (master, meta) = (MasterClient::new(&options.master), Arc::new(MetaClient::new(&options.meta)));
    process.peers.add("master", master.peers());
    process.peers.add("meta", meta.peers());
    let master: Arc<dyn Master> = Arc::new(master);
    if process.wait_for("the master", || master.topology()).await.is_none() {
        return Ok(());
    }
    let routes = Routes::follow(Arc::clone(&master), FOLLOW);
    let known = routes.clone();
    process.keep_asking("groups", move || ready(has_groups(&known.current())));
    let fragments = Arc::new(ReplicationClient::new(
        routes,
        Arc::new(ChunkNodes::new()),
        master,
        ReplicationOptions::new(),
    ));
    let budget = Budget::new(options.process.memory_budget.bytes());
    let blobs = BlobStore::new(
        meta,
        Arc::clone(&fragments) as _,
        budget.clone(),
        options.gc.blobs(BlobOptions::default()),
    );
    figures::of_replication(&process.metrics, Arc::clone(fragments.metrics()));
    figures::of_budget(&process.metrics, budget.clone());
    let gc = Gc::new(blobs.clone(), options.gc.options(), process.place());
    figures::of_gc(&process.metrics, gc.clone());
    process.offer_gc(&blobs, Some(gc.clone()));
    let collecting = process.collect(gc);
    let served = process.serve_grpc(SERVICE_NAME, Services::new(ImageServer::new(fragments, budget))).await;
    if served.is_ok() {
        // Drained: it ends soon.
        let _ = collecting.await;
    }
    served
}
