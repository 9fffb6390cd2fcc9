use bytes::Bytes;

use crate::buffer::{Buffer, Size};
use crate::checksum::Crc32c;
use crate::payload::Payload;

/// Bytes are gathered in buffers of this size. A splitter reserves them whole.
pub(super) const BUFFER: Size = Size::Small;

/// An end up to this long is copied into memory of its own length, rather than hold a whole buffer.
const SHORT: usize = BUFFER.bytes() / 2;

/// The bytes of the fragment that is being gathered, in buffers of our own.
///
/// What a source hands out is copied: a frame of a connection may be a tenth of the memory that it keeps alive, which nobody could
/// count. The copy costs less than it saves: the connection reads into the same memory again, which is still in the
/// processor's cache, and the buffers go to the system as they are.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    full: Vec<Bytes>,
    filling: Option<Buffer>,
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

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.checksum.update(bytes);
        while !bytes.is_empty() {
            let mut buffer = self.filling.take().unwrap_or_else(|| Buffer::new(BUFFER));
            bytes = buffer.fill(bytes);
            if buffer.room() == 0 {
                self.full.push(buffer.freeze());
            } else {
                self.filling = Some(buffer);
            }
        }
    }

    pub(super) fn into_payload(mut self) -> Payload {
        if let Some(buffer) = self.filling.take() {
            self.full.push(match buffer.len() {
                ..=SHORT => Bytes::copy_from_slice(buffer.content()),
                _ => buffer.freeze(),
            });
        }
        Payload::with_checksum(self.full, self.checksum.value())
    }
}
