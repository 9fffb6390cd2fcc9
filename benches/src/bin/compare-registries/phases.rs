//! What is measured, in the order in which it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use speedy_benches::blobs::{Blob, Blobs};
use speedy_benches::client::{Connection, manifest_of};
use tokio::task::JoinSet;

use speedy_benches::server::Server;

const MANIFESTS: &str = "bench/manifests";
const TAGS: usize = 50;
const MANIFEST_GETS: usize = 20_000;
const MANIFEST_CLIENTS: usize = 8;
const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// One figure of one round.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    pub(crate) value: f64,
}

/// All figures of one registry in one round. Every round has the same ones in the same order.
#[derive(Debug)]
pub(crate) struct Results(pub(crate) Vec<Figure>);

/// What a phase took.
struct Taken {
    seconds: f64,
    processor: f64,
    memory: f64,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Push,
    Pull,
    Verify,
    PutManifest,
    GetManifest,
}

impl Results {
    pub(crate) async fn measure(server: &Server, large: &Blobs, small: &Blobs) -> Result<Self> {
        let push_large = on_blobs(server, Operation::Push, large, 1).await.context("pushing large blobs")?;
        let pull_large = on_blobs(server, Operation::Pull, large, 2).await.context("pulling large blobs")?;
        let push_small = on_blobs(server, Operation::Push, small, 1).await.context("pushing small blobs")?;
        let pull_small = on_blobs(server, Operation::Pull, small, 2).await.context("pulling small blobs")?;
        let manifests = get_manifests(server, small).await.context("getting manifests")?;
        on_blobs(server, Operation::Verify, large, 1).await.context("verifying large blobs")?;
        on_blobs(server, Operation::Verify, small, 1).await.context("verifying small blobs")?;

        let rate = |what, unit, value| Figure { what, unit, more_is_better: true, value };
        let cost = |what, unit, value| Figure { what, unit, more_is_better: false, value };
        let memory = |what, taken: &Taken| cost(what, "MiB", taken.memory);
        let bytes = large.length() as f64;
        let count = small.blobs.len() as f64;
        Ok(Self(vec![
            rate("push, 64 MiB blobs, 4 at a time", "MiB/s", bytes / MIB / push_large.seconds),
            rate("pull, 64 MiB blobs, 4 at a time", "MiB/s", 2.0 * bytes / MIB / pull_large.seconds),
            rate("push, 64 KiB blobs, 8 at a time", "blobs/s", count / push_small.seconds),
            rate("pull, 64 KiB blobs, 8 at a time", "blobs/s", 2.0 * count / pull_small.seconds),
            rate("manifest GET, 8 at a time", "a second", MANIFEST_GETS as f64 / manifests.seconds),
            cost("processor, push of 64 MiB blobs", "s/GiB", push_large.processor / (bytes / GIB)),
            cost("processor, pull of 64 MiB blobs", "s/GiB", pull_large.processor / (2.0 * bytes / GIB)),
            memory("peak anonymous memory, push of 64 MiB blobs", &push_large),
            memory("peak anonymous memory, pull of 64 MiB blobs", &pull_large),
            memory("peak anonymous memory, push of 64 KiB blobs", &push_small),
            memory("peak anonymous memory, pull of 64 KiB blobs", &pull_small),
            memory("peak anonymous memory, manifest GET", &manifests),
        ]))
    }
}

async fn on_blobs(server: &Server, operation: Operation, blobs: &Blobs, times: usize) -> Result<Taken> {
    let Blobs { repository, blobs, at_once } = blobs;
    let work = Work::new(server, operation, repository, blobs, blobs.len() * times);
    time(server, work, *at_once).await
}

async fn get_manifests(server: &Server, blobs: &Blobs) -> Result<Taken> {
    // A manifest names blobs of its own repository.
    let blobs: Vec<_> = blobs.blobs.iter().take(TAGS).cloned().collect();
    let work = |operation, total| Work::new(server, operation, MANIFESTS, &blobs, total);
    time(server, work(Operation::Push, TAGS), MANIFEST_CLIENTS).await?;
    time(server, work(Operation::PutManifest, TAGS), MANIFEST_CLIENTS).await?;
    time(server, work(Operation::GetManifest, MANIFEST_GETS), MANIFEST_CLIENTS).await
}

/// Operations that clients take one after another until none is left.
struct Work {
    server: std::net::SocketAddr,
    operation: Operation,
    repository: String,
    items: Vec<Item>,
    total: usize,
    taken: AtomicUsize,
}

struct Item {
    blob: Blob,
    tag: String,
    manifest: Bytes,
}

impl Work {
    fn new(
        server: &Server,
        operation: Operation,
        repository: &str,
        blobs: &[Blob],
        total: usize,
    ) -> Arc<Self> {
        let item = |(number, blob): (usize, &Blob)| Item {
            blob: blob.clone(),
            tag: format!("v{number}"),
            manifest: manifest_of(blob),
        };
        Arc::new(Self {
            server: server.address(),
            operation,
            repository: repository.to_owned(),
            items: blobs.iter().enumerate().map(item).collect(),
            total,
            taken: AtomicUsize::new(0),
        })
    }

    async fn client(self: Arc<Self>) -> Result<()> {
        let mut connection = Connection::open(self.server).await?;
        loop {
            let number = self.taken.fetch_add(1, Ordering::Relaxed);
            if number >= self.total {
                return Ok(());
            }
            let Item { blob, tag, manifest } = &self.items[number % self.items.len()];
            let repository = &self.repository;
            match self.operation {
                Operation::Push => connection.push(repository, blob).await?,
                Operation::Pull => connection.pull(repository, blob).await?,
                Operation::Verify => connection.verify(repository, blob).await?,
                Operation::PutManifest => connection.put_manifest(repository, tag, manifest).await?,
                Operation::GetManifest => connection.get_manifest(repository, tag, manifest).await?,
            }
        }
    }
}

async fn time(server: &Server, work: Arc<Work>, clients: usize) -> Result<Taken> {
    server.take_peak_memory();
    let before = server.processor_seconds()?;
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        running.spawn(Arc::clone(&work).client());
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    Ok(Taken { seconds, processor, memory: server.take_peak_memory() as f64 / MIB })
}
