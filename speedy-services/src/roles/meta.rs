use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions, MetaError, MetaStore};
use speedy_proto::meta::v1::meta_service_server::SERVICE_NAME;
use tonic::service::Routes;

use super::StartError;
use super::process::Process;
use crate::cli;
use crate::meta::MetaServer;

/// What a metadata store is called where a process says what it lacks.
pub(super) const METADATA: &str = "the metadata store";

/// Whether a metadata store can be read.
pub(super) async fn answers(store: Arc<dyn MetaStore>) -> Result<(), MetaError> {
    store.get(Bytes::from_static(b"?")).await.map(drop)
}

/// `speedy meta`: the embedded metadata store behind gRPC.
pub(super) async fn run(options: cli::Meta, process: Process) -> Result<(), StartError> {
    // Requests are small; most of the budget is best spent on the cache.
    let Some(directory) = options.data_dir else {
        unreachable!("the command line demands --data-dir of the role");
    };
    let store = open(directory, options.process.memory_budget.bytes() / 2).await?;
    process.offer_backups(&store);
    let asked: Arc<dyn MetaStore> = Arc::clone(&store) as _;
    process.keep_asking(METADATA, move || answers(Arc::clone(&asked)));
    process.serve_grpc(SERVICE_NAME, Routes::new(MetaServer::new(store))).await
}

/// Opens a metadata store, which reads the disk, off the async workers.
pub(super) async fn open(directory: impl AsRef<Path>, cache: u64) -> Result<Arc<EmbeddedMeta>, StartError> {
    let directory: PathBuf = directory.as_ref().into();
    let options = EmbeddedOptions::default().cache_bytes(usize::try_from(cache).unwrap_or(usize::MAX));
    let opened = tokio::task::spawn_blocking(move || EmbeddedMeta::open(directory, options));
    Ok(Arc::new(opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?))
}
