//! Which is faster at what a registry does all day: `speedy serve`, or Debian's `docker-registry` on the file system?
//!
//! Both run with their defaults, one after the other, on the same disk, from an empty directory in every round; who goes
//! first alternates. A round before the first is not counted: the disk and the page cache are slower while they are cold,
//! and whoever went first would pay. The client pushes as Docker does (POST, PATCH, PUT), has every digest computed beforehand, and runs
//! on the same cores. Pulls come from the page cache. Each figure is the median of all rounds, with the least and the
//! greatest beside it. What was pushed is read back and hashed once a round, outside the timing.

mod phases;
mod server;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use speedy_benches::blobs::Blobs;
use speedy_e2e::Tool;

use crate::phases::Results;
use crate::server::Kind;

/// Measures `speedy serve` beside Debian's docker-registry and prints a table.
#[derive(Debug, Parser)]
struct Options {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The docker-registry program. Default: Debian's.
    #[arg(long, value_name = "PATH")]
    registry: Option<PathBuf>,
    /// The speedy program. Default: the one of this workspace, built now.
    #[arg(long, value_name = "PATH")]
    speedy: Option<PathBuf>,
    /// Where both keep their data, one after the other. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let registry = options.registry.map_or_else(|| Tool::DOCKER_REGISTRY.path(), Ok)?;
    let speedy = options.speedy.map_or_else(speedy_e2e::speedy, Ok)?;
    let parent = options.directory.unwrap_or_else(std::env::temp_dir);
    eprintln!("making blobs and their digests");
    let (large, small) = (Blobs::large(), Blobs::small());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let is_warm_up = round == 0;
        let mut order = [(Kind::Speedy, &speedy, &mut ours), (Kind::DockerRegistry, &registry, &mut theirs)];
        if round % 2 == 1 {
            order.reverse();
        }
        for (kind, program, results) in order {
            match is_warm_up {
                true => eprintln!("warming up: {}", kind.name()),
                false => eprintln!("round {round} of {}: {}", options.rounds, kind.name()),
            }
            // What the one before it wrote must not be written back on this one's time.
            rustix::fs::sync();
            let directory = tempfile::tempdir_in(&parent).context("making a directory for the data")?;
            let mut server = kind.start(program, directory.path())?;
            let measured = Results::measure(&server, &large, &small).await;
            let measured = measured.with_context(|| server.log_tail())?;
            if !is_warm_up {
                results.push(measured);
            }
            server.stop()?;
        }
    }
    let versions = [Kind::Speedy.version(&speedy)?, Kind::DockerRegistry.version(&registry)?];
    table::print(&ours, &theirs, &versions);
    Ok(())
}
