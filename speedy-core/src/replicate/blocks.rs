use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::NodeError;
use crate::checksum::{BLOCK_SIZE, block_count, combine, crc32c};

/// A run of whole blocks of a chunk, with the checksums that were stored with them.
///
/// Bytes leave this type only through [`verify`](Self::verify): nothing unverified is returned.
#[derive(Clone, Debug)]
pub struct Blocks {
    offset: u64,
    data: Bytes,
    checksums: Vec<u32>,
    verified: bool,
}

/// Blocks as they are read, in order and without gaps. Dropping the stream ends the read.
pub type BlockStream = BoxStream<'static, Result<Blocks, NodeError>>;

/// Bytes do not match their checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("checksum mismatch in the block at offset {offset} of the chunk")]
pub struct ChecksumMismatch {
    /// Where the block begins in its chunk.
    pub offset: u64,
}

impl Blocks {
    /// Blocks that crossed a boundary (a network, another process): they are checked when they are used.
    /// `None` where the offset is not a block's or the number of checksums is not that of the blocks.
    pub fn unverified(offset: u64, data: Bytes, checksums: Vec<u32>) -> Option<Self> {
        let fits = offset.is_multiple_of(BLOCK_SIZE as u64)
            && block_count(data.len() as u64) == checksums.len() as u64;
        fits.then_some(Self { offset, data, checksums, verified: false })
    }

    /// Blocks that this process has just read and compared with their checksums, so that it need not do so twice.
    ///
    /// # Panics
    /// If the offset is not a block's or the number of checksums is not that of the blocks.
    pub fn verified(offset: u64, data: Bytes, checksums: Vec<u32>) -> Self {
        let blocks = Self::unverified(offset, data, checksums).expect("whole blocks with a checksum each");
        Self { verified: true, ..blocks }
    }

    /// Offset of the first byte in the chunk; a multiple of [`BLOCK_SIZE`].
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The stored checksum of each block.
    pub fn checksums(&self) -> &[u32] {
        &self.checksums
    }

    /// CRC-32C of bytes that have `before`, with these behind them: made of the checksums of the blocks, without a look at
    /// the bytes. So it says as much as those do: all, once they are [verified](Self::verify).
    pub fn checksum_after(&self, before: u32) -> u32 {
        let lengths = (0..self.data.len()).step_by(BLOCK_SIZE).map(|at| BLOCK_SIZE.min(self.data.len() - at));
        let blocks = self.checksums.iter().zip(lengths);
        blocks.fold(before, |before, (&block, length)| combine(before, block, length as u64))
    }

    /// Compares the bytes with their checksums, unless this process already has.
    pub fn verify(mut self) -> Result<Self, ChecksumMismatch> {
        if !self.verified {
            for (index, (block, &expected)) in self.data.chunks(BLOCK_SIZE).zip(&self.checksums).enumerate() {
                if crc32c(block) != expected {
                    return Err(ChecksumMismatch { offset: self.offset + (index * BLOCK_SIZE) as u64 });
                }
            }
            self.verified = true;
        }
        Ok(self)
    }

    /// The bytes, verified.
    pub fn into_bytes(self) -> Result<Bytes, ChecksumMismatch> {
        self.verify().map(|blocks| blocks.data)
    }

    /// The parts for a wire format: offset, bytes, checksums. The receiver makes them [`unverified`](Self::unverified)
    /// blocks again.
    pub fn into_wire(self) -> (u64, Bytes, Vec<u32>) {
        (self.offset, self.data, self.checksums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_in_its_block() {
        let mut data = vec![7u8; BLOCK_SIZE + 100];
        let checksums: Vec<u32> = data.chunks(BLOCK_SIZE).map(crc32c).collect();
        let good = Blocks::unverified(BLOCK_SIZE as u64, data.clone().into(), checksums.clone()).unwrap();
        assert_eq!(good.into_bytes().unwrap().len(), data.len());
        data[BLOCK_SIZE + 5] ^= 1;
        let bad = Blocks::unverified(BLOCK_SIZE as u64, data.into(), checksums).unwrap();
        assert_eq!(bad.into_bytes().unwrap_err().offset, 2 * BLOCK_SIZE as u64);
    }

    #[test]
    fn the_checksum_of_all_blocks_is_made_of_theirs() {
        let data: Vec<u8> = (0..3 * BLOCK_SIZE + 100).map(|at| (at * 7 + at / 1013) as u8).collect();
        let checksums: Vec<u32> = data.chunks(BLOCK_SIZE).map(crc32c).collect();
        for cut in [0, 1, 3] {
            let (first, rest) = data.split_at(cut * BLOCK_SIZE);
            let blocks =
                Blocks::unverified(first.len() as u64, rest.to_vec().into(), checksums[cut..].to_vec())
                    .unwrap();
            assert_eq!(blocks.checksum_after(crc32c(first)), crc32c(&data), "cut after {cut} blocks");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(Blocks::unverified(1, Bytes::from_static(b"x"), vec![0]).is_none());
        assert!(Blocks::unverified(0, Bytes::from_static(b"x"), vec![]).is_none());
        assert!(Blocks::unverified(0, Bytes::from_static(b"x"), vec![0, 0]).is_none());
    }
}
