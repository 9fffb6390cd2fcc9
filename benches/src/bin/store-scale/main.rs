//! What a large store costs: memory a chunk, and the time to open it with and without a checkpoint of its index.
//!
//! With the allocator of the `speedy` program. Builds a store of small chunks, then opens it in processes of its own, so that nothing of the building is left in
//! their memory: with the checkpoint that a clean close leaves, with a damaged one, and with none. The volumes are in
//! the page cache or not, as the machine's memory has it; the table says how long a second start takes, after a first.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use speedy_benches::{Spread, machine};
use speedy_core::id::{BlobId, ChunkId, GroupVersion, Owner};
use speedy_core::store::{ChunkStore, Durability, NewChunk, StoreOptions};

/// That of the `speedy` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MIB: f64 = (1 << 20) as f64;

/// Measures memory and start of a store of many small chunks.
#[derive(Debug, Parser)]
struct Options {
    /// How many chunks.
    #[arg(long, default_value_t = 10_000_000)]
    chunks: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Where. Default: the system's temporary directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Starts of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Open the store in this directory, print what that took, and end. What the program calls itself with.
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
}

fn main() {
    let options = Options::parse();
    if let Some(store) = &options.open {
        return open(store, options.chunks);
    }
    let parent = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::tempdir_in(parent).expect("the directory is writable");
    build(directory.path(), &options);
    let checkpoint = directory.path().join("CHECKPOINT");
    let aside = directory.path().join("kept");
    println!("| start | open, ms | memory, MiB | bytes a chunk | lookups a second |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let kept = std::fs::read(&checkpoint).expect("a clean close leaves a checkpoint");
    std::fs::write(&aside, &kept).expect("the disk has room");
    measure("with a checkpoint", &options, directory.path(), || {
        std::fs::copy(&aside, &checkpoint).expect("the disk has room");
    });
    measure("with a damaged one", &options, directory.path(), || {
        std::fs::copy(&aside, &checkpoint).expect("the disk has room");
        let file = std::fs::OpenOptions::new().write(true).open(&checkpoint).expect("it is there");
        file.write_all_at(&[0; 512], kept.len() as u64 / 2).expect("the disk works");
    });
    measure("with none", &options, directory.path(), || {
        for name in ["CHECKPOINT", "CHECKPOINT.old"] {
            let _ = std::fs::remove_file(directory.path().join(name));
        }
    });
    println!();
    println!(
        "{} chunks of {} bytes; checkpoint of {:.0} MiB. Median of {} starts (least–greatest).",
        options.chunks,
        options.size,
        kept.len() as f64 / MIB,
        options.rounds
    );
    println!("Machine: {}.", machine());
}

/// Ids come as they do in a cluster: each thread has a range of its own.
fn build(directory: &Path, options: &Options) {
    let store = ChunkStore::open(directory, StoreOptions::default().durability(Durability::Never))
        .expect("a new store opens");
    let bytes = vec![7; options.size];
    let next = AtomicU64::new(0);
    let range = 1024;
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(range, Ordering::Relaxed);
                    for id in first..(first + range).min(options.chunks) {
                        let owner = Owner { blob: BlobId::from_bytes([1; 16]), offset: id };
                        let length = options.size as u64;
                        let chunk = NewChunk::new(ChunkId::new(id), owner, length, GroupVersion::INITIAL);
                        store.put(chunk, &bytes).expect("the disk works and has room");
                    }
                    if first >= options.chunks {
                        break;
                    }
                }
            });
        }
    });
    let (written, bytes) = (start.elapsed(), anonymous_memory() as f64 / options.chunks as f64);
    drop(store);
    eprintln!(
        "{} chunks written in {:.0} s, {bytes:.1} bytes of memory a chunk then",
        options.chunks,
        written.as_secs_f64()
    );
}

/// Opens the store in processes of its own; `prepare` comes before each, and once more before one that is not
/// counted.
fn measure(name: &str, options: &Options, directory: &Path, prepare: impl Fn()) {
    let mut figures: Vec<Vec<f64>> = Vec::new();
    for _ in 0..=options.rounds {
        prepare();
        let output = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--chunks", &options.chunks.to_string(), "--open"])
            .arg(directory)
            .output()
            .expect("this program runs again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        figures.push(text.split_whitespace().map(|figure| figure.parse().expect("a number")).collect());
    }
    let column = |index: usize| Spread::of(figures[1..].iter().map(|figures| figures[index])).text();
    println!("| {name} | {} | {} | {} | {} |", column(0), column(1), column(2), column(3));
}

/// Prints milliseconds to open, MiB of anonymous memory, bytes of it a chunk, and lookups a second on one thread.
fn open(directory: &Path, chunks: u64) {
    let before = anonymous_memory();
    let start = Instant::now();
    let store = ChunkStore::open(directory, StoreOptions::default()).expect("the store opens");
    let opened = start.elapsed();
    // What opening needed for a while has gone back to the system by then.
    thread::sleep(std::time::Duration::from_secs(1));
    let memory = (anonymous_memory() - before) as f64;
    assert_eq!(store.usage().expect("the disk works").chunks, chunks);
    let count = 1_000_000_u64;
    let start = Instant::now();
    let found = (0..count)
        .filter(|n| {
            let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % chunks;
            store.contains(ChunkId::new(id))
        })
        .count();
    assert_eq!(found as u64, count);
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{} {} {} {rate}", opened.as_secs_f64() * 1000.0, memory / MIB, memory / chunks as f64);
    // Closing it again is not part of this, and would write another checkpoint.
    std::process::exit(0);
}

/// Bytes of anonymous memory that this process has.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kib << 10
}
