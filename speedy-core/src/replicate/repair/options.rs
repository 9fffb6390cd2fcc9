use std::time::Duration;

/// How a node repairs itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RepairOptions {
    pub(super) interval: Duration,
    pub(super) retry: Duration,
    pub(super) grace: Duration,
    pub(super) patience: Duration,
    pub(super) concurrency: usize,
    pub(super) bytes_per_second: Option<u64>,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            grace: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            concurrency: 4,
            bytes_per_second: None,
        }
    }
}

impl RepairOptions {
    /// How often a node that is in sync compares itself with another member. Default a minute. Each time all entries of
    /// both indexes are summed up, in memory.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How soon it tries again after a failure, and how often it looks for what it is in its group. Default 1 s.
    #[must_use]
    pub fn retry(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// How long something must be missing in a node that is in sync before it is fetched: by then a write on its way has
    /// brought it. Default 5 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// How long another member may take for an answer, or make no progress in a read. Default 10 s.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Chunks that are fetched at once. Default 4.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn concurrency(self, chunks: usize) -> Self {
        assert!(chunks > 0, "at least one chunk is fetched at a time");
        Self { concurrency: chunks, ..self }
    }

    /// Bytes a second that are fetched at most, so that the links and disks have room for clients. Default: as fast as
    /// it goes.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn bytes_per_second(self, rate: Option<u64>) -> Self {
        assert!(rate != Some(0), "a repair of 0 bytes a second never ends");
        Self { bytes_per_second: rate, ..self }
    }
}
