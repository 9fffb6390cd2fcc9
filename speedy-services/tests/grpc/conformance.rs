//! The core's suites, run against its real types with the network in between.

use std::sync::Arc;

use parking_lot::Mutex;
use speedy_core::budget::Budget;
use speedy_core::embedded::{Embedded, EmbeddedOptions};
use speedy_core::id::GroupVersion;
use speedy_core::meta::{self, EmbeddedMeta, MemoryMeta, MetaStore};
use speedy_core::placement::{self, Master, MasterOptions, StoredMaster};
use speedy_core::replicate::{self, ChunkNode, Fragments, StoreNode};
use speedy_core::store::{ChunkStore, StoreOptions};
use speedy_services::chunk::{ChunkClient, ChunkServer};
use speedy_services::image::{ImageClient, ImageServer};
use speedy_services::master::{MasterClient, MasterServer};
use speedy_services::meta::{MetaClient, MetaServer};
use tempfile::TempDir;
use tonic::service::Routes;

use super::Server;

/// What must outlive a test's clients: data directories and servers.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(TempDir, Server)>>>);

impl Kept {
    fn keep(&self, directory: TempDir, server: Server) {
        self.0.lock().push((directory, server));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meta_node_is_a_metadata_store() {
    let kept = Kept::default();
    meta::conformance::run_all(|| {
        let kept = kept.clone();
        async move {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedMeta::open(directory.path(), meta::EmbeddedOptions::default()).unwrap();
            let server = Server::start(Routes::new(MetaServer::new(Arc::new(store)))).await;
            let client = MetaClient::new(&server.list());
            kept.keep(directory, server);
            Arc::new(client) as Arc<dyn MetaStore>
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_behind_grpc_is_a_master() {
    let kept = Kept::default();
    placement::conformance::run_all(|| {
        let kept = kept.clone();
        async move {
            let meta = Arc::new(MemoryMeta::new());
            let master = StoredMaster::new(meta, MasterOptions::default()).await.unwrap();
            let server = Server::start(Routes::new(MasterServer::new(Arc::new(master)))).await;
            let client = MasterClient::new(&server.list());
            kept.keep(tempfile::tempdir().unwrap(), server);
            Arc::new(client) as Arc<dyn Master>
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_node_behind_grpc_is_a_chunk_node() {
    let kept = Kept::default();
    replicate::conformance::run_all(|| {
        let kept = kept.clone();
        async move {
            let directory = tempfile::tempdir().unwrap();
            let store = ChunkStore::open(directory.path(), StoreOptions::default()).unwrap();
            let id = store.node_id();
            let node = StoreNode::new(Arc::new(store));
            node.set_version(Some(GroupVersion::new(1)));
            let server = Server::start(Routes::new(ChunkServer::new(id, Arc::new(node)))).await;
            let client = ChunkClient::of(id, server.address.clone());
            kept.keep(directory, server);
            Arc::new(client) as Arc<dyn ChunkNode>
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_node_keeps_fragments() {
    let kept = Kept::default();
    replicate::conformance::fragments::run_all(|| {
        let kept = kept.clone();
        async move {
            let directory = tempfile::tempdir().unwrap();
            let embedded = Embedded::open(directory.path(), EmbeddedOptions::default()).await.unwrap();
            let fragments = Arc::new(embedded.replication().clone());
            let server = Server::start(Routes::new(ImageServer::new(fragments, Budget::default()))).await;
            let client = ImageClient::new(&server.list());
            kept.keep(directory, server);
            Arc::new(client) as Arc<dyn Fragments>
        }
    })
    .await;
}
