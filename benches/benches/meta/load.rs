//! The load: keys and values like those of layouts, tags and sessions, and clients that wait for each answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::engines::{Engine, Writes};

/// Entries that a store holds before it is measured.
pub(crate) const STORED: u64 = 200_000;

/// A key of 60 bytes. Numbers near each other give keys far apart, as random blob ids do.
pub(crate) fn key(number: u64) -> Vec<u8> {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("blob/{spread:016x}{number:016x}/fragments/{:012}", number % 7).into_bytes()
}

/// A value of `length` bytes that does not compress.
fn value(number: u64, length: usize) -> Vec<u8> {
    let mut state = number | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(byte).collect()
}

/// A transaction of one to three keys.
pub(crate) fn transaction(number: u64, length: usize) -> Writes {
    (0..1 + number % 3).map(|part| (key(number * 3 + part), value(number, length))).collect()
}

/// Puts [`STORED`] entries of `length` bytes into a store.
pub(crate) fn fill(engine: &dyn Engine, length: usize) {
    for from in (0..STORED).step_by(2000) {
        let batch: Vec<Writes> =
            (from..from + 2000).map(|number| vec![(key(number), value(number, length))]).collect();
        engine.commit(&batch, from + 2000 >= STORED);
    }
}

type Request = (Writes, oneshot::Sender<()>);

/// One writer thread that takes what has queued up, commits it at once and then answers.
pub(crate) struct Writer {
    queue: Sender<Request>,
}

impl Writer {
    pub(crate) fn start(engine: Arc<dyn Engine>) -> Self {
        let (queue, requests) = channel();
        std::thread::spawn(move || commit_batches(&*engine, &requests));
        Self { queue }
    }

    /// Time that `clients` take for `total` transactions, each client one after the other.
    pub(crate) fn run(
        &self,
        runtime: &Runtime,
        clients: usize,
        total: u64,
        next: &Arc<AtomicU64>,
        length: usize,
    ) -> Duration {
        let end = next.load(Ordering::Relaxed) + total;
        let started = Instant::now();
        runtime.block_on(async {
            let clients: Vec<_> = (0..clients)
                .map(|_| {
                    let (queue, next) = (self.queue.clone(), Arc::clone(next));
                    tokio::spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= end {
                                break;
                            }
                            let (answer, answered) = oneshot::channel();
                            queue.send((transaction(number, length), answer)).unwrap();
                            answered.await.unwrap();
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
        });
        started.elapsed()
    }
}

fn commit_batches(engine: &dyn Engine, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let (batch, answers): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(requests.try_iter()).take(256).unzip();
        engine.commit(&batch, true);
        for answer in answers {
            let _ = answer.send(());
        }
    }
}
