use bytes::{Buf, BufMut};

use super::{FIRST_RECORD, FORMAT_VERSION, PAGE};
use crate::checksum::{BLOCK_SIZE, crc32c};
use crate::id::{DirectoryId, NodeId, StoreId};

/// Bytes of a head; the last four are the CRC-32C of those before. This much holds in every format version, so that
/// a release can name a version that it can't read.
pub(super) const HEAD_LEN: usize = 128;

const CRC_AT: usize = HEAD_LEN - 4;

/// What opens a file of the store: a magic, the format version, fields and a CRC. It is written twice, a page
/// apart, so that one bad sector does not cost a volume.
pub(in crate::store) trait Head: Sized {
    const MAGIC: &'static [u8; 8];

    fn put(&self, out: &mut &mut [u8]);

    /// Reads the fields after magic and version. `None` where they make no sense.
    fn take(fields: &mut &[u8]) -> Option<Self>;

    /// The two copies, with their padding: all of the file before [`FIRST_RECORD`].
    fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        let mut out = &mut page[..CRC_AT];
        out.put_slice(Self::MAGIC);
        out.put_u32_le(FORMAT_VERSION);
        self.put(&mut out);
        let crc = crc32c(&page[..CRC_AT]);
        page[CRC_AT..HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
        page.repeat((FIRST_RECORD / PAGE) as usize)
    }

    /// Reads the first of the copies in `bytes`, the beginning of a file, that is whole.
    fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        if bytes.len() < FIRST_RECORD as usize || bytes.iter().all(|&b| b == 0) {
            return Err(HeadError::Unfinished);
        }
        let mut error = HeadError::Damaged;
        for page in bytes[..FIRST_RECORD as usize].chunks(PAGE as usize) {
            match Self::decode_copy(&page[..HEAD_LEN]) {
                Err(HeadError::Damaged) => {}
                Err(e) => error = e,
                Ok(head) => return Ok(head),
            }
        }
        Err(error)
    }

    /// Reads one copy.
    fn decode_copy(copy: &[u8]) -> Result<Self, HeadError> {
        let (mut fields, mut crc) = copy.split_at(CRC_AT);
        if crc.get_u32_le() != crc32c(fields) || !fields.starts_with(Self::MAGIC) {
            return Err(HeadError::Damaged);
        }
        fields.advance(Self::MAGIC.len());
        match fields.get_u32_le() {
            FORMAT_VERSION => Self::take(&mut fields).ok_or(HeadError::Damaged),
            version => Err(HeadError::OtherVersion(version)),
        }
    }
}

/// Why a head was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum HeadError {
    /// Too short or all zeros: a crash came between the file's creation and its first sync. Nothing in it was ever
    /// acknowledged.
    Unfinished,
    /// No copy is whole, or it is another kind of file.
    Damaged,
    /// It is whole, and of a version that this release does not read.
    OtherVersion(u32),
}

/// The superblock: who this store is, and which of its directories this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Superblock {
    pub(in crate::store) store: StoreId,
    pub(in crate::store) node: NodeId,
    /// When this directory became one of the store's. Milliseconds since 1970.
    pub(in crate::store) created: u64,
    pub(in crate::store) directory: DirectoryId,
    /// The upper eight bits of the numbers of all volumes made here. No two directories of a store have the same.
    pub(in crate::store) ordinal: u8,
}

impl Head for Superblock {
    const MAGIC: &'static [u8; 8] = b"SPEEDYST";

    fn put(&self, out: &mut &mut [u8]) {
        out.put_slice(self.store.as_bytes());
        out.put_slice(self.node.as_bytes());
        out.put_u64_le(self.created);
        out.put_slice(self.directory.as_bytes());
        out.put_u8(self.ordinal);
    }

    fn take(fields: &mut &[u8]) -> Option<Self> {
        Some(Self {
            store: StoreId::from_bytes(take_16(fields)),
            node: NodeId::from_bytes(take_16(fields)),
            created: fields.get_u64_le(),
            directory: DirectoryId::from_bytes(take_16(fields)),
            ordinal: fields.get_u8(),
        })
    }
}

/// What a volume is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::store) enum VolumeKind {
    /// Small chunks and tombstones, one behind the other on multiples of 8.
    Packed,
    /// Large chunks, header and body on multiples of 4 KiB, so that direct I/O can carry them.
    Aligned,
}

impl VolumeKind {
    pub(in crate::store) const ALL: [Self; 2] = [Self::Packed, Self::Aligned];

    /// Records begin on multiples of this.
    pub(in crate::store) const fn alignment(self) -> u64 {
        match self {
            Self::Packed => 8,
            Self::Aligned => PAGE,
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Packed => 1,
            Self::Aligned => 2,
        }
    }
}

/// The header of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct VolumeHeader {
    pub(in crate::store) kind: VolumeKind,
    pub(in crate::store) number: u32,
    /// Random. Every record's checksums are seeded with it.
    pub(in crate::store) identity: [u8; 16],
    pub(in crate::store) store: StoreId,
    /// Milliseconds since 1970.
    pub(in crate::store) created: u64,
}

impl Head for VolumeHeader {
    const MAGIC: &'static [u8; 8] = b"SPEEDYVL";

    fn put(&self, out: &mut &mut [u8]) {
        out.put_u32_le(self.kind.code());
        out.put_slice(&self.identity);
        out.put_slice(self.store.as_bytes());
        out.put_u32_le(self.number);
        out.put_u32_le(BLOCK_SIZE as u32);
        out.put_u64_le(self.created);
    }

    fn take(fields: &mut &[u8]) -> Option<Self> {
        let kind = fields.get_u32_le();
        let kind = VolumeKind::ALL.into_iter().find(|k| k.code() == kind)?;
        let identity = take_16(fields);
        let store = StoreId::from_bytes(take_16(fields));
        let number = fields.get_u32_le();
        let block_size = fields.get_u32_le();
        let created = fields.get_u64_le();
        (block_size == BLOCK_SIZE as u32).then_some(Self { kind, number, identity, store, created })
    }
}

pub(super) fn take_16(fields: &mut &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    fields.copy_to_slice(&mut bytes);
    bytes
}
