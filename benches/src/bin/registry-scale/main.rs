//! Does a registry answer as fast with ten million blobs in a hundred thousand repositories as with next to none?
//!
//! Fills the metadata of two stores with the rows that pushes leave, one of them with a page of the catalog only, then
//! starts `speedy serve` with its defaults on one and on the other in turns, asks the same of both, and prints medians
//! and 99th percentiles. The store that counts as empty has as many entries as an answer holds, so that answers are as
//! long. The blobs have no bytes: nothing here reads them. A round before the first is not counted.

mod content;
mod fill;
mod kept;
mod measure;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use speedy_benches::server::Server;

use crate::content::Content;
use crate::measure::{Row, Subject};

/// Blobs of an image: what its manifest names then fits into the transactions that fill the store.
const MOST_BLOBS: u64 = 40;

/// The allocator of the `speedy` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures a registry with much metadata beside one with little and prints a table.
#[derive(Debug, Parser)]
struct Options {
    /// Repositories.
    #[arg(long, default_value_t = 100_000)]
    repositories: u64,
    /// Images, each with a tag: a multiple of the repositories.
    #[arg(long, default_value_t = 1_000_000)]
    tags: u64,
    /// Blobs: a multiple of the tags.
    #[arg(long, default_value_t = 10_000_000)]
    blobs: u64,
    /// How often each store is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Requests of each kind in a round; a quarter as many of the slow kinds.
    #[arg(long, default_value_t = 200)]
    requests: u64,
    /// The speedy program. Default: the one of this workspace, built now.
    #[arg(long, value_name = "PATH")]
    speedy: Option<PathBuf>,
    /// Where the stores are made. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Keeps the full store in this directory, and measures the one that a former run with as much content kept there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Makes the full store and measures nothing.
    #[arg(long, requires = "keep")]
    fill_only: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let full = Content { repositories: options.repositories, tags: options.tags, blobs: options.blobs };
    ensure!(options.rounds > 0 && options.requests > 0, "--rounds and --requests must be at least 1");
    ensure!(full.repositories >= 100, "--repositories must be at least 100");
    ensure!(
        full.tags > 0 && full.tags.is_multiple_of(full.repositories),
        "--tags must be a multiple of --repositories"
    );
    ensure!(full.blobs / full.tags <= MOST_BLOBS, "--blobs must be at most {MOST_BLOBS} times --tags");
    ensure!(full.blobs > 0 && full.blobs.is_multiple_of(full.tags), "--blobs must be a multiple of --tags");
    let program = options.speedy.map_or_else(speedy_e2e::speedy, Ok)?;
    let parent = options.directory.unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::tempdir_in(&parent).context("making a directory for the stores")?;
    let small = full.small();
    let places =
        [directory.path().join("empty"), options.keep.unwrap_or_else(|| directory.path().join("full"))];
    let deletes = (options.rounds + 1) * Row::Delete.requests(options.requests);
    let full_before = match kept::deleted(&places[1], full)? {
        Some(deleted) => deleted,
        None => {
            make(&program, &places[1], full).await?;
            kept::keep(&places[1], full, 0)?;
            0
        }
    };
    if options.fill_only {
        return Ok(());
    }
    make(&program, &places[0], small).await?;
    let mut subjects = Vec::new();
    for (content, before) in [(small, 0), (full, full_before)] {
        subjects.push(Subject::new(content, before, deletes)?);
    }
    // Before the first of them: a run that breaks off leaves nothing that a later one would look for in vain.
    kept::keep(&places[1], full, full_before + deletes)?;
    rustix::fs::sync();
    for round in 0..=options.rounds {
        match round {
            0 => eprintln!("warming up"),
            _ => eprintln!("round {round} of {}", options.rounds),
        }
        let mut order: Vec<_> = places.iter().zip(&mut subjects).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (place, subject) in order {
            let mut server = Server::speedy(&program, place)?;
            let measured = subject.round(&server, options.requests, round > 0).await;
            measured.with_context(|| server.log_tail())?;
            server.stop()?;
        }
    }
    report::print(&subjects, [&places[0], &places[1]], full, options.rounds)
}

/// Makes a store: `speedy serve` begins it, and its metadata is filled while nobody serves.
async fn make(program: &Path, place: &Path, content: Content) -> Result<()> {
    fs::create_dir_all(place)?;
    Server::speedy(program, place)?.stop()?;
    let began = Instant::now();
    let rows = fill::fill(&place.join("data/meta"), content).await?;
    eprintln!("{}: {rows} rows in {:.0} s", place.display(), began.elapsed().as_secs_f64());
    Ok(())
}
