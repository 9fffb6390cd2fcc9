use tokio::time::Instant;

use crate::placement::Backlog;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What repair has done since the node began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RepairSnapshot {
    /// Comparisons with another member that were carried through.
    pub comparisons: u64,
    /// Comparisons that were not.
    pub failures: u64,
    /// Chunks that were fetched.
    pub chunks_fetched: u64,
    /// Bytes of those.
    pub bytes_fetched: u64,
    /// Deletes that were taken over.
    pub deletes_taken: u64,
    /// Chunks that replaced a damaged copy.
    pub healed: u64,
    /// What is still to be fetched.
    pub backlog: Backlog,
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    comparisons: AtomicU64,
    failures: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
    deletes: AtomicU64,
    healed: AtomicU64,
    pass: Mutex<Option<Pass>>,
}

/// A comparison under way.
#[derive(Clone, Copy, Debug)]
struct Pass {
    began: Instant,
    chunks_left: u64,
    bytes_left: u64,
    bytes_done: u64,
}

impl Figures {
    pub(super) fn begin(&self) {
        let pass = Pass { began: Instant::now(), chunks_left: 0, bytes_left: 0, bytes_done: 0 };
        *self.pass.lock() = Some(pass);
    }

    /// So much more was found to be missing.
    pub(super) fn missing(&self, chunks: u64, bytes: u64) {
        if let Some(pass) = &mut *self.pass.lock() {
            pass.chunks_left += chunks;
            pass.bytes_left += bytes;
        }
    }

    /// One chunk or delete is no longer missing.
    pub(super) fn settled(&self, bytes: u64) {
        if let Some(pass) = &mut *self.pass.lock() {
            pass.chunks_left = pass.chunks_left.saturating_sub(1);
            pass.bytes_left = pass.bytes_left.saturating_sub(bytes);
            pass.bytes_done += bytes;
        }
    }

    pub(super) fn fetched(&self, bytes: u64, healed: bool) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.healed.fetch_add(u64::from(healed), Ordering::Relaxed);
    }

    pub(super) fn deleted(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn compared(&self) {
        self.comparisons.fetch_add(1, Ordering::Relaxed);
        *self.pass.lock() = None;
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn backlog(&self) -> Backlog {
        let pass = *self.pass.lock();
        pass.map_or_else(Backlog::default, |pass| {
            let seconds = pass.began.elapsed().as_secs_f64().max(0.001);
            let bytes_per_second = (pass.bytes_done as f64 / seconds) as u64;
            Backlog { chunks: pass.chunks_left, bytes: pass.bytes_left, bytes_per_second }
        })
    }

    pub(super) fn snapshot(&self) -> RepairSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RepairSnapshot {
            comparisons: get(&self.comparisons),
            failures: get(&self.failures),
            chunks_fetched: get(&self.chunks),
            bytes_fetched: get(&self.bytes),
            deletes_taken: get(&self.deletes),
            healed: get(&self.healed),
            backlog: self.backlog(),
        }
    }
}
