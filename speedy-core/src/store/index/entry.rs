//! What the index knows of an id.

use crate::id::ChunkId;
use crate::store::format::{FIRST_RECORD, Geometry, LARGE, VolumeKind};

/// Lengths need 27 bits: 64 MiB are a chunk too.
const LENGTH: u32 = (1 << 27) - 1;

const QUARANTINED: u32 = 1 << 31;

/// The record that decides what an id is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Entry {
    /// Number of the volume.
    pub(in crate::store) volume: u32,
    /// Offset of the record in eighths: records begin on multiples of 8 and volumes end at 32 GiB.
    eighth: u32,
    /// Length of the chunk; 0 for a tombstone, since no chunk is empty. Flags above it.
    length: u32,
}

impl Entry {
    pub(in crate::store) fn chunk(volume: u32, offset: u64, length: u64) -> Self {
        Self { volume, eighth: eighth(offset), length: u32::try_from(length).expect("chunks end at 64 MiB") }
    }

    pub(in crate::store) fn tombstone(volume: u32, offset: u64) -> Self {
        Self { volume, eighth: eighth(offset), length: 0 }
    }

    /// A chunk of this length whose bytes are damaged and set aside; the record says so.
    pub(in crate::store) fn quarantined(volume: u32, offset: u64, length: u64) -> Self {
        let Self { eighth, length, .. } = Self::chunk(volume, offset, length);
        Self { volume, eighth, length: length | QUARANTINED }
    }

    pub(in crate::store) fn offset(&self) -> u64 {
        u64::from(self.eighth) * 8
    }

    pub(in crate::store) fn length(&self) -> u64 {
        (self.length & LENGTH).into()
    }

    pub(in crate::store) fn is_tombstone(&self) -> bool {
        self.length == 0
    }

    pub(in crate::store) fn is_quarantined(&self) -> bool {
        self.length & QUARANTINED != 0
    }

    /// Whether a record of a chunk stands there.
    pub(in crate::store) fn is_chunk(&self) -> bool {
        !self.is_tombstone() && !self.is_quarantined()
    }

    /// Bytes that the record takes in its volume.
    pub(in crate::store) fn record_bytes(&self) -> u64 {
        let body = if self.is_chunk() { self.length() } else { 0 };
        // Where a record is follows from its length alone.
        let kind = if body < LARGE { VolumeKind::Packed } else { VolumeKind::Aligned };
        Geometry::new(kind, FIRST_RECORD, body).end - FIRST_RECORD
    }
}

fn eighth(offset: u64) -> u32 {
    u32::try_from(offset / 8).expect("volumes end at 32 GiB")
}

/// An id and its entry in 20 bytes: in memory, and in a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Row {
    /// In halves, so that a row is aligned to 4 bytes and fills no 24.
    id: [u32; 2],
    entry: Entry,
}

impl Row {
    /// Bytes of a row.
    pub(in crate::store) const LEN: usize = 20;

    pub(in crate::store) fn new(id: ChunkId, entry: Entry) -> Self {
        let id = id.get();
        Self { id: [id as u32, (id >> 32) as u32], entry }
    }

    pub(in crate::store) fn id(&self) -> u64 {
        u64::from(self.id[1]) << 32 | u64::from(self.id[0])
    }

    pub(in crate::store) fn entry(&self) -> Entry {
        self.entry
    }

    pub(super) fn set(&mut self, entry: Entry) {
        self.entry = entry;
    }

    pub(in crate::store) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let Entry { volume, eighth, length } = self.entry;
        let words = [self.id[0], self.id[1], volume, eighth, length];
        for (out, word) in bytes.chunks_exact_mut(4).zip(words) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(in crate::store) fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let entry = Entry { volume: word(8), eighth: word(12), length: word(16) };
        Self { id: [word(0), word(4)], entry }
    }
}

const _: () = assert!(size_of::<Row>() == Row::LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_the_greatest_values() {
        let longest = super::super::super::MAX_CHUNK_LEN;
        for entry in [
            Entry::chunk(u32::MAX, (1 << 35) - 8, longest),
            Entry::quarantined(7, 8192, longest),
            Entry::tombstone(1, 8192),
        ] {
            let row = Row::new(ChunkId::new(u64::MAX - 1), entry);
            assert_eq!(Row::decode(&row.encode()), row);
            assert_eq!((row.id(), row.entry()), (u64::MAX - 1, entry));
        }
        let quarantined = Entry::quarantined(7, 8192, longest);
        assert_eq!((quarantined.length(), quarantined.is_chunk()), (longest, false));
    }
}
