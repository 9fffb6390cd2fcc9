//! What is measured.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::engines::{Content, Engine, Kind};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Write,
    Read,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    size: usize,
    threads: usize,
    /// Operations that are measured together.
    count: usize,
}

impl Case {
    /// Each takes an engine about half a second, so that noise of the disk is within a figure and not between two.
    pub(crate) fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for (size, alone, many) in
            [(4 * KIB, 1_000, 8_000), (64 * KIB, 1_000, 4_000), (MIB, 256, 512), (16 * MIB, 32, 48)]
        {
            cases.push(Self { operation: Operation::Write, size, threads: 1, count: alone });
            cases.push(Self { operation: Operation::Write, size, threads: 16, count: many });
        }
        for (size, count) in [(4 * KIB, 200_000), (64 * KIB, 40_000), (MIB, 2_000), (16 * MIB, 128)] {
            for threads in [1, 16] {
                cases.push(Self { operation: Operation::Read, size, threads, count });
            }
        }
        cases
    }

    pub(crate) fn name(&self) -> String {
        let operation = match self.operation {
            Operation::Write => "write",
            Operation::Read => "read",
        };
        let size = match self.size {
            size if size >= MIB => format!("{} MiB", size / MIB),
            size => format!("{} KiB", size / KIB),
        };
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        format!("{operation}, {size}, {threads}")
    }

    pub(crate) fn unit(&self) -> &'static str {
        if self.is_large() { "MiB/s" } else { "a second" }
    }

    fn is_large(&self) -> bool {
        self.size >= MIB
    }

    /// Operations a second, or MiB a second for large chunks.
    pub(crate) fn measure(&self, kind: Kind, parent: &Path) -> f64 {
        let directory = tempfile::tempdir_in(parent).expect("the directory is writable");
        let content = Content::new(self.size);
        let bytes = content.bytes();
        let seconds = match self.operation {
            Operation::Write => {
                let engine = kind.open(self.operation, directory.path(), self.size, self.count);
                self.time(&*engine, |engine, call| engine.put(call, bytes))
            }
            Operation::Read => {
                let chunks = (128 * MIB / self.size).clamp(8, 4_096);
                let engine = kind.open(self.operation, directory.path(), self.size, chunks);
                let fill = Self { count: chunks, threads: 16, ..*self };
                fill.time(&*engine, |engine, call| engine.put(call, bytes));
                // Neither in the order of the writes nor at random: a stride touches every chunk.
                let pick = |call: u64| call.wrapping_mul(7) % chunks as u64;
                let warm = Self { count: chunks, ..*self };
                warm.time(&*engine, |engine, call| engine.get(pick(call), self.size));
                self.time(&*engine, |engine, call| engine.get(pick(call), self.size))
            }
        };
        let scale = if self.is_large() { (self.size / MIB) as f64 } else { 1.0 };
        self.count as f64 * scale / seconds
    }

    /// Seconds that all operations took, shared among the threads.
    fn time(&self, engine: &dyn Engine, work: impl Fn(&dyn Engine, u64) + Sync) -> f64 {
        let next = AtomicU64::new(0);
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let call = next.fetch_add(1, Ordering::Relaxed);
                        if call >= self.count as u64 {
                            break;
                        }
                        work(engine, call);
                    }
                });
            }
        });
        start.elapsed().as_secs_f64()
    }
}
