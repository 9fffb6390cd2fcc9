//! What lies in the engine's file: three tables and how their rows are written. `docs/meta.md` specifies them.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use crate::checksum::Crc32c;
use crate::meta::{Check, Entry, KeyRange, TRANSACTION_MEMORY, Timestamp, TransactionId, Version, Write};

/// The entries: key to [`pack`]ed version and value.
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

/// Committed transactions: [`memory_key`] to the version of the commit.
pub(super) const TRANSACTIONS: TableDefinition<'_, &[u8; 20], u64> = TableDefinition::new("transactions");

/// What the store knows about itself. Reserved: no entry of a client is ever in it.
pub(super) const INFO: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("speedy");

/// Row of [`INFO`]: the format version, 4 bytes.
pub(super) const FORMAT_ROW: &str = "format";
/// Row of [`INFO`]: the store's random identity, 16 bytes.
pub(super) const IDENTITY_ROW: &str = "identity";
/// Row of [`INFO`]: no version above this was ever handed out, 8 bytes.
pub(super) const VERSIONS_ROW: &str = "versions";
/// Row of [`INFO`]: no time later than this was ever told, in milliseconds, 8 bytes.
pub(super) const CLOCK_ROW: &str = "clock";

/// The format that this code writes. All numbers in it are big-endian.
pub(super) const FORMAT: u32 = 1;

const HEADER: usize = 12;

/// An entry does not match its checksum. The others are not affected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the entry of key {} is damaged: it does not match its checksum; the other entries can be read. \
     Restore it from a backup, or delete it",
    key.escape_ascii()
)]
pub(super) struct Damaged {
    key: Vec<u8>,
}

/// Version, checksum of key, version and value, then the value.
fn pack(key: &[u8], version: Version, value: &[u8], row: &mut [u8]) {
    let version = version.0.to_be_bytes();
    row[..8].copy_from_slice(&version);
    row[8..HEADER].copy_from_slice(&checksum(key, &version, value).to_be_bytes());
    row[HEADER..].copy_from_slice(value);
}

fn unpack<'a>(key: &[u8], row: &'a [u8]) -> Result<(Version, &'a [u8]), Damaged> {
    let damaged = || Damaged { key: key.to_vec() };
    let (version, rest) = row.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (found, value) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    if checksum(key, version, value) != u32::from_be_bytes(*found) {
        return Err(damaged());
    }
    Ok((Version(u64::from_be_bytes(*version)), value))
}

fn checksum(key: &[u8], version: &[u8; 8], value: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(key);
    crc.update(version);
    crc.update(value);
    crc.value()
}

/// An entry from its row. The engine does not compare pages with their checksums as it reads them; this does.
pub(super) fn entry(key: Bytes, row: &[u8]) -> Result<Entry, Damaged> {
    let (version, value) = unpack(&key, row)?;
    Ok(Entry { value: Bytes::copy_from_slice(value), version, key })
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of a range, or `None` where no key can be in it.
pub(super) fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
    (!range.is_empty()).then_some((Bound::Included(&range.start[..]), end))
}

/// The spell of time that a commit falls into. Committed transactions are filed by it, so that those of one spell
/// stand together and can be dropped together.
pub(super) fn spell(time: Timestamp) -> u32 {
    u32::try_from(time.0 / TRANSACTION_MEMORY.as_millis() as u64).unwrap_or(u32::MAX)
}

fn memory_key(spell: u32, id: TransactionId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&spell.to_be_bytes());
    key[4..].copy_from_slice(&id.0);
    key
}

/// Spell and id in the key of a committed transaction.
pub(super) fn parse_memory_key(key: &[u8; 20]) -> (u32, TransactionId) {
    let (mut spell, mut id) = ([0; 4], [0; 16]);
    spell.copy_from_slice(&key[..4]);
    id.copy_from_slice(&key[4..]);
    (u32::from_be_bytes(spell), TransactionId(id))
}

/// The version that a transaction was committed as in this spell or the one before: each is as long as
/// [`TRANSACTION_MEMORY`], so that two hold at least as much.
pub(super) fn remembered(
    table: &impl ReadableTable<&'static [u8; 20], u64>,
    now: u32,
    id: TransactionId,
) -> Result<Option<Version>, StorageError> {
    for spell in [now, now.saturating_sub(1)] {
        if let Some(version) = table.get(&memory_key(spell, id))? {
            return Ok(Some(Version(version.value())));
        }
    }
    Ok(None)
}

/// Why a transaction of a batch can't be judged.
pub(super) enum Trouble {
    /// The engine failed, and the whole batch with it.
    Engine(StorageError),
    /// A check meets a damaged entry. The other transactions of the batch are not affected.
    Damaged(Damaged),
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Engine(error)
    }
}

/// The tables, open in one commit.
pub(super) struct Tables<'txn> {
    entries: Table<'txn, &'static [u8], &'static [u8]>,
    transactions: Table<'txn, &'static [u8; 20], u64>,
    info: Table<'txn, &'static str, &'static [u8]>,
    spell: u32,
}

impl<'txn> Tables<'txn> {
    /// Opens the tables for a commit at this time.
    pub(super) fn open(commit: &'txn WriteTransaction, now: Timestamp) -> Result<Self, TableError> {
        Ok(Self {
            entries: commit.open_table(ENTRIES)?,
            transactions: commit.open_table(TRANSACTIONS)?,
            info: commit.open_table(INFO)?,
            spell: spell(now),
        })
    }

    /// The version of an earlier commit of this transaction.
    pub(super) fn remembered(&self, id: TransactionId) -> Result<Option<Version>, StorageError> {
        remembered(&self.transactions, self.spell, id)
    }

    /// Position of the first check that does not hold.
    pub(super) fn first_failing(&self, checks: &[Check]) -> Result<Option<usize>, Trouble> {
        for (position, check) in checks.iter().enumerate() {
            if !self.holds(check)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn holds(&self, check: &Check) -> Result<bool, Trouble> {
        Ok(match check {
            Check::Absent(key) => self.entries.get(&key[..])?.is_none(),
            Check::Version(key, version) => match self.entries.get(&key[..])? {
                Some(row) => unpack(key, row.value()).map_err(Trouble::Damaged)?.0 == *version,
                None => false,
            },
            Check::RangeEmpty(range) => match bounds(range) {
                Some(bounds) => self.entries.range::<&[u8]>(bounds)?.next().transpose()?.is_none(),
                None => true,
            },
        })
    }

    /// Applies a transaction's writes as the commit of this version and remembers its id.
    pub(super) fn apply(
        &mut self,
        id: TransactionId,
        writes: &[Write],
        version: Version,
    ) -> Result<(), StorageError> {
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let mut row = self.entries.insert_reserve(&key[..], HEADER + value.len())?;
                    pack(key, version, value, row.as_mut());
                }
                Write::Delete(key) => drop(self.entries.remove(&key[..])?),
            }
        }
        self.transactions.insert(&memory_key(self.spell, id), version.0)?;
        Ok(())
    }

    /// Puts an entry of a backup, as the commit that first wrote it.
    pub(super) fn restore_entry(&mut self, entry: &Entry) -> Result<(), StorageError> {
        let mut row = self.entries.insert_reserve(&entry.key[..], HEADER + entry.value.len())?;
        pack(&entry.key, entry.version, &entry.value, row.as_mut());
        Ok(())
    }

    /// Remembers a transaction of a backup.
    pub(super) fn restore_transaction(
        &mut self,
        spell: u32,
        id: TransactionId,
        version: Version,
    ) -> Result<(), StorageError> {
        self.transactions.insert(&memory_key(spell, id), version.0)?;
        Ok(())
    }

    /// Forgets up to `limit` transactions of spells long past; whether there may be more.
    pub(super) fn forget(&mut self, limit: usize) -> Result<bool, StorageError> {
        let kept = memory_key(self.spell.saturating_sub(1), TransactionId([0; 16]));
        for _ in 0..limit {
            match self.transactions.first()? {
                Some((key, _)) if *key.value() < kept => {}
                _ => return Ok(false),
            }
            self.transactions.pop_first()?;
        }
        Ok(true)
    }

    /// Sets a row of what the store knows about itself.
    pub(super) fn set_info(&mut self, row: &'static str, value: &[u8]) -> Result<(), StorageError> {
        self.info.insert(row, value)?;
        Ok(())
    }

    /// A row of what the store knows about itself.
    pub(super) fn info(&self, row: &'static str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.info.get(row)?.map(|value| value.value().to_vec()))
    }

    /// Whether no entry was ever written, nor a row about the store.
    pub(super) fn is_new(&self) -> Result<bool, StorageError> {
        Ok(self.info.first()?.is_none() && self.entries.first()?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_row_is_damaged() {
        let mut row = vec![0; HEADER + 5];
        pack(b"key", Version(7), b"value", &mut row);
        assert_eq!(unpack(b"key", &row), Ok((Version(7), &b"value"[..])));
        assert!(unpack(b"kez", &row).is_err());
        assert!(unpack(b"key", &row[..HEADER - 1]).is_err());
        for at in 0..row.len() {
            let mut row = row.clone();
            row[at] ^= 4;
            assert!(unpack(b"key", &row).is_err(), "byte {at}");
        }
    }
}
