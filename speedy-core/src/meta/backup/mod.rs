//! The backup file of a metadata store: one instant of it, as a stream. `docs/meta.md` specifies the bytes.
//!
//! [`EmbeddedMeta::backup`](super::EmbeddedMeta::backup) writes it from a store at work, [`EmbeddedMeta::restore`](super::EmbeddedMeta::restore)
//! makes a store of it, and [`check_backup`] verifies it. Every block carries a checksum that depends on all blocks
//! before it, and the end the SHA-256 of the whole: a file that is cut off, damaged or put together wrongly is
//! refused, with the place where it goes wrong.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{self, Read};

use super::{MetaError, Timestamp};

pub(super) use reader::{BackupReader, Block};
pub(super) use writer::BackupWriter;

/// The first bytes of every backup.
const MAGIC: &[u8; 8] = b"SPEEDYMB";
/// The format that this code writes.
const FORMAT: u32 = 1;
const HEAD_LEN: usize = 80;
/// Kind, reserved, length.
const BLOCK_HEAD_LEN: usize = 8;
const CRC_LEN: usize = 4;
/// A block is ended by the first row that takes it this far.
const BLOCK_TARGET: usize = 256 << 10;
/// The longest content of a block: more than the target and the largest row.
const MAX_BLOCK: usize = 1 << 20;
/// Lengths of key and value, and the version.
const ROW_HEAD_LEN: usize = 14;
/// Spell, id, version.
const TRANSACTION_LEN: usize = 28;
const END_LEN: usize = 32;

const ENTRIES: u8 = 1;
const TRANSACTIONS: u8 = 2;
const END: u8 = 3;

/// What a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupInfo {
    /// The identity of the store that it was taken of.
    pub identity: [u8; 16],
    /// When, by that store's clock.
    pub taken: Timestamp,
    /// No version above this was handed out by then.
    pub versions: u64,
    /// No time after this was told by then.
    pub clock: Timestamp,
    /// Entries.
    pub entries: u64,
    /// Transaction ids that were still remembered.
    pub transactions: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// Why a backup could not be written, or is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The bytes are something else.
    #[error("it is no backup of a metadata store: it does not begin as one")]
    Foreign,
    /// A later version of this program wrote it.
    #[error(
        "it has backup format {found}, and this program knows formats up to {known}; use a later version"
    )]
    Format {
        /// The format that was found.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// It ends too early.
    #[error(
        "it is cut off: it ends after {0} bytes, before its end mark. Take another copy or another backup"
    )]
    Torn(u64),
    /// Its bytes are not those that were written.
    #[error("it is damaged at byte {offset}: {reason}. Take another copy or another backup")]
    Damaged {
        /// Where in the file the bad block begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The store that is to be backed up can't be read.
    #[error("{0}")]
    Store(#[from] MetaError),
    /// It can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a backup to its end and verifies all of it. `progress` hears how many of how many rows are done. Blocks.
///
/// # Errors
/// Everything but [`BackupError::Store`]: what is wrong with the file.
pub fn check_backup(input: impl Read, progress: &mut dyn FnMut(u64, u64)) -> Result<BackupInfo, BackupError> {
    let mut reader = BackupReader::new(input)?;
    while reader.next()?.is_some() {
        progress(reader.rows_read(), reader.rows());
    }
    Ok(reader.info())
}
