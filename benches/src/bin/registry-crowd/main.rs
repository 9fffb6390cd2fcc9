//! What do many clients at once cost a registry? Two questions, each with `speedy serve` and its defaults:
//!
//! * A hundred uploads side by side, each at a slow pace: how much anonymous memory at most? The goal is the memory
//!   budget and 64 MiB.
//! * A thousand uploads that stop in the middle: how fast does a healthy client push meanwhile? It pushes alone and
//!   beside them in turns.
//!
//! The blobs differ in their last bytes only, so that they need no memory here, and no digest is computed while
//! anything is timed. The clients run on the same cores.

mod crowd;
mod stalled;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use speedy_benches::server::Server;
use speedy_benches::{machine, number};

/// The default budget of a process, and what may come on top.
const GOAL_MIB: f64 = 256.0 + 64.0;

/// Measures a registry under many uploads at once.
#[derive(Debug, Parser)]
struct Options {
    /// The speedy program. Default: the one of this workspace, built now.
    #[arg(long, value_name = "PATH", global = true)]
    speedy: Option<PathBuf>,
    /// Where it keeps its data. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    question: Question,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Question {
    /// Paced uploads side by side, and the most memory they take.
    Memory {
        /// Uploads at once.
        #[arg(long, default_value_t = 100)]
        uploads: usize,
        /// MiB of each.
        #[arg(long, default_value_t = 256)]
        size: usize,
        /// MiB a second of all together.
        #[arg(long, default_value_t = 200)]
        rate: usize,
    },
    /// Uploads that stop in the middle, and the speed of one that does not.
    Stalled {
        /// Uploads that stop.
        #[arg(long, default_value_t = 1000)]
        uploads: usize,
        /// KiB that each of them sends before it stops.
        #[arg(long, default_value_t = 100)]
        sent: usize,
        /// MiB of each healthy upload.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Healthy uploads in a round.
        #[arg(long, default_value_t = 8)]
        healthy: usize,
        /// Rounds: alone, beside the stalled as they stop, and beside them later.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let program = options.speedy.map_or_else(speedy_e2e::speedy, Ok)?;
    let parent = options.directory.unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::tempdir_in(&parent).context("making a directory for the data")?;
    let mut server = Server::speedy(&program, directory.path())?;
    let answered = match options.question {
        Question::Memory { uploads, size, rate } => {
            ensure!(uploads > 0 && size > 0 && rate > 0, "all of them must be at least 1");
            memory(&server, uploads, size, rate).await
        }
        Question::Stalled { uploads, sent, size, healthy, rounds } => {
            ensure!(size > 0 && healthy > 0 && rounds > 0, "all of them must be at least 1");
            stalled::measure(&server, uploads, sent << 10, size << 20, healthy, rounds).await
        }
    };
    answered.with_context(|| server.log_tail())?;
    println!("Machine: {}.", machine());
    server.stop()
}

async fn memory(server: &Server, uploads: usize, size: usize, rate: usize) -> Result<()> {
    let before = mib(server.memory());
    let seconds = crowd::push(server, uploads, size << 20, rate << 20).await?;
    let peak = mib(server.take_peak_memory());
    println!(
        "| uploads at once | MiB each | MiB/s together | memory before, MiB | most memory, MiB | goal, MiB |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    let reached = number((uploads * size) as f64 / seconds);
    println!(
        "| {uploads} | {size} | {reached} | {} | {} | {} |",
        number(before),
        number(peak),
        number(GOAL_MIB)
    );
    println!();
    match peak <= GOAL_MIB {
        true => println!("The goal is met."),
        false => println!("The goal is missed by {} MiB.", number(peak - GOAL_MIB)),
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
