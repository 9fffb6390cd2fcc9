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

/// The CRC-32C of the concatenation of two runs, from that of each and the length of the second. It takes some 20 ns
/// for each bit that is set in the length, so that blocks need not be read twice to know the checksum of the whole.
///
/// Appending zeros to what a CRC has seen is a linear map of its 32 bits over GF(2), so appending 2ⁿ of them is a matrix,
/// and the matrix for twice as many is its square. The method is that of Mark Adler's `crc32_combine` in zlib.
pub fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    let mut shifted = first;
    let mut bits = second_len;
    while bits != 0 && shifted != 0 {
        shifted = times(&ZEROS[bits.trailing_zeros() as usize], shifted);
        bits &= bits - 1;
    }
    shifted ^ second
}

/// A linear map of 32 bits: what becomes of each of them.
type Matrix = [u32; 32];

/// The maps that append 2ⁿ zero bytes.
static ZEROS: [Matrix; 64] = zeros();

const fn zeros() -> [Matrix; 64] {
    // One zero bit: the register moves by one, and the reflected polynomial comes in for the bit that falls out.
    let mut map = [0; 32];
    map[0] = 0x82f6_3b78;
    let mut bit = 1;
    while bit < 32 {
        map[bit] = 1 << (bit - 1);
        bit += 1;
    }
    // A byte is 2 * 2 * 2 bits.
    map = square(&square(&square(&map)));
    let mut maps = [[0; 32]; 64];
    let mut power = 0;
    while power < 64 {
        maps[power] = map;
        map = square(&map);
        power += 1;
    }
    maps
}

const fn square(map: &Matrix) -> Matrix {
    let mut squared = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        squared[bit] = times(map, map[bit]);
        bit += 1;
    }
    squared
}

const fn times(map: &Matrix, vector: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // All ones where the bit is set: no branch to mispredict.
        product ^= map[bit] & (vector >> bit & 1).wrapping_neg();
        bit += 1;
    }
    product
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
        for cut in [0, 1, 2, 255, 65_535, 65_536, 131_072, 199_999, 200_000] {
            let (a, b) = data.split_at(cut);
            assert_eq!(combine(crc32c(a), crc32c(b), b.len() as u64), crc32c(&data), "cut at {cut}");
        }
        // Against the checksum's own library, for lengths that nobody wants to hold in memory.
        for len in [1 << 26, (1 << 33) + 12_345, 1 << 40] {
            let expected = crc_fast::checksum_combine(Crc32Iscsi, 0x1234_5678, 0x9abc_def0, len) as u32;
            assert_eq!(combine(0x1234_5678, 0x9abc_def0, len), expected, "a second run of {len} bytes");
        }
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
