//! Faults at random on a cluster under load, for as long as you like: nothing may be lost, and nothing may fail for a
//! client that tries three times more. Needs root.
//!
//! The cluster runs on hosts of its own, network namespaces of this machine, and is removed at the end. The seed
//! chooses what the clients push, which faults happen and in which order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use speedy_e2e::{Fault, LoadOptions, Ordeal, logs_in};
use tokio::signal::unix::{SignalKind, signal};

/// Breaks a cluster at random, under a load that verifies every byte.
#[derive(Debug, Parser)]
struct Options {
    /// Chooses everything. Default: another one each time, which the report names.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Groups of three chunk nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    groups: u8,
    /// Clients at a time.
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// The most that they push together, in MiB a second. Each byte takes three on the disk, and stays there.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Where data and logs are. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// MiB that a chunk node is given at most: one that is full for good would never be in sync again.
const ROOM: u64 = 12 << 10;

/// Whether it is to end before its time, and to leave nothing behind.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut told_to_end = signal(SignalKind::terminate())?;
            tokio::select! {
                pressed = tokio::signal::ctrl_c() => pressed,
                _ = told_to_end.recv() => Ok(()),
            }
        })?;
        eprintln!("interrupted: ending when this fault is over");
        INTERRUPTED.store(true, Ordering::Relaxed);
        Ok::<_, std::io::Error>(())
    });
    let mut directory = tempfile::Builder::new();
    let directory = directory.prefix("soak-");
    let mut directory = match &options.directory {
        Some(parent) => directory.tempdir_in(parent),
        None => directory.tempdir(),
    }
    .context("making a directory for data and logs")?;
    let outcome = soak(&options, directory.path());
    if let Err(error) = outcome {
        // What is left of the data says more than the logs.
        directory.disable_cleanup(true);
        eprintln!(
            "{}\n{error:#}\nData and logs stay in {}",
            logs_in(directory.path()),
            directory.path().display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn soak(options: &Options, directory: &Path) -> Result<()> {
    let most = options.rate.saturating_mul(60).saturating_mul(options.minutes) / u64::from(options.groups);
    ensure!(
        most <= ROOM,
        "up to {most} MiB would come to each group, and the disk of one node has room for {ROOM}: choose less time, a lower \
         --rate or more --groups"
    );
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let seed = options.seed.unwrap_or(now);
    eprintln!("seed {seed}, {} minutes", options.minutes);
    let load = LoadOptions {
        seed,
        clients: options.clients,
        bytes_per_second: options.rate.saturating_mul(1 << 20),
    };
    let groups = usize::from(options.groups);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut ordeal = Ordeal::start(directory, groups, load)?;
    let until = Instant::now() + Duration::from_secs(options.minutes * 60);
    while Instant::now() < until {
        let fault = Fault::random(&mut random, groups);
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted\n{}", ordeal.finish(false)?);
        eprintln!("{fault}");
        if let Err(error) = ordeal.endure(fault) {
            bail!("{error:#}\n{}", ordeal.finish(false)?);
        }
        eprintln!("  {} operations, {} errors", ordeal.seen().operations, ordeal.seen().errors.len());
    }
    let report = ordeal.finish(true)?;
    println!("{report}");
    report.ensure_harmless()
}
