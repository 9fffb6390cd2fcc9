//! Clients that push and pull without end, verify every byte, and remember all that was acknowledged.

mod client;
mod content;
mod http;
mod ledger;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::runtime::Runtime;

pub use tally::Seen;

use crate::network::Host;
use crate::process::wait_until;
use client::Shared;
use http::Front;
use ledger::Ledger;

/// Until when a load must have done what is waited for.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Reads at a time when everything is read again.
const READS: usize = 4;

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Chooses all that they do.
    pub seed: u64,
    /// How many work at a time.
    pub clients: usize,
    /// The most that all together push.
    pub bytes_per_second: u64,
}

/// Clients at work on a host, through either of its registries. Dropping it stops them.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    acknowledged: Acknowledged,
    stop: Arc<AtomicBool>,
    /// Until it is stopped.
    thread: Option<JoinHandle<Result<()>>>,
}

/// All that a load was told to have been stored.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    host: Host,
    registries: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
}

/// What became of all that was acknowledged.
#[derive(Clone, Debug)]
pub struct Readback {
    /// Blobs and manifests that were read again and compared.
    pub found: usize,
    /// Those that could not be had, or had other bytes, and why.
    pub lost: Vec<String>,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// When the system refuses the resources.
    pub fn start(host: &Host, registries: &[SocketAddr], options: LoadOptions) -> Result<Self> {
        let ledger = Arc::default();
        let acknowledged = Acknowledged { host: host.clone(), registries: registries.to_vec(), ledger };
        let shared = Arc::new(acknowledged.shared(options.bytes_per_second)?);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (host, shared, stop) = (host.clone(), Arc::clone(&shared), Arc::clone(&stop));
            move || {
                host.enter()?;
                let work = |number| {
                    let seed = options.seed.wrapping_mul(1000).wrapping_add(number as u64);
                    client::run(&shared, number, seed, || stop.load(Ordering::Relaxed))
                };
                runtime()?.block_on(join_all((1..=options.clients).map(work)));
                Ok(())
            }
        });
        Ok(Self { shared, acknowledged, stop, thread: Some(thread) })
    }

    /// What the clients have seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.tally.seen()
    }

    /// Waits until they have done so many operations more.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait(&self, operations: u64) -> Result<()> {
        let goal = self.seen().operations + operations;
        wait_until("operations of the clients", WAIT_LIMIT, || {
            let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            ensure!(running, "the clients have ended");
            Ok(self.seen().operations >= goal)
        })
        .with_context(|| format!("what they saw:\n{}", self.seen()))
    }

    /// Lets the clients end what they do.
    ///
    /// # Errors
    /// When they could not start.
    pub fn stop(mut self) -> Result<(Seen, Acknowledged)> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the clients panicked"))??;
        }
        Ok((self.seen(), self.acknowledged.clone()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Its thread ends by itself, soon or when nothing answers.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Acknowledged {
    /// Reads everything again, whole, and compares it.
    ///
    /// # Errors
    /// When the host of the clients is gone. What is lost is no error here.
    pub fn read_back(&self) -> Result<Readback> {
        let shared = self.shared(u64::MAX)?;
        self.host.run(|| {
            let (blobs, manifests) = (self.ledger.blobs(), self.ledger.manifests());
            let found = runtime()?.block_on(async {
                let blobs = stream::iter(blobs.iter().enumerate())
                    .map(|(number, blob)| client::pull(&shared, blob, number, None))
                    .buffer_unordered(READS);
                let manifests = stream::iter(manifests.iter().enumerate()).map(|(number, manifest)| {
                    client::pull_manifest(&shared, manifest, number, number % 3 != 0)
                });
                let read = blobs.chain(manifests.buffer_unordered(READS));
                read.filter(|&found| std::future::ready(found)).count().await
            });
            Ok(Readback { found, lost: shared.tally.seen().errors })
        })
    }

    fn shared(&self, bytes_per_second: u64) -> Result<Shared> {
        let fronts = self.registries.iter().map(|&registry| Front::at(registry));
        let fronts = fronts.collect::<Result<_>>().context("making clients")?;
        Ok(Shared::new(fronts, Arc::clone(&self.ledger), bytes_per_second))
    }
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the clients' runtime")
}
