//! Memory that direct I/O takes.

use super::format::PAGE;

/// A buffer that begins on a page: the kernel carries it to the disk as it is, past the page cache.
#[derive(Debug, Default)]
pub(super) struct PageBuffer {
    /// Padding up to the first page, then the content.
    bytes: Vec<u8>,
    start: usize,
}

impl PageBuffer {
    /// An empty buffer with room for `capacity` bytes; more would move it off its page.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + PAGE as usize);
        let start = bytes.as_ptr().align_offset(PAGE as usize);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Bytes that it still has room for.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Appends bytes, for which there must be room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "a page buffer never moves");
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends zeros up to a multiple of `alignment`, for which there must be room.
    pub(super) fn pad(&mut self, alignment: u64) {
        let len = self.len().next_multiple_of(alignment as usize);
        assert!(len - self.len() <= self.room(), "a page buffer never moves");
        self.bytes.resize(self.start + len, 0);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }
}

/// Whether memory begins on a page.
pub(super) fn is_on_page(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_stays_on_a_page() {
        for capacity in [PAGE as usize, 3 * PAGE as usize + 5, 1 << 20] {
            let mut buffer = PageBuffer::with_capacity(capacity);
            for _ in 0..2 {
                assert!(buffer.room() >= capacity);
                buffer.push(b"header");
                buffer.pad(PAGE);
                buffer.push(&vec![7; capacity - buffer.len()]);
                assert!(is_on_page(buffer.content()));
                assert_eq!(&buffer.content()[..7], b"header\0");
                assert_eq!(buffer.len(), capacity);
                buffer.clear();
                assert_eq!(buffer.content(), b"");
            }
        }
    }
}
