//! The checksums of a chunk while it is written.

use crate::checksum::{BLOCK_SIZE, Crc32c, combine};

/// CRC-32C of each block and of the whole, in one pass over the bytes: the whole is combined from the blocks.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Of the complete blocks.
    blocks: Vec<u32>,
    /// Of all complete blocks together.
    whole: u32,
    /// Of the block that has begun.
    block: Crc32c,
    filled: usize,
}

impl Sums {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_SIZE - self.filled));
            self.block.update(part);
            self.filled += part.len();
            if self.filled == BLOCK_SIZE {
                self.whole = self.whole();
                self.blocks.push(std::mem::take(&mut self.block).value());
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// The checksum of all bytes so far.
    pub(super) fn whole(&self) -> u32 {
        combine(self.whole, self.block.value(), self.filled as u64)
    }

    /// The checksums of the blocks, the last one as far as it goes, and of the whole.
    pub(super) fn finish(mut self) -> (Vec<u32>, u32) {
        let whole = self.whole();
        if self.filled > 0 {
            self.blocks.push(self.block.value());
        }
        (self.blocks, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::crc32c;

    #[test]
    fn any_cut_gives_the_same_sums() {
        let data: Vec<u8> = (0..3 * BLOCK_SIZE + 77).map(|i| (i % 253) as u8).collect();
        let blocks: Vec<u32> = data.chunks(BLOCK_SIZE).map(crc32c).collect();
        for cut in [1, 1000, BLOCK_SIZE, BLOCK_SIZE + 1, data.len()] {
            let mut sums = Sums::default();
            for part in data.chunks(cut) {
                sums.update(part);
            }
            assert_eq!(sums.whole(), crc32c(&data));
            assert_eq!(sums.finish(), (blocks.clone(), crc32c(&data)));
        }
    }
}
