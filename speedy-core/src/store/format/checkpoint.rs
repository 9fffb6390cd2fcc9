use bytes::{Buf, BufMut};

use super::{FIRST_RECORD, Head};
use crate::checksum::{BLOCK_SIZE, block_count, crc32c};
use crate::id::StoreId;

/// Bytes of a row of the table of volumes.
pub(in crate::store) const COVERED_LEN: usize = 64;

const FOOTER_MAGIC: &[u8; 4] = b"SPCF";

/// The head of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct CheckpointHead {
    pub(in crate::store) store: StoreId,
    /// Milliseconds since 1970.
    pub(in crate::store) created: u64,
    /// The greatest sequence of any record when it was begun.
    pub(in crate::store) highest_sequence: u64,
    /// Rows of the table of volumes.
    pub(in crate::store) volumes: u64,
    /// Rows of the index.
    pub(in crate::store) rows: u64,
}

impl Head for CheckpointHead {
    const MAGIC: &'static [u8; 8] = b"SPEEDYCP";

    fn put(&self, out: &mut &mut [u8]) {
        out.put_slice(self.store.as_bytes());
        out.put_u64_le(self.created);
        out.put_u64_le(self.highest_sequence);
        out.put_u64_le(self.volumes);
        out.put_u64_le(self.rows);
    }

    fn take(fields: &mut &[u8]) -> Option<Self> {
        let mut store = [0; 16];
        fields.copy_to_slice(&mut store);
        Some(Self {
            store: StoreId::from_bytes(store),
            created: fields.get_u64_le(),
            highest_sequence: fields.get_u64_le(),
            volumes: fields.get_u64_le(),
            rows: fields.get_u64_le(),
        })
    }
}

/// A volume of which a checkpoint has all records up to an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Covered {
    pub(in crate::store) number: u32,
    /// Whether the mark at the offset is final.
    pub(in crate::store) sealed: bool,
    pub(in crate::store) identity: [u8; 16],
    /// End of the mark that vouches for what stands before it.
    pub(in crate::store) offset: u64,
    /// Writes before it that were cut off.
    pub(in crate::store) unfinished: u64,
    /// Places before it where no record could be read.
    pub(in crate::store) gaps: u64,
}

impl Covered {
    pub(in crate::store) fn encode(&self) -> [u8; COVERED_LEN] {
        let mut bytes = [0; COVERED_LEN];
        let mut out = &mut bytes[..];
        out.put_u32_le(self.number);
        out.put_u32_le(u32::from(self.sealed));
        out.put_slice(&self.identity);
        out.put_u64_le(self.offset);
        out.put_u64_le(self.unfinished);
        out.put_u64_le(self.gaps);
        bytes
    }

    pub(in crate::store) fn decode(bytes: &[u8; COVERED_LEN]) -> Self {
        let mut fields = &bytes[..];
        let (number, flags) = (fields.get_u32_le(), fields.get_u32_le());
        let mut identity = [0; 16];
        fields.copy_to_slice(&mut identity);
        Self {
            number,
            sealed: flags & 1 == 1,
            identity,
            offset: fields.get_u64_le(),
            unfinished: fields.get_u64_le(),
            gaps: fields.get_u64_le(),
        }
    }
}

/// Bytes of the footer behind a body of `length` bytes.
pub(in crate::store) const fn checkpoint_footer_len(length: u64) -> u64 {
    4 * block_count(length) + 32
}

/// The footer of a checkpoint: the CRC of each block of its body, the body's length, whose it is, and a CRC of its
/// own.
pub(in crate::store) fn checkpoint_footer(blocks: &[u32], length: u64, store: StoreId) -> Vec<u8> {
    let mut footer = Vec::with_capacity(checkpoint_footer_len(length) as usize);
    for &block in blocks {
        footer.put_u32_le(block);
    }
    footer.put_u64_le(length);
    footer.put_slice(store.as_bytes());
    footer.put_slice(FOOTER_MAGIC);
    let crc = crc32c(&footer);
    footer.put_u32_le(crc);
    footer
}

/// The body of a checkpoint, if all of the file is what was written; otherwise what is wrong with it.
pub(in crate::store) fn verified_body<'a>(
    file: &'a [u8],
    head: &CheckpointHead,
    row_len: u64,
) -> Result<&'a [u8], &'static str> {
    let length = head.rows.checked_mul(row_len).and_then(|rows| {
        let table = head.volumes.checked_mul(COVERED_LEN as u64)?;
        rows.checked_add(table)
    });
    let length = length.filter(|&length| length < u64::MAX / 2).ok_or("its counts make no sense")?;
    let whole = FIRST_RECORD + length + checkpoint_footer_len(length);
    if file.len() as u64 != whole {
        return Err("it has another length than its head says");
    }
    let (body, footer) = file[FIRST_RECORD as usize..].split_at(length as usize);
    let (fields, mut crc) = footer.split_at(footer.len() - 4);
    if crc.get_u32_le() != crc32c(fields) {
        return Err("its footer is damaged");
    }
    let (mut blocks, mut rest) = fields.split_at(fields.len() - 28);
    let (their_length, store, magic) = (rest.get_u64_le(), &rest[..16], &rest[16..20]);
    if their_length != length || store != head.store.as_bytes() || magic != FOOTER_MAGIC {
        return Err("its footer belongs to another checkpoint");
    }
    for block in body.chunks(BLOCK_SIZE) {
        if blocks.get_u32_le() != crc32c(block) {
            return Err("a block of it is damaged");
        }
    }
    Ok(body)
}
