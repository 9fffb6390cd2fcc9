//! CRC-32C (Castagnoli), whole and by block.
//!
//! Every chunk carries a CRC-32C for each [`BLOCK_SIZE`] bytes of it, so that a range can be verified by reading
//! only the blocks that it touches. With the carry-less multiplication of today's processors a block takes about 1 µs.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// Bytes that one checksum covers: 64 KiB. The last block of a chunk may be shorter.
pub const BLOCK_SIZE: usize = 64 * 1024;

/// A running CRC-32C.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// The checksum of nothing yet.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(Crc32Iscsi))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of the bytes so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of the concatenation of two runs, from that of each and the length of the second. It takes about 12 µs
/// whatever the length: bytes that are at hand are sooner read again.
pub fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    crc_fast::checksum_combine(Crc32Iscsi, first.into(), second.into(), second_len) as u32
}

/// Number of blocks in a chunk of `len` bytes.
pub const fn block_count(len: u64) -> u64 {
    len.div_ceil(BLOCK_SIZE as u64)
}

/// The smallest run of whole blocks that holds `range`, inside a chunk of `len` bytes.
pub fn covering_blocks(range: &std::ops::Range<u64>, len: u64) -> std::ops::Range<u64> {
    let block = BLOCK_SIZE as u64;
    let start = range.start / block * block;
    start..range.end.div_ceil(block).saturating_mul(block).min(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn parts_combine_to_the_whole() {
        let data: Vec<u8> = (0..200_000u32).map(|i| (i * 31 % 251) as u8).collect();
        let (a, b) = data.split_at(70_001);
        let mut running = Crc32c::new();
        running.update(a);
        running.update(b);
        assert_eq!(running.value(), crc32c(&data));
        assert_eq!(combine(crc32c(a), crc32c(b), b.len() as u64), crc32c(&data));
    }

    #[test]
    fn ranges_grow_to_whole_blocks() {
        assert_eq!(covering_blocks(&(0..1), 10), 0..10);
        assert_eq!(covering_blocks(&(65_535..65_537), 1 << 20), 0..131_072);
        assert_eq!(covering_blocks(&(65_536..131_072), 1 << 20), 65_536..131_072);
        assert_eq!(block_count(0), 0);
        assert_eq!(block_count(65_537), 2);
    }
}
