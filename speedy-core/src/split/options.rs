use std::time::Duration;

use crate::replicate::MAX_CHUNK_LEN;

/// How a stream is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SplitOptions {
    fragment_size: u64,
    stall: Duration,
}

/// An option has a value that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSplitOption(String);

impl SplitOptions {
    /// The default size of a fragment: 4 MiB.
    pub const DEFAULT_FRAGMENT_SIZE: u64 = 4 << 20;

    /// The largest fragment: 64 MiB, the largest chunk.
    pub const MAX_FRAGMENT_SIZE: u64 = MAX_CHUNK_LEN;

    /// The default of [`stall`](Self::stall): 2 seconds.
    pub const DEFAULT_STALL: Duration = Duration::from_secs(2);

    /// Fragments of 4 MiB, cut after a silence of 2 seconds.
    pub fn new() -> Self {
        Self { fragment_size: Self::DEFAULT_FRAGMENT_SIZE, stall: Self::DEFAULT_STALL }
    }

    /// Bytes of a full fragment: 1 byte to 64 MiB.
    ///
    /// # Errors
    /// Another size.
    pub fn with_fragment_size(self, bytes: u64) -> Result<Self, InvalidSplitOption> {
        if !(1..=Self::MAX_FRAGMENT_SIZE).contains(&bytes) {
            let max = Self::MAX_FRAGMENT_SIZE;
            return Err(InvalidSplitOption(format!(
                "a fragment size of {bytes} bytes is not possible: choose 1 to {max} bytes"
            )));
        }
        Ok(Self { fragment_size: bytes, ..self })
    }

    /// After how long a silence of the source its bytes are cut as a short fragment: 1 ms to 1 hour.
    ///
    /// # Errors
    /// Another length.
    pub fn with_stall(self, stall: Duration) -> Result<Self, InvalidSplitOption> {
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&stall) {
            return Err(InvalidSplitOption(format!(
                "a stall time of {stall:?} is not possible: choose 1 ms to 1 hour"
            )));
        }
        Ok(Self { stall, ..self })
    }

    /// Bytes of a full fragment.
    pub fn fragment_size(&self) -> u64 {
        self.fragment_size
    }

    /// The silence after which bytes are cut.
    pub fn stall(&self) -> Duration {
        self.stall
    }
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self::new()
    }
}
