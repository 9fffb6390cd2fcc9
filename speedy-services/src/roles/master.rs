use std::sync::Arc;
use std::time::Duration;

use speedy_core::meta::MetaStore;
use speedy_core::placement::{MasterOptions, StoredMaster};
use speedy_proto::master::v1::master_service_server::SERVICE_NAME;
use tonic::service::Routes;

use super::meta::{METADATA, answers};
use super::process::Process;
use super::{StartError, Waiting};
use crate::cli;
use crate::master::MasterServer;
use crate::meta::MetaClient;

/// How often the master looks for members that have gone silent.
const TICK: Duration = Duration::from_secs(1);

/// `speedy master`: the master over a metadata store of its own, or over meta nodes.
pub(super) async fn run(options: cli::Master, process: Process) -> Result<(), StartError> {
    let meta: Arc<dyn MetaStore> = match (&options.data_dir, &options.meta) {
        (_, Some(list)) => {
            let client = MetaClient::new(list);
            process.peers.add("meta", client.peers());
            Arc::new(client)
        }
        (Some(directory), None) => {
            let store = super::meta::open(directory, options.process.memory_budget.bytes() / 4).await?;
            process.offer_backups(&store);
            store
        }
        (None, None) => unreachable!("the command line demands one of --data-dir and --meta"),
    };
    let settings = MasterOptions::default().replicas(options.replicas);
    let started = process.wait_for(METADATA, || StoredMaster::new(Arc::clone(&meta), settings.clone()));
    let Some(master) = started.await else { return Ok(()) };
    let master = Arc::new(master);
    process.keep_asking(METADATA, move || answers(Arc::clone(&meta)));
    process.drain.until(watch(Arc::clone(&master)));
    process.serve_grpc(SERVICE_NAME, Routes::new(MasterServer::new(master))).await
}

async fn watch(master: Arc<StoredMaster>) {
    let mut waiting = Waiting::default();
    loop {
        tokio::time::sleep(TICK).await;
        match master.tick().await {
            Ok(()) => drop(waiting.over()),
            Err(error) if waiting.should_say() => {
                tracing::warn!("cannot look for silent chunk nodes: {error}; trying again");
            }
            Err(_) => {}
        }
    }
}
