//! Which engine stands under the embedded metadata store? Compares the candidates at what the store asks of them.
//!
//! `cargo bench -p speedy-benches --bench meta`; the figures and what follows from them are in `docs/meta.md`.
//! The engines take turns within each question, so that a slow spell of the machine hits all of them. Memory and the
//! time to open after a kill are printed at the end, each from a process of its own.

#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod engines;
mod footprint;
mod load;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use engines::CANDIDATES;
use load::{STORED, Writer, fill, key, transaction};
use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions, KeyRange, MetaStore, Transaction, Write};

fn main() {
    if footprint::is_child() {
        return footprint::run_child();
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    durable_transactions(&mut criterion);
    reads(&mut criterion);
    embedded_store(&mut criterion);
    criterion.final_summary();
    footprint::report();
}

/// How long does a durable transaction of one to three keys take, while 1, 8 or 64 clients each wait for theirs?
fn durable_transactions(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for length in [100, 4096] {
        let mut group = criterion.benchmark_group(format!("durable transaction, {length} B values"));
        group.throughput(Throughput::Elements(1));
        for clients in [1, 8, 64] {
            for (name, open) in CANDIDATES {
                let directory = tempfile::tempdir().unwrap();
                let engine = open(directory.path());
                fill(&*engine, 100);
                let writer = Writer::start(engine);
                let next = Arc::new(AtomicU64::new(STORED));
                group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                    bencher.iter_custom(|total| writer.run(&runtime, clients, total, &next, length));
                });
            }
        }
        group.finish();
    }
}

/// How long do warm reads take?
fn reads(criterion: &mut Criterion) {
    for length in [100, 4096] {
        let stores = CANDIDATES.map(|(name, open)| {
            let directory = tempfile::tempdir().unwrap();
            let engine = open(directory.path());
            fill(&*engine, length);
            (name, engine, directory)
        });
        // Few enough keys to stay in any of the caches.
        let hot = 1000;
        let mut group = criterion.benchmark_group(format!("read, {length} B values"));
        for (name, engine, _) in &stores {
            let mut number = 0;
            group.bench_function(BenchmarkId::new("get, hot", name), |bencher| {
                bencher.iter(|| {
                    number = (number + 1) % hot;
                    black_box(engine.get(&key(number)).unwrap())
                });
            });
        }
        for (name, engine, _) in &stores {
            let mut number = 0;
            group.bench_function(BenchmarkId::new("get, any", name), |bencher| {
                bencher.iter(|| {
                    number = (number + 7919) % STORED;
                    black_box(engine.get(&key(number)).unwrap())
                });
            });
        }
        for (name, engine, _) in &stores {
            let mut number = 0;
            group.bench_function(BenchmarkId::new("scan of 100", name), |bencher| {
                bencher.iter(|| {
                    number = (number + 7919) % STORED;
                    black_box(engine.scan(&key(number), 100))
                });
            });
        }
        group.finish();
    }
}

/// What is left of the engine's speed once checks, versions, checksums and the memory of transactions are on top?
fn embedded_store(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedMeta::open(directory.path(), EmbeddedOptions::default()).unwrap());
    let next = Arc::new(AtomicU64::new(0));
    let run = |clients: u64, total: u64, length: usize, relaxed: bool| {
        let started = std::time::Instant::now();
        runtime.block_on(async {
            let end = next.load(Ordering::Relaxed) + total;
            let tasks = (0..clients).map(|_| {
                let (store, next) = (Arc::clone(&store), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= end {
                            break;
                        }
                        let writes = transaction(number, length).into_iter();
                        let writes = writes.map(|(key, value)| Write::Put(key.into(), value.into()));
                        let mut transaction = writes.fold(Transaction::new(), Transaction::write);
                        if relaxed {
                            transaction = transaction.relaxed();
                        }
                        assert!(store.transact(transaction).await.unwrap().is_committed());
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
        started.elapsed()
    };
    run(64, STORED / 2, 100, true);
    let mut group = criterion.benchmark_group("embedded store");
    for (name, length, relaxed) in
        [("durable, 100 B", 100, false), ("durable, 4096 B", 4096, false), ("relaxed, 100 B", 100, true)]
    {
        for clients in [1, 8, 64] {
            group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                bencher.iter_custom(|total| run(clients, total, length, relaxed));
            });
        }
    }
    let mut number = 0;
    group.bench_function("get, hot", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % 1000;
            // Each transaction wrote the key of three times its number.
            runtime.block_on(store.get(key(number * 3).into())).unwrap().unwrap()
        });
    });
    for limit in [16, 100] {
        group.bench_function(BenchmarkId::new("scan", limit), |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % STORED;
                let range = KeyRange { start: key(number).into(), end: None };
                runtime.block_on(store.scan(range, limit)).unwrap()
            });
        });
    }
    // What it would cost to keep a small read off the async workers.
    group.bench_function("hand-over to a blocking thread", |bencher| {
        bencher.iter(|| runtime.block_on(runtime.spawn_blocking(|| black_box(1))).unwrap());
    });
    group.bench_function("now", |bencher| bencher.iter(|| runtime.block_on(store.now()).unwrap()));
    group.finish();
}
