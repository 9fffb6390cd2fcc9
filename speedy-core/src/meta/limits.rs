use std::time::Duration;

use super::{Check, KeyRange, MetaError, Transaction, Write};

/// Longest key in bytes. A key is never empty.
pub const MAX_KEY_LEN: usize = 1024;
/// Longest value in bytes: room for a manifest of 64 KiB and what is kept beside it.
pub const MAX_VALUE_LEN: usize = 128 * 1024;
/// Most checks and writes, taken together, in one transaction.
pub const MAX_TRANSACTION_OPERATIONS: usize = 128;
/// Most bytes of keys and values in one transaction: 1 MiB.
pub const MAX_TRANSACTION_BYTES: usize = 1 << 20;
/// Most keys in one `get_many`.
pub const MAX_GET_KEYS: usize = 1024;
/// Most entries in one page of a scan.
pub const MAX_PAGE_ENTRIES: usize = 10_000;
/// How long a committed transaction's id is remembered at the least.
pub const TRANSACTION_MEMORY: Duration = Duration::from_secs(10 * 60);

fn check_key(key: &[u8]) -> Result<(), MetaError> {
    match key.len() {
        1..=MAX_KEY_LEN => Ok(()),
        len => Err(MetaError::Invalid(format!("a key of {len} bytes; a key has 1 to {MAX_KEY_LEN}"))),
    }
}

fn check_range(range: &KeyRange) -> Result<(), MetaError> {
    let longest = range.start.len().max(range.end.as_ref().map_or(0, bytes::Bytes::len));
    if longest > MAX_KEY_LEN + 1 {
        return Err(MetaError::Invalid(format!(
            "a range bound of {longest} bytes; a key has at most {MAX_KEY_LEN}"
        )));
    }
    Ok(())
}

/// Refuses keys that no implementation takes. Every implementation calls this first.
pub(super) fn check_keys(keys: &[bytes::Bytes]) -> Result<(), MetaError> {
    if keys.len() > MAX_GET_KEYS {
        return Err(MetaError::Invalid(format!(
            "{} keys in one read; the most is {MAX_GET_KEYS}",
            keys.len()
        )));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

/// Refuses a scan that no implementation takes.
pub(super) fn check_scan(range: &KeyRange, limit: usize) -> Result<(), MetaError> {
    if !(1..=MAX_PAGE_ENTRIES).contains(&limit) {
        return Err(MetaError::Invalid(format!(
            "a page of {limit} entries; a page has 1 to {MAX_PAGE_ENTRIES}"
        )));
    }
    check_range(range)
}

/// Refuses a transaction that no implementation takes.
pub(super) fn check_transaction(transaction: &Transaction) -> Result<(), MetaError> {
    let operations = transaction.operations();
    if operations > MAX_TRANSACTION_OPERATIONS {
        return Err(MetaError::Invalid(format!(
            "{operations} operations in one transaction; the most is {MAX_TRANSACTION_OPERATIONS}"
        )));
    }
    for check in &transaction.checks {
        match check {
            Check::Absent(key) | Check::Version(key, _) => check_key(key)?,
            Check::RangeEmpty(range) => check_range(range)?,
        }
    }
    let mut written = std::collections::HashSet::new();
    for write in &transaction.writes {
        check_key(write.key())?;
        if !written.insert(write.key()) {
            return Err(MetaError::Invalid("one key is written twice in a transaction".into()));
        }
        if let Write::Put(_, value) = write
            && value.len() > MAX_VALUE_LEN
        {
            return Err(MetaError::Invalid(format!(
                "a value of {} bytes; the most is {MAX_VALUE_LEN}",
                value.len()
            )));
        }
    }
    let bytes = transaction.bytes();
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(MetaError::Invalid(format!(
            "{bytes} bytes in one transaction; the most is {MAX_TRANSACTION_BYTES}"
        )));
    }
    Ok(())
}
