use std::io::Write;
use std::sync::Arc;

use speedy_core::embedded::{Embedded, EmbeddedOptions};

use super::meta::{METADATA, answers};
use super::process::Process;
use super::registry::registry_options;
use super::{StartError, figures, recovery};
use crate::address::HostPort;
use crate::cli;
use crate::registry::gc::Gc;
use crate::registry::{Registry, router};

/// `speedy serve`: everything in one process.
pub(super) async fn run(options: cli::Serve, process: Process) -> Result<(), StartError> {
    let settings = EmbeddedOptions::default().memory(options.process.memory_budget.bytes());
    let settings = settings.map_blobs(|blobs| options.gc.blobs(blobs));
    let embedded = Embedded::open(&options.data_dir, settings).await?;
    recovery::tell(embedded.store());
    figures::of_replication(&process.metrics, Arc::clone(embedded.replication().metrics()));
    figures::of_store(&process.metrics, Arc::clone(embedded.store()));
    figures::of_maintenance(&process.metrics, Arc::clone(embedded.maintenance()));
    process.offer(embedded.store());
    let meta = Arc::clone(embedded.blobs().meta());
    process.keep_asking(METADATA, move || answers(Arc::clone(&meta)));
    process.offer_backups(embedded.meta());
    figures::of_budget(&process.metrics, embedded.blobs().budget().clone());
    let gc = Gc::new(embedded.blobs().clone(), options.gc.options(), process.place());
    figures::of_gc(&process.metrics, gc.clone());
    // No other process sees this metadata, so whoever collects was killed. Where that can't be written down the lease runs out by itself.
    if let Err(error) = gc.begin_alone().await {
        tracing::debug!(%error, "the lease of the collector before this one runs out by itself");
    }
    process.offer_gc(embedded.blobs(), Some(gc.clone()));
    let collecting = process.collect(gc);
    let registry = Registry::new(embedded.blobs().clone(), registry_options(&options.limits, options.v1));
    if process.wait_for(METADATA, || registry.look_up_read_only()).await.is_none() {
        return Ok(());
    }
    process.offer_registry(&registry);
    let directory = std::fs::canonicalize(&options.data_dir).unwrap_or(options.data_dir);
    // Lines of JSON are for programs, which often read both streams as one.
    if options.process.log_format == cli::LogFormat::Text {
        let text = welcome(&process.address, &directory.display().to_string());
        // Whoever closed the pipe does not want to read it; the registry runs all the same.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    process.serve_http(router(registry), options.limits.max_connections.count()).await;
    let _ = collecting.await;
    Ok(())
}

/// What a newcomer does next.
fn welcome(address: &HostPort, directory: &str) -> String {
    // Docker trusts a registry without TLS on the loopback addresses only.
    let name =
        if address.is_wildcard() { format!("localhost:{}", address.port()) } else { address.to_string() };
    format!(
        "\
Speedy is ready: a registry on {address}, its data in {directory}

Push an image that you have, here one called hello-world, and pull it again:

    docker tag hello-world {name}/hello-world
    docker push {name}/hello-world
    docker pull {name}/hello-world

Ctrl-C stops it in order. All else: speedy --help
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_can_be_pasted() {
        let text = welcome(&"0.0.0.0:5000".parse().unwrap(), "/data");
        assert!(text.contains("docker push localhost:5000/hello-world\n"), "{text}");
        let text = welcome(&"127.0.0.1:5001".parse().unwrap(), "/data");
        assert!(text.contains("docker pull 127.0.0.1:5001/hello-world\n"), "{text}");
    }
}
