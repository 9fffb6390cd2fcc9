//! `speedy store`: looking at the chunks of a node, in its directories while it is stopped, or through its admin address
//! while it runs.

pub mod report;
mod text;

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use speedy_core::store::{
    CheckOptions, ChunkStore, CompactionError, CompactionOptions, Control, OpenError, ReadError, StoreOptions,
};

use super::NOT_SOUND;
use super::bar::Bar;
use super::print::print;
use super::remote::{self, RemoteError};
use crate::cli::{Compact, Dump, Inspect, Store, Target};
use report::{Check, Compaction, Record, Stats};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(
        "{} is in use by {}: ask that one with --admin HOST:PORT, or stop it first", path.display(),
        holder.map_or("a running node".into(), |pid| format!("process {pid}"))
    )]
    InUse { path: PathBuf, holder: Option<u32> },
    #[error(transparent)]
    Open(OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Compaction(#[from] CompactionError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked { path, holder } => Self::InUse { path, holder },
            other => Self::Open(other),
        }
    }
}

/// Does what the command line says, and answers the process's exit code.
pub fn run(command: &Store) -> ExitCode {
    let done = match command {
        Store::Check(options) => check(options),
        Store::Stats(options) => stats(options),
        Store::Dump(options) => dump(options),
        Store::Compact(options) => compact(options),
    };
    done.unwrap_or_else(|error| {
        // Whoever reads the list through `head` has seen enough.
        if let ToolError::Print(error) = &error
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn check(options: &Inspect) -> Result<ExitCode, ToolError> {
    let bar = Arc::new(Bar::new("checking"));
    let report = match &options.target.admin {
        Some(admin) => {
            let rate = options.rate.map(|rate| ("rate", rate.bytes()));
            remote::work(admin, "/store/check", rate.into_iter().collect(), &bar)?
        }
        None => {
            let store = open(&options.target.dirs, StoreOptions::default().read_only())?;
            let mut check = CheckOptions::default().control(control(&bar));
            if let Some(rate) = options.rate {
                check = check.rate(rate.bytes());
            }
            let done = store.check(&check);
            Check::from(done?)
        }
    };
    bar.end();
    print(options.target.json, &report, text::check).map_err(ToolError::Print)?;
    Ok(if report.sound { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

fn stats(target: &Target) -> Result<ExitCode, ToolError> {
    let stats = match &target.admin {
        Some(admin) => remote::get(admin, "/store/stats")?,
        None => Stats::of(&open(&target.dirs, StoreOptions::default().read_only())?)?,
    };
    print(target.json, &stats, text::stats).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn compact(options: &Compact) -> Result<ExitCode, ToolError> {
    let bar = Arc::new(Bar::new("compacting"));
    let report = match &options.target.admin {
        Some(admin) => {
            let mut query = vec![("dead_percent", u64::from(options.dead_percent))];
            query.extend(options.rate.map(|rate| ("rate", rate.bytes())));
            remote::work(admin, "/store/compact", query, &bar)?
        }
        None => {
            let dirs = &options.target.dirs;
            // What is not there is not made.
            drop(open(dirs, StoreOptions::default().read_only())?);
            let store = open(dirs, StoreOptions::default())?;
            let percent = options.dead_percent;
            let mut compaction = CompactionOptions::default().dead_percent(percent).control(control(&bar));
            if let Some(rate) = options.rate {
                compaction = compaction.rate(rate.bytes());
            }
            let done = store.compact(&compaction);
            Compaction::from(done?)
        }
    };
    bar.end();
    print(options.target.json, &report, text::compaction).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn dump(options: &Dump) -> Result<ExitCode, ToolError> {
    let store = open(&options.dirs, StoreOptions::default().read_only())?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printed = Ok(());
    if !options.json {
        printed = text::record_head(&mut out);
    }
    let read = store.dump(options.verify, |info| {
        if printed.is_err() {
            return ControlFlow::Break(());
        }
        if options.volume.is_some_and(|volume| volume != info.volume) {
            return ControlFlow::Continue(());
        }
        let record = Record::from(info);
        printed = if options.json { json_line(&mut out, &record) } else { text::record(&mut out, &record) };
        ControlFlow::Continue(())
    });
    printed.and_then(|()| out.flush()).map_err(ToolError::Print)?;
    read?;
    Ok(ExitCode::SUCCESS)
}

fn control(bar: &Arc<Bar>) -> Control {
    let bar = Arc::clone(bar);
    Control::new().on_progress(move |now| bar.advance(now.bytes_done, now.bytes))
}

fn open(dirs: &[PathBuf], options: StoreOptions) -> Result<ChunkStore, ToolError> {
    Ok(ChunkStore::open_all(dirs.iter().map(|dir| directory(dir)), options)?)
}

/// Where the chunks are in a directory that was named: `speedy serve` keeps them beside its metadata.
fn directory(named: &Path) -> PathBuf {
    let inside = named.join("chunks");
    if !named.join("STORE").exists() && inside.join("STORE").exists() { inside } else { named.to_path_buf() }
}

fn json_line(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    writeln!(out)
}
