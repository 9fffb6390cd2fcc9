use std::sync::Arc;

use speedy_core::blob::{BlobOptions, BlobStore};
use speedy_core::budget::Budget;
use speedy_core::meta::MetaStore;

use super::meta::{METADATA, answers};
use super::process::Process;
use super::{StartError, figures};
use crate::image::ImageClient;
use crate::meta::MetaClient;
use crate::registry::{Registry, RegistryOptions, router};
use crate::{cli, http};

/// `speedy registry`: a blob store over image nodes and meta nodes, behind HTTP.
pub(super) async fn run(options: cli::Registry, process: Process) -> Result<(), StartError> {
    let (meta, fragments) = (MetaClient::new(&options.meta), Arc::new(ImageClient::new(&options.image)));
    process.peers.add("meta", meta.peers());
    process.peers.add("image", fragments.peers());
    let meta: Arc<dyn MetaStore> = Arc::new(meta);
    let budget = Budget::new(options.process.memory_budget.bytes());
    figures::of_budget(&process.metrics, budget.clone());
    let images = Arc::clone(&fragments);
    let blobs = BlobStore::new(Arc::clone(&meta), fragments, budget, BlobOptions::default());
    process.keep_asking("image nodes", move || {
        let images = Arc::clone(&images);
        async move { images.ready().await }
    });
    if process.wait_for(METADATA, || meta.now()).await.is_none() {
        return Ok(());
    }
    process.keep_asking(METADATA, move || answers(Arc::clone(&meta)));
    tracing::info!("listening on {}", process.address);
    let registry = Registry::new(blobs, RegistryOptions::default().v1(options.v1.is_on()));
    registry.traffic().register("http", &process.metrics);
    http::serve(process.listener, router(registry), process.drain).await;
    tracing::info!("drained");
    Ok(())
}
