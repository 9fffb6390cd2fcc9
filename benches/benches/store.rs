//! How fast is the chunk store, and how far from what the disk and the checksum allow?
//!
//! Each write is durable when it returns. Beside the store stands the least that could be done for the same promise:
//! the same bytes, checksummed and appended to one preallocated file, with an fdatasync each. Reads are warm; beside
//! them stands a pread into a fresh buffer and one pass of the checksum. Compare lines of one run: disks, and the
//! machines around them, are noisy.
//!
//! Chunks and files are in the directory that `SPEEDY_BENCH_DIR` names, by default the system's for temporary files.
//! It must be on the disk in question, not in memory.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use speedy_core::checksum::{BLOCK_SIZE, crc32c};
use speedy_core::id::{BlobId, ChunkId, GroupVersion, Owner};
use speedy_core::store::{ChunkStore, NewChunk, StoreOptions};

const SIZES: [(usize, &str); 4] =
    [(4 << 10, "4KiB"), (64 << 10, "64KiB"), (1 << 20, "1MiB"), (16 << 20, "16MiB")];
const THREADS: [u64; 2] = [1, 16];

/// Bytes that are kept on disk at most before the store or file of a measurement starts anew.
const LIMIT: u64 = 2 << 30;

fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("SPEEDY_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).expect("the benchmark's directory is writable")
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251 + i / 4096) as u8).collect()
}

/// Shares `count` calls of `work` among threads, and measures the whole.
fn share(threads: u64, count: u64, work: impl Fn(u64) + Sync) -> Duration {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(1, Ordering::Relaxed);
                    if call >= count {
                        break;
                    }
                    work(call);
                }
            });
        }
    });
    start.elapsed()
}

/// Measures `count` calls in rounds, each on something new from `setup`, so that the disk does not fill up.
fn rounds<S: Sync>(
    threads: u64,
    count: u64,
    size: usize,
    setup: impl Fn() -> S,
    work: impl Fn(&S, u64) + Sync,
) -> Duration {
    let per_round = (LIMIT / size as u64).max(1);
    let mut total = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let calls = left.min(per_round);
        let subject = setup();
        total += share(threads, calls, |call| work(&subject, call));
        left -= calls;
    }
    total
}

fn open() -> (tempfile::TempDir, ChunkStore) {
    let dir = directory();
    let store = ChunkStore::open(dir.path(), StoreOptions::default()).expect("a new store opens");
    (dir, store)
}

fn put(store: &ChunkStore, id: u64, bytes: &[u8]) {
    let owner = Owner { blob: BlobId::from_bytes([1; 16]), offset: 0 };
    let chunk = NewChunk::new(ChunkId::new(id), owner, bytes.len() as u64, GroupVersion::INITIAL);
    let mut writer = store.begin(chunk).expect("a fresh id is accepted");
    writer.write(bytes).expect("the disk has room");
    writer.commit().expect("the disk works");
}

fn get(store: &ChunkStore, id: u64, len: usize) {
    let mut reader = store.read(ChunkId::new(id), 0..len as u64).expect("the chunk is there");
    while let Some(run) = reader.next_run().expect("the chunk is whole") {
        black_box(&run.data);
    }
}

fn sums(bytes: &[u8]) {
    for block in bytes.chunks(BLOCK_SIZE) {
        black_box(crc32c(block));
    }
}

/// Durable writes.
fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    group.sample_size(10).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_millis(500));
    for (size, name) in SIZES {
        let bytes = content(size);
        group.throughput(Throughput::Bytes(size as u64));
        for threads in THREADS {
            let case = |what| BenchmarkId::new(what, format!("{name} x{threads}"));
            group.bench_function(case("store"), |b| {
                b.iter_custom(|count| {
                    rounds(threads, count, size, open, |(_, store), id| put(store, id, &bytes))
                });
            });
            group.bench_function(case("pwrite+fdatasync"), |b| {
                let setup = || {
                    let dir = directory();
                    let file = File::create(dir.path().join("raw")).expect("the directory is writable");
                    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LIMIT)
                        .expect("the file system preallocates");
                    (dir, file)
                };
                b.iter_custom(|count| {
                    rounds(threads, count, size, setup, |(_, file), call| {
                        sums(&bytes);
                        file.write_all_at(&bytes, call * size as u64).expect("the disk has room");
                        file.sync_data().expect("the disk works");
                    })
                });
            });
        }
    }
    group.finish();
}

/// Reads from the page cache.
fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (size, name) in SIZES {
        let bytes = content(size);
        // More than the processor caches, so that a read is one from the page cache.
        let chunks = ((64 << 20) / size as u64).clamp(4, 4096);
        let (dir, store) = open();
        share(16, chunks, |id| put(&store, id, &bytes));
        let raw = dir.path().join("raw");
        std::fs::write(&raw, bytes.repeat(chunks as usize)).expect("the directory is writable");
        let file = File::open(&raw).expect("it was just written");
        group.throughput(Throughput::Bytes(size as u64));
        for threads in THREADS {
            let case = |what| BenchmarkId::new(what, format!("{name} x{threads}"));
            // Neither in the order of the writes nor at random: a stride touches every chunk.
            let pick = |call: u64| call.wrapping_mul(7) % chunks;
            group.bench_function(case("store"), |b| {
                b.iter_custom(|count| share(threads, count, |call| get(&store, pick(call), size)));
            });
            group.bench_function(case("pread+crc"), |b| {
                b.iter_custom(|count| {
                    share(threads, count, |call| {
                        let mut buffer = vec![0; size];
                        let at = pick(call) * size as u64;
                        file.read_exact_at(&mut buffer, at).expect("it is as long as it was written");
                        sums(&buffer);
                        black_box(buffer);
                    })
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, write, read);
criterion_main!(benches);
