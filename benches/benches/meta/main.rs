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
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use engines::CANDIDATES;
use load::{STORED, Writer, fill, key};

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
