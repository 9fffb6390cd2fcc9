use std::time::Duration;

use crate::split::{InvalidSplitOption, SplitOptions};

/// How a [`BlobStore`](super::BlobStore) works.
#[derive(Clone, Debug)]
pub struct BlobOptions {
    pub(super) split: SplitOptions,
    pub(super) writes_in_flight: usize,
    pub(super) read_ahead: usize,
    pub(super) upload_expiry: Duration,
    pub(super) dead_grace: Duration,
    pub(super) orphan_grace: Duration,
    pub(super) fence_expiry: Duration,
}

/// An option has a value that it can't take.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{option} is {value}; it can be {bounds}")]
pub struct InvalidOption {
    option: &'static str,
    value: String,
    bounds: &'static str,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            split: SplitOptions::new(),
            writes_in_flight: 2,
            read_ahead: 4,
            upload_expiry: Duration::from_secs(24 * 3600),
            dead_grace: Duration::from_secs(10 * 60),
            orphan_grace: Duration::from_secs(3600),
            fence_expiry: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl BlobOptions {
    /// The length of a fragment in bytes, where the body goes on long enough: 1 byte to 64 MiB, by default 4 MiB.
    pub fn fragment_size(mut self, bytes: u64) -> Result<Self, InvalidSplitOption> {
        self.split = self.split.with_fragment_size(bytes)?;
        Ok(self)
    }

    /// How many fragments of one upload are hashed and written at once, beside the one that arrives: 1 to 64, by
    /// default 2.
    pub fn writes_in_flight(mut self, fragments: usize) -> Result<Self, InvalidOption> {
        self.writes_in_flight = in_flight("the number of fragments written at once", fragments)?;
        Ok(self)
    }

    /// How many fragments of one read are open at once: 1 to 64, by default 4. All but the first are opened when the
    /// reader will be there in a tenth of a second, and only while the budget has room.
    pub fn read_ahead(mut self, fragments: usize) -> Result<Self, InvalidOption> {
        self.read_ahead = in_flight("the number of fragments read at once", fragments)?;
        Ok(self)
    }

    /// How long an upload session may rest before it is given up; by default 24 hours.
    #[must_use]
    pub fn upload_expiry(mut self, expiry: Duration) -> Self {
        self.upload_expiry = expiry;
        self
    }

    /// How long the chunks of a dead blob are kept for readers that are still at it and for writes that are still
    /// on their way; by default 10 minutes.
    #[must_use]
    pub fn dead_grace(mut self, grace: Duration) -> Self {
        self.dead_grace = grace;
        self
    }

    /// How long a chunk that no layout names must have been seen before it is freed; by default 1 hour. It should
    /// exceed the time between the write of a chunk and that of the layout row that names it, a few seconds: whoever takes
    /// longer has to send the bytes again.
    #[must_use]
    pub fn orphan_grace(mut self, grace: Duration) -> Self {
        self.orphan_grace = grace;
        self
    }

    /// How long it is remembered that chunks of a blob without a record were freed, so that a commit which comes late, from
    /// a machine that was suspended, say, fails and does not make a blob without bytes; by default 30 days.
    #[must_use]
    pub fn fence_expiry(mut self, expiry: Duration) -> Self {
        self.fence_expiry = expiry;
        self
    }
}

fn in_flight(option: &'static str, fragments: usize) -> Result<usize, InvalidOption> {
    if (1..=64).contains(&fragments) {
        Ok(fragments)
    } else {
        Err(InvalidOption { option, value: fragments.to_string(), bounds: "1 to 64" })
    }
}
