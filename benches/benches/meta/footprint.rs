//! What an engine takes besides time per request: memory, disk, and time to open after a kill.

use std::process::Command;
use std::time::Instant;

use crate::engines::CANDIDATES;
use crate::load::{STORED, fill, key, transaction};

const CHILD: &str = "SPEEDY_BENCH_META_CHILD";
const DIRECTORY: &str = "SPEEDY_BENCH_META_DIRECTORY";
const TRANSACTIONS: u64 = 5000;

/// Whether this process was started by [`report`].
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Prints the footprint of each candidate: one child fills a store, uses it and dies by abort; a second opens it.
pub(crate) fn report() {
    println!("\n{STORED} entries of 1 KiB, {TRANSACTIONS} durable transactions, {STORED} gets, then a kill:");
    for (name, _) in CANDIDATES {
        let directory = tempfile::tempdir().unwrap();
        for step in ["use", "reopen"] {
            let child = Command::new(std::env::current_exe().unwrap())
                .env(CHILD, format!("{name} {step}"))
                .env(DIRECTORY, directory.path())
                .output()
                .unwrap();
            print!("{}", String::from_utf8_lossy(&child.stdout));
        }
        let disk: u64 = sizes(directory.path());
        println!("{name:>10}: {} MiB on disk", disk >> 20);
    }
}

/// The part of a child. Never returns from `use`: it aborts, as a kill would.
pub(crate) fn run_child() {
    let child = std::env::var(CHILD).unwrap();
    let (name, step) = child.split_once(' ').unwrap();
    let directory = std::path::PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let (_, open) = CANDIDATES.into_iter().find(|(candidate, _)| *candidate == name).unwrap();
    let started = Instant::now();
    let engine = open(&directory);
    if step == "reopen" {
        assert!(engine.get(&key(STORED - 1)).is_some());
        println!(
            "{name:>10}: first read {} ms after the start following a kill",
            started.elapsed().as_millis()
        );
        return;
    }
    fill(&*engine, 1024);
    for number in 0..TRANSACTIONS {
        engine.commit(&[transaction(STORED + number, 100)], true);
    }
    for number in 0..STORED {
        assert!(engine.get(&key(number)).is_some());
    }
    println!(
        "{name:>10}: {} MiB of anonymous memory, at most {} MiB in all",
        memory("RssAnon"),
        memory("VmHWM")
    );
    std::process::abort();
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn sizes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.symlink_metadata().unwrap();
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    path.read_dir().unwrap().map(|entry| sizes(&entry.unwrap().path())).sum()
}
