use std::sync::Arc;

use speedy_core::id::{GroupId, GroupVersion, NodeId};
use speedy_core::replicate::{RelayNode, StoreNode};
use speedy_core::store::{ChunkStore, Maintenance, MaintenanceOptions, StoreOptions};
use tonic::service::Routes;

use super::process::Process;
use super::{StartError, figures};
use crate::chunk::{ChunkNodes, ChunkServer, GroupMember, Report, heartbeat};
use crate::cli;
use crate::master::MasterClient;

/// `speedy chunk`: a chunk store behind gRPC, and a heartbeat.
pub(super) async fn run(options: cli::Chunk, process: Process) -> Result<(), StartError> {
    let advertised = process.advertised()?.to_string();
    let (directories, forget_missing) = (options.data_dirs, options.forget_missing);
    let opened = tokio::task::spawn_blocking(move || {
        ChunkStore::open_all(directories, StoreOptions::default().forget_missing(forget_missing))
    });
    let store = Arc::new(opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?);
    tracing::info!("node {} of group {}, store {}", store.node_id(), options.group, store.store_id());
    for directory in store.directories() {
        match directory.id {
            Some(id) => tracing::info!(%id, "{directory}"),
            None => tracing::info!("{directory}"),
        }
    }
    figures::of_store(&process.metrics, Arc::clone(&store));
    process.offer(&store);
    // Until the node has drained.
    let maintenance = Arc::new(Maintenance::start(Arc::clone(&store), MaintenanceOptions::default()));
    figures::of_maintenance(&process.metrics, Arc::clone(&maintenance));
    let node = Arc::new(StoreNode::new(Arc::clone(&store)));
    let relay = Arc::new(RelayNode::new(Arc::clone(&node) as _, Arc::new(ChunkNodes::new())));
    let member = Arc::new(Member { node: Arc::clone(&node), group: GroupId::new(options.group) });
    let master = Arc::new(MasterClient::new(&options.master));
    let condition = process.readiness.condition("group", "no master has answered yet");
    process.drain.until(heartbeat(member, master, advertised, condition));
    let served = process.serve_grpc(Routes::new(ChunkServer::new(relay))).await;
    drop(maintenance);
    served
}

struct Member {
    node: Arc<StoreNode>,
    group: GroupId,
}

impl GroupMember for Member {
    fn node(&self) -> NodeId {
        self.node.store().node_id()
    }

    fn group(&self) -> GroupId {
        self.group
    }

    fn report(&self) -> Report {
        let store = self.node.store();
        // Where the system does not tell, the node counts as having room: it says so itself when it has not.
        let (free_bytes, total_bytes) = store.usage().map_or((0, 0), |usage| (usage.free, usage.total));
        Report { highest_chunk: store.highest_id(), free_bytes, total_bytes }
    }

    fn set_version(&self, version: GroupVersion) {
        self.node.set_version(Some(version));
    }
}
