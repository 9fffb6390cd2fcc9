//! How fast is a cluster whose links are the bottleneck? Each image node shares a host with a registry, each chunk node has
//! a host, the master and the meta node share one, and there is one for the clients of each registry: network namespaces
//! of this machine, joined by links of a set rate. Needs root.
//!
//! The clients push blobs, each of which is stored three times, and pull them; then bytes go over the same links by bare
//! connections, as many at a time. The links' own counters show who sent what, and the processes' how much processor time
//! each role took. Several setups (`--table`, `--scale`) and several programs (`--beside`) take turns; each
//! figure is the median of all rounds, with the least and the greatest beside it.

mod client;
mod cluster;
mod measure;
mod raw;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use client::Way;
use cluster::Shape;
use measure::{Figures, Load, Setup};

/// Measures pushes and pulls of a cluster over links of a set rate.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What each link carries each way, in the words of tc; `none` for what the machine can.
    #[arg(long, default_value = "1gbit")]
    rate: String,
    /// Blobs that are pushed and pulled.
    #[arg(long, default_value_t = 100)]
    blobs: usize,
    /// MiB of each.
    #[arg(long, default_value_t = 16)]
    megabytes: usize,
    /// How many of them at a time.
    #[arg(long, default_value_t = 10)]
    at_once: usize,
    /// The nine rows of the original's test instead: 100, 500 and 1,000 blobs by 10, 50 and 100 clients. Needs 50 GiB of
    /// disk in the directory for temporary files; each row begins with an empty cluster.
    #[arg(long, conflicts_with_all = ["blobs", "at_once"])]
    table: bool,
    /// One group with one image node, and two with two, in turns: what the second adds.
    #[arg(long, conflicts_with = "table")]
    scale: bool,
    /// The speedy program. Default: the one of this workspace, built now.
    #[arg(long, value_name = "PATH")]
    speedy: Option<PathBuf>,
    /// Another release's program, to take turns with.
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The clients of one registry, on their host: started by the benchmark itself
    #[command(hide = true)]
    Client { way: Way, registry: SocketAddr, first: usize, blobs: usize, megabytes: usize, at_once: usize },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Client { way, registry, first, blobs, megabytes, at_once }) = options.role {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(client::run(way, registry, first..first + blobs, megabytes << 20, at_once));
    }
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let speedy = options.speedy.clone().map_or_else(speedy_e2e::speedy, Ok)?;
    let programs: Vec<PathBuf> = std::iter::once(speedy)
        .chain(options.beside.clone())
        // Each runs in a directory of its own.
        .map(|program| program.canonicalize().with_context(|| format!("looking for {}", program.display())))
        .collect::<Result<_>>()?;
    let setups = setups(&options);
    // By setup, then by program.
    let mut figures = vec![vec![Figures::default(); programs.len()]; setups.len()];
    for round in 0..options.rounds {
        for (setup, figures) in setups.iter().zip(&mut figures) {
            for turn in 0..programs.len() {
                let which = (turn + round) % programs.len();
                eprintln!(
                    "round {} of {}: {setup}: {}",
                    round + 1,
                    options.rounds,
                    programs[which].display()
                );
                let round = measure::measure(setup, &programs[which])?;
                eprintln!("  {}", report::line(&round));
                figures[which].add(round);
            }
        }
    }
    report::print(&setups, &programs, &figures, options.rounds);
    Ok(())
}

fn setups(options: &Options) -> Vec<Setup> {
    let rate = (options.rate != "none").then(|| options.rate.clone());
    let load = |at_once, blobs| Load { blobs, length: options.megabytes << 20, at_once };
    let shape = |groups| Shape { groups, fronts: groups, rate: rate.clone() };
    if options.table {
        let row =
            |at_once| [100, 500, 1000].map(|blobs| Setup { shape: shape(1), load: load(at_once, blobs) });
        return [10, 50, 100].into_iter().flat_map(row).collect();
    }
    let sizes: &[usize] = if options.scale { &[1, 2] } else { &[1] };
    let setup = |&groups| Setup { shape: shape(groups), load: load(options.at_once, options.blobs) };
    sizes.iter().map(setup).collect()
}
