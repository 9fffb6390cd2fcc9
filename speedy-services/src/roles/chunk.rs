use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use speedy_core::id::{GroupId, GroupVersion, NodeId};
use speedy_core::replicate::{RelayNode, Repair, RepairOptions, Routes as Known, StoreNode};
use speedy_core::store::{ChunkStore, DirectoryState, Maintenance, MaintenanceOptions, StoreOptions};
use speedy_proto::chunk::v1::chunk_service_server::SERVICE_NAME;
use tonic::service::Routes;

use super::process::Process;
use super::{StartError, figures, recovery};
use crate::chunk::{ChunkNodes, ChunkServer, GroupMember, Report, heartbeat};
use crate::cli;
use crate::master::MasterClient;

/// How often the node asks the master who else is in its group.
const LOOK: Duration = Duration::from_secs(1);

/// `speedy chunk`: a chunk store behind gRPC, and a heartbeat.
pub(super) async fn run(options: cli::Chunk, process: Process) -> Result<(), StartError> {
    let advertised = process.advertised()?.to_string();
    let (directories, forget_missing) = (options.data_dirs, options.forget_missing);
    let opened = tokio::task::spawn_blocking(move || {
        // An image is often pulled as soon as it was pushed.
        let options = StoreOptions::default().forget_missing(forget_missing).cache_writes(true);
        ChunkStore::open_all(directories, options)
    });
    let store = Arc::new(opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?);
    tracing::info!("node {} of group {}, store {}", store.node_id(), options.group, store.store_id());
    recovery::tell(&store);
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
    let nodes = Arc::new(ChunkNodes::new());
    let relay = Arc::new(RelayNode::new(Arc::clone(&node) as _, Arc::clone(&nodes) as _));
    let group = GroupId::new(options.group);
    let master = Arc::new(MasterClient::new(&options.master));
    process.peers.add("master", master.peers());
    let routes = Known::follow(Arc::clone(&master) as _, LOOK);
    let settings = RepairOptions::default().bytes_per_second(options.repair_rate.map(|rate| rate.bytes()));
    let repair = Repair::new(Arc::clone(&node) as _, store.node_id(), group, routes, nodes, settings);
    figures::of_repair(&process.metrics, repair.clone());
    let damaged = repair.clone();
    store.on_damage(move |_, _| damaged.hurry());
    process.drain.until(repair.clone().run());
    let member = Arc::new(Member {
        node: Arc::clone(&node),
        group,
        has_lost: AtomicBool::new(store.directories().iter().any(|one| one.state != DirectoryState::Healthy)),
        is_short_of_room: AtomicBool::new(false),
        repair,
    });
    let condition = process.readiness.condition("group", "no master has answered yet");
    process.drain.until(heartbeat(member, master, advertised, condition));
    let chunks = ChunkServer::new(store.node_id(), relay);
    let served = process.serve_grpc(SERVICE_NAME, Routes::new(chunks)).await;
    drop(maintenance);
    served
}

struct Member {
    node: Arc<StoreNode>,
    group: GroupId,
    repair: Repair,
    /// Whether a directory of the store is gone, and what was in it has not been fetched since.
    has_lost: AtomicBool,
    is_short_of_room: AtomicBool,
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
        let was_short = self.is_short_of_room.load(Ordering::Relaxed);
        let is_short_of_room = is_short(was_short, free_bytes, total_bytes);
        self.is_short_of_room.store(is_short_of_room, Ordering::Relaxed);
        let caught_up = self.repair.caught_up();
        // Whoever has caught up once since has all there is.
        let has_lost = self.has_lost.load(Ordering::Relaxed) && caught_up.is_none();
        let (highest_chunk, backlog) = (store.highest_id(), self.repair.backlog());
        Report { highest_chunk, free_bytes, total_bytes, is_short_of_room, has_lost, caught_up, backlog }
    }

    fn set_version(&self, version: GroupVersion) {
        self.node.set_version(Some(version));
    }
}

/// Whether a disk has too little room for new chunks: less than 3%, or 3 GiB of a large one. Once it has, it takes more
/// than 5%, or 5 GiB, to change that, so that a group does not change its mind with every chunk.
fn is_short(was_short: bool, free: u64, total: u64) -> bool {
    let percent: u64 = if was_short { 5 } else { 3 };
    total > 0 && free < (total / 100 * percent).min(percent << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_stays_so_until_there_is_room_to_speak_of() {
        assert!(!is_short(false, 0, 0), "nothing is known of it");
        assert!(is_short(false, 29, 1000) && !is_short(false, 30, 1000));
        assert!(is_short(true, 49, 1000) && !is_short(true, 50, 1000));
        assert!(!is_short(false, 3 << 30, 1 << 50) && is_short(true, 3 << 30, 1 << 50));
    }
}
