use std::io::Write;

use super::{
    BLOCK_HEAD_LEN, BLOCK_TARGET, BackupError, BackupInfo, CRC_LEN, END, ENTRIES, FORMAT, HEAD_LEN, MAGIC,
    ROW_HEAD_LEN, TRANSACTIONS,
};
use crate::checksum::{Crc32c, crc32c};
use crate::digest::{Algorithm, Hasher};
use crate::meta::{Entry, TransactionId, Version};

/// Writes a backup: the head, then rows in order, then the end. Holds one block.
pub(in crate::meta) struct BackupWriter<W> {
    out: W,
    info: BackupInfo,
    /// Head and content of the block that is being filled.
    block: Vec<u8>,
    /// The checksum of the last block, or of the head.
    crc: u32,
    hash: Hasher,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup of so many rows as `info` says.
    pub(in crate::meta) fn new(mut out: W, info: BackupInfo) -> Result<Self, BackupError> {
        let head = head(&info);
        out.write_all(&head)?;
        let mut hash = Hasher::new(Algorithm::Sha256);
        hash.update(&head);
        let [.., a, b, c, d] = head;
        let mut writer = Self {
            out,
            info,
            block: Vec::with_capacity(2 * BLOCK_TARGET),
            crc: u32::from_be_bytes([a, b, c, d]),
            hash,
        };
        writer.info.bytes = HEAD_LEN as u64;
        Ok(writer)
    }

    /// Whether the block holds as much as it should before it is [flushed](Self::flush).
    pub(in crate::meta) fn is_full(&self) -> bool {
        self.block.len() >= BLOCK_TARGET
    }

    /// Adds an entry to the block. Entries come in order of their keys, before all transactions.
    pub(in crate::meta) fn entry(&mut self, entry: &Entry) {
        self.begin(ENTRIES);
        self.block.reserve(ROW_HEAD_LEN + entry.key.len() + entry.value.len());
        // Keys and values have limits far below these types'.
        self.block.extend_from_slice(&(entry.key.len() as u16).to_be_bytes());
        self.block.extend_from_slice(&(entry.value.len() as u32).to_be_bytes());
        self.block.extend_from_slice(&entry.version.0.to_be_bytes());
        self.block.extend_from_slice(&entry.key);
        self.block.extend_from_slice(&entry.value);
    }

    /// Adds a remembered transaction to the block, in order of spell and id. The block has no entries.
    pub(in crate::meta) fn transaction(&mut self, spell: u32, id: TransactionId, version: Version) {
        self.begin(TRANSACTIONS);
        self.block.extend_from_slice(&spell.to_be_bytes());
        self.block.extend_from_slice(&id.0);
        self.block.extend_from_slice(&version.0.to_be_bytes());
    }

    fn begin(&mut self, kind: u8) {
        if self.block.is_empty() {
            self.block.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Writes the block, if there is anything in it.
    pub(in crate::meta) fn flush(&mut self) -> Result<(), BackupError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let len = (self.block.len() - BLOCK_HEAD_LEN) as u32;
        self.block[4..BLOCK_HEAD_LEN].copy_from_slice(&len.to_be_bytes());
        let mut crc = Crc32c::new();
        crc.update(&self.crc.to_be_bytes());
        crc.update(&self.block);
        self.crc = crc.value();
        self.block.extend_from_slice(&self.crc.to_be_bytes());
        debug_assert!(self.block.len() > BLOCK_HEAD_LEN + CRC_LEN, "a block has content");
        self.out.write_all(&self.block)?;
        self.hash.update(&self.block);
        self.info.bytes += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Writes the end. What is in the file by then is complete.
    pub(in crate::meta) fn end(mut self) -> Result<BackupInfo, BackupError> {
        self.flush()?;
        let whole = self.hash.clone().finish();
        self.begin(END);
        self.block.extend_from_slice(whole.as_bytes());
        self.flush()?;
        self.out.flush()?;
        Ok(self.info)
    }
}

fn head(info: &BackupInfo) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    head[16..32].copy_from_slice(&info.identity);
    let numbers = [info.taken.0, info.versions, info.clock.0, info.entries, info.transactions];
    for (place, number) in head[32..72].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    let crc = crc32c(&head[..HEAD_LEN - CRC_LEN]);
    head[HEAD_LEN - CRC_LEN..].copy_from_slice(&crc.to_be_bytes());
    head
}
