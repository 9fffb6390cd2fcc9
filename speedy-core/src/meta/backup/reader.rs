use std::io::{self, Read};

use bytes::Bytes;

use super::{
    BLOCK_HEAD_LEN, BackupError, BackupInfo, CRC_LEN, END, END_LEN, ENTRIES, FORMAT, HEAD_LEN, MAGIC,
    MAX_BLOCK, ROW_HEAD_LEN, TRANSACTION_LEN, TRANSACTIONS,
};
use crate::checksum::{Crc32c, crc32c};
use crate::digest::{Algorithm, Hasher};
use crate::meta::{Entry, MAX_KEY_LEN, MAX_VALUE_LEN, Timestamp, TransactionId, Version};

/// Rows of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::meta) enum Block {
    /// In order of their keys.
    Entries(Vec<Entry>),
    /// Spell, id, version: in order of spell and id.
    Transactions(Vec<(u32, TransactionId, Version)>),
}

/// Reads a backup block by block, each verified before it is given out.
pub(in crate::meta) struct BackupReader<R> {
    input: R,
    info: BackupInfo,
    crc: u32,
    hash: Hasher,
    entries: u64,
    transactions: u64,
    last_key: Option<Bytes>,
    last_transaction: Option<(u32, [u8; 16])>,
    ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the head.
    pub(in crate::meta) fn new(mut input: R) -> Result<Self, BackupError> {
        let mut head = [0; HEAD_LEN];
        let read = read_up_to(&mut input, &mut head)?;
        if read < MAGIC.len() || head[..8] != MAGIC[..] {
            return Err(BackupError::Foreign);
        }
        if read < HEAD_LEN {
            return Err(BackupError::Torn(read as u64));
        }
        // Before the checksum: a later format may have another head, and is to be named.
        let found = u32::from_be_bytes(array(&head[8..12]));
        if found != FORMAT {
            return Err(BackupError::Format { found, known: FORMAT });
        }
        let crc = u32::from_be_bytes(array(&head[HEAD_LEN - CRC_LEN..]));
        if crc32c(&head[..HEAD_LEN - CRC_LEN]) != crc {
            return Err(damaged(0, "its head does not match its checksum"));
        }
        let number = |at: usize| u64::from_be_bytes(array(&head[at..at + 8]));
        let info = BackupInfo {
            identity: array(&head[16..32]),
            taken: Timestamp(number(32)),
            versions: number(40),
            clock: Timestamp(number(48)),
            entries: number(56),
            transactions: number(64),
            bytes: HEAD_LEN as u64,
        };
        let mut hash = Hasher::new(Algorithm::Sha256);
        hash.update(&head);
        Ok(Self {
            input,
            info,
            crc,
            hash,
            entries: 0,
            transactions: 0,
            last_key: None,
            last_transaction: None,
            ended: false,
        })
    }

    /// What the head says; the length is that of what has been read.
    pub(in crate::meta) fn info(&self) -> BackupInfo {
        self.info
    }

    /// Rows read so far.
    pub(in crate::meta) fn rows_read(&self) -> u64 {
        self.entries + self.transactions
    }

    /// Rows that the head announces.
    pub(in crate::meta) fn rows(&self) -> u64 {
        self.info.entries.saturating_add(self.info.transactions)
    }

    /// The next rows; `None` once the end was met and all is well.
    pub(in crate::meta) fn next(&mut self) -> Result<Option<Block>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.info.bytes;
        let mut head = [0; BLOCK_HEAD_LEN];
        self.fill(&mut head, at)?;
        let len = u32::from_be_bytes(array(&head[4..])) as usize;
        if !(1..=MAX_BLOCK).contains(&len) {
            return Err(damaged(at, "a block has an impossible length"));
        }
        let mut content = vec![0; len + CRC_LEN];
        self.fill(&mut content, at + BLOCK_HEAD_LEN as u64)?;
        let found = content.split_off(len);
        let mut crc = Crc32c::new();
        crc.update(&self.crc.to_be_bytes());
        crc.update(&head);
        crc.update(&content);
        if crc.value() != u32::from_be_bytes(array(&found)) {
            return Err(damaged(at, "a block does not match its checksum"));
        }
        self.crc = crc.value();
        self.info.bytes += (BLOCK_HEAD_LEN + len + CRC_LEN) as u64;
        if head[0] == END {
            self.end(&content, at)?;
            return Ok(None);
        }
        self.hash.update(&head);
        self.hash.update(&content);
        self.hash.update(&found);
        let block = match head[0] {
            ENTRIES => self.parse_entries(content.into()),
            TRANSACTIONS => self.parse_transactions(&content),
            _ => None,
        };
        block.map(Some).ok_or_else(|| damaged(at, "a block holds what no backup holds"))
    }

    /// Rows in order, within their limits and of versions that the head knows.
    fn parse_entries(&mut self, mut content: Bytes) -> Option<Block> {
        if self.transactions > 0 {
            return None;
        }
        let mut entries = Vec::new();
        while !content.is_empty() {
            let head = (content.len() >= ROW_HEAD_LEN).then(|| content.split_to(ROW_HEAD_LEN))?;
            let key_len = usize::from(u16::from_be_bytes(array(&head[..2])));
            let value_len = u32::from_be_bytes(array(&head[2..6])) as usize;
            let version = Version(u64::from_be_bytes(array(&head[6..])));
            let fits = (1..=MAX_KEY_LEN).contains(&key_len) && value_len <= MAX_VALUE_LEN;
            if !fits || content.len() < key_len + value_len || version.0 > self.info.versions {
                return None;
            }
            // Copies: a block would otherwise live as long as the last of its rows.
            let key = Bytes::copy_from_slice(&content.split_to(key_len));
            let value = Bytes::copy_from_slice(&content.split_to(value_len));
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return None;
            }
            self.last_key = Some(key.clone());
            entries.push(Entry { key, value, version });
        }
        self.entries += entries.len() as u64;
        Some(Block::Entries(entries))
    }

    fn parse_transactions(&mut self, content: &[u8]) -> Option<Block> {
        let rows = content.chunks_exact(TRANSACTION_LEN);
        if !rows.remainder().is_empty() {
            return None;
        }
        let mut transactions = Vec::with_capacity(rows.len());
        for row in rows {
            let (spell, id) = (u32::from_be_bytes(array(&row[..4])), array(&row[4..20]));
            let version = Version(u64::from_be_bytes(array(&row[20..])));
            if self.last_transaction.is_some_and(|last| last >= (spell, id)) || version.0 > self.info.versions
            {
                return None;
            }
            self.last_transaction = Some((spell, id));
            transactions.push((spell, TransactionId(id), version));
        }
        self.transactions += transactions.len() as u64;
        Some(Block::Transactions(transactions))
    }

    fn end(&mut self, content: &[u8], at: u64) -> Result<(), BackupError> {
        if content.len() != END_LEN || content != self.hash.clone().finish().as_bytes() {
            return Err(damaged(at, "its SHA-256 is not that of its content"));
        }
        if (self.entries, self.transactions) != (self.info.entries, self.info.transactions) {
            return Err(damaged(at, "it does not hold as many rows as its head says"));
        }
        if read_up_to(&mut self.input, &mut [0])? > 0 {
            return Err(damaged(self.info.bytes, "something follows its end"));
        }
        self.ended = true;
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8], at: u64) -> Result<(), BackupError> {
        match read_up_to(&mut self.input, into)? {
            read if read == into.len() => Ok(()),
            read => Err(BackupError::Torn(at + read as u64)),
        }
    }
}

fn damaged(offset: u64, reason: &str) -> BackupError {
    BackupError::Damaged { offset, reason: reason.into() }
}

/// As many bytes as there are, up to the length of the buffer.
fn read_up_to(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match input.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("whoever calls this has cut out as many bytes")
}
