use bytes::{Bytes, BytesMut};

use crate::checksum::Crc32c;
use crate::payload::Payload;

/// Frames shorter than this are copied together. Each frame costs some 50 bytes beside its own and keeps the whole
/// buffer alive that it is a slice of, so thousands of tiny ones would hold far more than they count.
const SMALL: usize = 4 * 1024;

/// How long a run of small frames grows before the next begins. Growth copies, so it ends somewhere.
pub(super) const RUN: usize = 64 * 1024;

/// The bytes of the fragment that is being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    frames: Vec<Bytes>,
    small: BytesMut,
    length: u64,
    checksum: Crc32c,
}

impl Gathered {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        self.length += frame.len() as u64;
        self.checksum.update(&frame);
        if frame.len() < SMALL {
            self.small.extend_from_slice(&frame);
            if self.small.len() >= RUN {
                self.end_run();
            }
        } else {
            self.end_run();
            self.frames.push(frame);
        }
    }

    pub(super) fn into_payload(mut self) -> Payload {
        self.end_run();
        Payload::with_checksum(self.frames, self.checksum.value())
    }

    fn end_run(&mut self) {
        if !self.small.is_empty() {
            self.frames.push(std::mem::take(&mut self.small).freeze());
        }
    }
}
