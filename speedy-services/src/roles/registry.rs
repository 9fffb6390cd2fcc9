use std::num::NonZeroU32;
use std::sync::Arc;

use speedy_core::blob::{BlobOptions, BlobStore};
use speedy_core::budget::Budget;
use speedy_core::meta::MetaStore;

use super::meta::{METADATA, answers};
use super::process::Process;
use super::{StartError, figures};
use crate::cli;
use crate::cli::Size;
use crate::image::ImageClient;
use crate::meta::MetaClient;
use crate::registry::{Limits, Rate, Registry, RegistryOptions, router};

const TEN: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

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
    process.offer_gc(&blobs, None);
    process.keep_asking("image nodes", move || {
        let images = Arc::clone(&images);
        async move { images.ready().await }
    });
    // Without it requests are refused with 503, as when it goes away later.
    process.keep_asking(METADATA, move || answers(Arc::clone(&meta)));
    let registry = Registry::new(blobs, registry_options(&options.limits, options.v1));
    process.offer_registry(&registry);
    process.serve_http(router(registry), options.limits.max_connections.count()).await;
    Ok(())
}

/// How the options of the command line let a registry serve.
pub(super) fn registry_options(options: &cli::Limits, v1: cli::Switch) -> RegistryOptions {
    let rate = options.client_rate.count().map(|per_second| {
        // Ten seconds' worth: a pull asks for many small things at once, and then for long ones.
        let burst = options.client_burst.unwrap_or(per_second.saturating_mul(TEN));
        Rate { per_second, burst }
    });
    let limits = Limits::default()
        .blob(options.max_blob.size().map(Size::bytes))
        .uploads(options.max_uploads.count())
        .client_uploads(options.client_uploads.count())
        .client_rate(rate)
        .trusted_proxies(options.trusted_proxies.clone());
    RegistryOptions::default().limits(limits).v1(v1.is_on())
}
