use crate::sync::{AtomicU64, Ordering};

/// What a replication client has done since it began. Every number only rises.
#[derive(Debug, Default)]
pub struct ReplicationMetrics {
    pub(super) chunks_written: Counter,
    pub(super) bytes_written: Counter,
    pub(super) bytes_read: Counter,
    pub(super) write_retries: Counter,
    pub(super) write_failovers: Counter,
    pub(super) chains_broken: Counter,
    pub(super) read_failovers: Counter,
    pub(super) reads_hedged: Counter,
    pub(super) checksum_mismatches: Counter,
    pub(super) id_conflicts: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers of [`ReplicationMetrics`] at about one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ReplicationSnapshot {
    /// Chunks that every in-sync member confirmed.
    pub chunks_written: u64,
    /// Bytes of those chunks, each counted once however many replicas it has.
    pub bytes_written: u64,
    /// Bytes given to readers, verified.
    pub bytes_read: u64,
    /// Times that a member or a group was asked again for the same chunk id.
    pub write_retries: u64,
    /// Times that a chunk went on to another group.
    pub write_failovers: u64,
    /// Times that a chain of replicas broke, and its members were written to side by side.
    pub chains_broken: u64,
    /// Times that a read went on to another replica, for whatever reason.
    pub read_failovers: u64,
    /// Times that a second replica was asked because the first was slow.
    pub reads_hedged: u64,
    /// Blocks that did not match their checksum when they arrived.
    pub checksum_mismatches: u64,
    /// Fresh ids that a node already knew with other content. Each is a fault: ids are handed out once.
    pub id_conflicts: u64,
}

impl ReplicationMetrics {
    /// The numbers now.
    pub fn snapshot(&self) -> ReplicationSnapshot {
        ReplicationSnapshot {
            chunks_written: self.chunks_written.get(),
            bytes_written: self.bytes_written.get(),
            bytes_read: self.bytes_read.get(),
            write_retries: self.write_retries.get(),
            write_failovers: self.write_failovers.get(),
            chains_broken: self.chains_broken.get(),
            read_failovers: self.read_failovers.get(),
            reads_hedged: self.reads_hedged.get(),
            checksum_mismatches: self.checksum_mismatches.get(),
            id_conflicts: self.id_conflicts.get(),
        }
    }
}
