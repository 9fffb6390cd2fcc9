use std::time::Duration;

use super::MAX_FRAGMENT;

/// How a stream is cut.
#[derive(Clone, Debug)]
pub struct SplitOptions {
    pub(super) size: u64,
    pub(super) stall: Duration,
}

/// A fragment size that a chunk can't have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fragment size of {0} bytes; it can be 1 byte to 64 MiB")]
pub struct InvalidSplit(u64);

impl SplitOptions {
    /// Bytes in a fragment where the source goes on long enough: 1 byte to 64 MiB, by default 4 MiB.
    pub fn size(mut self, bytes: u64) -> Result<Self, InvalidSplit> {
        if !(1..=MAX_FRAGMENT).contains(&bytes) {
            return Err(InvalidSplit(bytes));
        }
        self.size = bytes;
        Ok(self)
    }

    /// How long the source may give nothing before what has come of a fragment is cut; by default 2 seconds.
    #[must_use]
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { size: 4 << 20, stall: Duration::from_secs(2) }
    }
}
