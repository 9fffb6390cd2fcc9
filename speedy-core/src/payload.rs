//! The bytes of a fragment on their way to a chunk: held as they came, or as a stream of runs.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::checksum::Crc32c;

/// A chunk's bytes as they arrive, in runs of any size. An error means that the rest will not come.
pub type Frames = BoxStream<'static, Result<Bytes, BodyError>>;

/// The source of a chunk's bytes broke off.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct BodyError(pub String);

/// The bytes of a fragment before it is written: runs as they came from the source, not copied together. A clone
/// shares them, so a write can be tried again.
#[derive(Clone, Debug)]
pub struct Payload {
    frames: Vec<Bytes>,
    length: u64,
    checksum: u32,
}

impl Payload {
    /// The payload of these runs; empty ones are left out.
    pub fn new(mut frames: Vec<Bytes>) -> Self {
        frames.retain(|frame| !frame.is_empty());
        let mut crc = Crc32c::new();
        for frame in &frames {
            crc.update(frame);
        }
        Self::with_checksum(frames, crc.value())
    }

    /// The payload of these runs, whose CRC-32C the caller knows already.
    pub fn with_checksum(frames: Vec<Bytes>, checksum: u32) -> Self {
        let length = frames.iter().map(|frame| frame.len() as u64).sum();
        Self { frames, length, checksum }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// CRC-32C of all bytes.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The runs in order.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// The runs as a stream, for one try at a write.
    pub fn stream(&self) -> Frames {
        stream::iter(self.frames.clone()).map(Ok).boxed()
    }
}
