use bytes::{Buf, BufMut};

use super::{FIRST_RECORD, MAX_CHUNK_LEN, PAGE, VolumeKind};
use crate::checksum::{Crc32c, block_count};
use crate::id::{BlobId, ChunkId, GroupVersion, Owner};

/// Bytes of a record's header.
pub(in crate::store) const HEADER_LEN: usize = 80;

/// Chunks of at least this many bytes go to aligned volumes and are written as they come; smaller ones are packed,
/// and held by their writer until they are complete.
pub(in crate::store) const LARGE: u64 = 256 << 10;

const HEADER_MAGIC: &[u8; 4] = b"SPRC";
const FOOTER_MAGIC: &[u8; 4] = b"SPFT";
const HEADER_CRC_AT: usize = HEADER_LEN - 4;

/// What the checksums of a record begin with: the identity of its volume and its offset there. Bytes that were a
/// record elsewhere, or that imitate one inside a chunk, don't match.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Seed {
    pub(in crate::store) volume: [u8; 16],
    pub(in crate::store) offset: u64,
}

impl Seed {
    pub(in crate::store) fn crc(&self, bytes: &[u8]) -> u32 {
        let mut crc = Crc32c::new();
        crc.update(&self.volume);
        crc.update(&self.offset.to_le_bytes());
        crc.update(bytes);
        crc.value()
    }
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum RecordKind {
    /// A chunk: header, body, footer. It is live once its footer is there.
    Chunk,
    /// The id is spent. A header alone.
    Tombstone,
    /// Every record before this one is finished or abandoned, and on stable storage. A header alone.
    Mark {
        /// Nothing follows, ever: the volume is sealed.
        last: bool,
    },
    /// The bytes of a chunk could not be read when its volume was compacted, and are kept. A header alone.
    Quarantined {
        /// Number of the volume that they were in.
        volume: u32,
    },
}

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct RecordHeader {
    pub(in crate::store) kind: RecordKind,
    pub(in crate::store) id: ChunkId,
    pub(in crate::store) owner: Owner,
    /// Length of the chunk in bytes; 0 where the record is of none.
    pub(in crate::store) length: u64,
    pub(in crate::store) version: GroupVersion,
    /// Rises with every record of the store.
    pub(in crate::store) sequence: u64,
    /// Milliseconds since 1970.
    pub(in crate::store) created: u64,
}

impl RecordHeader {
    /// The header of a record that belongs to no chunk and has no body.
    pub(in crate::store) fn bare(kind: RecordKind, sequence: u64, created: u64) -> Self {
        let owner = Owner { blob: BlobId::from_bytes([0; 16]), offset: 0 };
        let version = GroupVersion::INITIAL;
        Self { kind, id: ChunkId::new(0), owner, length: 0, version, sequence, created }
    }

    pub(in crate::store) fn encode(&self, seed: Seed) -> [u8; HEADER_LEN] {
        let (kind, flags, lost) = match self.kind {
            RecordKind::Chunk => (1, 0, 0),
            RecordKind::Tombstone => (2, 0, 0),
            RecordKind::Mark { last } => (3, u8::from(last), 0),
            RecordKind::Quarantined { volume } => (4, 0, volume),
        };
        let mut bytes = [0; HEADER_LEN];
        let mut out = &mut bytes[..HEADER_CRC_AT];
        out.put_slice(HEADER_MAGIC);
        out.put_u8(kind);
        out.put_u8(flags);
        out.put_u16_le(0);
        out.put_u64_le(self.id.get());
        out.put_slice(self.owner.blob.as_bytes());
        out.put_u64_le(self.owner.offset);
        out.put_u64_le(self.length);
        out.put_u64_le(self.version.get());
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.created);
        out.put_u32_le(lost);
        let crc = seed.crc(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` where there is none.
    pub(in crate::store) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let (fields, mut crc) = bytes.get(..HEADER_LEN)?.split_at(HEADER_CRC_AT);
        let mut fields = fields.strip_prefix(HEADER_MAGIC)?;
        if crc.get_u32_le() != seed.crc(&bytes[..HEADER_CRC_AT]) {
            return None;
        }
        let (kind, flags) = (fields.get_u8(), fields.get_u8());
        fields.advance(2);
        let id = ChunkId::new(fields.get_u64_le());
        let mut blob = [0; 16];
        fields.copy_to_slice(&mut blob);
        let owner = Owner { blob: BlobId::from_bytes(blob), offset: fields.get_u64_le() };
        let length = fields.get_u64_le();
        let version = GroupVersion::new(fields.get_u64_le());
        let (sequence, created) = (fields.get_u64_le(), fields.get_u64_le());
        let volume = fields.get_u32_le();
        let kind = match (kind, flags, length) {
            (1, 0, 1..=MAX_CHUNK_LEN) => RecordKind::Chunk,
            (2, 0, 0) => RecordKind::Tombstone,
            (3, last @ 0..=1, 0) => RecordKind::Mark { last: last == 1 },
            (4, 0, 1..=MAX_CHUNK_LEN) => RecordKind::Quarantined { volume },
            _ => return None,
        };
        Some(Self { kind, id, owner, length, version, sequence, created })
    }

    /// Bytes of the body that follows the header; 0 where none does.
    pub(in crate::store) fn body_len(&self) -> u64 {
        if self.kind == RecordKind::Chunk { self.length } else { 0 }
    }

    /// The CRC in an encoded header, which the footer repeats.
    pub(in crate::store) fn crc_of(encoded: &[u8; HEADER_LEN]) -> u32 {
        (&encoded[HEADER_CRC_AT..]).get_u32_le()
    }
}

/// Where the parts of a record stand: offsets in its volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Geometry {
    pub(in crate::store) start: u64,
    pub(in crate::store) body: u64,
    pub(in crate::store) footer: u64,
    /// Where the next record begins.
    pub(in crate::store) end: u64,
}

impl Geometry {
    /// The parts of a record with a body of `length` bytes, or without one for 0.
    pub(in crate::store) fn new(kind: VolumeKind, start: u64, length: u64) -> Self {
        debug_assert!(start >= FIRST_RECORD && start.is_multiple_of(kind.alignment()));
        let body = start + (HEADER_LEN as u64).next_multiple_of(kind.alignment());
        if length == 0 {
            return Self { start, body, footer: body, end: body };
        }
        let footer = (body + length).next_multiple_of(8);
        let end = (footer + footer_len(length)).next_multiple_of(kind.alignment());
        Self { start, body, footer, end }
    }
}

/// Bytes of the footer of a chunk of `length` bytes.
pub(in crate::store) const fn footer_len(length: u64) -> u64 {
    (4 * block_count(length) + 16).next_multiple_of(8)
}

/// The footer of a chunk's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::store) struct Footer {
    /// CRC-32C of each block of the body.
    pub(in crate::store) blocks: Vec<u32>,
    /// CRC-32C of the whole body.
    pub(in crate::store) checksum: u32,
}

/// Appends a footer to `out`.
pub(in crate::store) fn write_footer(
    out: &mut Vec<u8>,
    blocks: &[u32],
    checksum: u32,
    header_crc: u32,
    seed: Seed,
) {
    let start = out.len();
    for &block in blocks {
        out.put_u32_le(block);
    }
    out.put_u32_le(checksum);
    out.put_u32_le(header_crc);
    out.put_slice(FOOTER_MAGIC);
    let crc = seed.crc(&out[start..]);
    out.put_u32_le(crc);
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
}

impl Footer {
    /// Reads the footer of a chunk of `length` bytes whose header has `header_crc`; `None` where it is not whole.
    pub(in crate::store) fn decode(bytes: &[u8], length: u64, header_crc: u32, seed: Seed) -> Option<Self> {
        let count = block_count(length) as usize;
        let crc_at = 4 * count + 12;
        let (fields, mut crc) = bytes.get(..crc_at + 4)?.split_at(crc_at);
        if crc.get_u32_le() != seed.crc(fields) {
            return None;
        }
        let (blocks, mut rest) = fields.split_at(4 * count);
        let blocks = blocks.chunks_exact(4).map(|mut b| b.get_u32_le()).collect();
        let checksum = rest.get_u32_le();
        let whole = rest.get_u32_le() == header_crc && rest == FOOTER_MAGIC;
        whole.then_some(Self { blocks, checksum })
    }
}

const _: () = assert!((HEADER_LEN as u64) < PAGE && HEADER_LEN.is_multiple_of(8));
