use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// The version of an entry: the store-wide number of the commit that wrote it. Versions rise with every commit, so a
/// key that was deleted and written again has a higher one than before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Version(pub u64);

/// Milliseconds since the Unix epoch by the store's clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This instant plus `duration`.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this instant; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A key, its value and the commit that wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The commit that wrote it.
    pub version: Version,
}

/// Part of a scan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Entries in bytewise order of their keys.
    pub entries: Vec<Entry>,
    /// Where the scan goes on; `None` at its end.
    pub next: Option<KeyRange>,
}

/// The keys from `start` up to but not including `end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// First key that is in.
    pub start: Bytes,
    /// First key that is out; `None` for no bound.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// The keys from `start` to before `end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = successor_of_prefix(&start);
        Self { start, end }
    }

    /// What is left of this range after `key`.
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = Vec::with_capacity(key.len() + 1);
        start.extend_from_slice(key);
        start.push(0);
        Self { start: start.into(), end: self.end.clone() }
    }

    /// Whether `key` is in.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether no key can be in.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The first key after all that begin with `prefix`; `None` where there is none.
fn successor_of_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// What must hold for a transaction to be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// The key has no entry.
    Absent(Bytes),
    /// The key's entry has this version.
    Version(Bytes, Version),
    /// No key in the range has an entry.
    RangeEmpty(KeyRange),
}

/// A change that a transaction makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Sets the key's value.
    Put(Bytes, Bytes),
    /// Removes the key's entry, if it has one.
    Delete(Bytes),
}

impl Write {
    /// The key written.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// The id of a transaction, chosen by its client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 16]);

impl TransactionId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(*crate::id::BlobId::random().as_bytes())
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({})", hex::encode(self.0))
    }
}

/// When a transaction's writes are on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Before `transact` returns.
    #[default]
    Durable,
    /// With a later durable commit, or within a second: a crash may lose it, whole. For what can be rebuilt or
    /// repeated, such as a lease that is renewed.
    Relaxed,
}

/// What a transaction is for, and so how much of a store's reserve of room it may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Purpose {
    /// It stores something. One that only deletes may take more than others by itself.
    #[default]
    Store,
    /// What it writes is on the way to a deletion, such as the record of what a collector has done.
    MakeRoom,
}

/// Checks and writes that apply together or not at all.
///
/// ```
/// use speedy_core::meta::{Check, Transaction, Write};
/// let create = Transaction::new()
///     .check(Check::Absent("tag/latest".into()))
///     .write(Write::Put("tag/latest".into(), "sha256:…".into()));
/// assert_eq!(create.operations(), 2);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Resolves lost answers.
    pub id: TransactionId,
    /// All must hold.
    pub checks: Vec<Check>,
    /// All are applied. No key is written twice.
    pub writes: Vec<Write>,
    /// When the writes are on stable storage.
    pub durability: Durability,
    /// What it is for.
    pub purpose: Purpose,
}

impl Transaction {
    /// An empty durable transaction with a fresh id.
    pub fn new() -> Self {
        Self {
            id: TransactionId::random(),
            checks: Vec::new(),
            writes: Vec::new(),
            durability: Durability::Durable,
            purpose: Purpose::Store,
        }
    }

    /// Adds a check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Adds the check that an entry read before is unchanged, or that a key found absent still is.
    #[must_use]
    pub fn unchanged(self, key: Bytes, entry: Option<&Entry>) -> Self {
        self.check(match entry {
            Some(entry) => Check::Version(key, entry.version),
            None => Check::Absent(key),
        })
    }

    /// Adds a write.
    #[must_use]
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Lets a crash lose it.
    #[must_use]
    pub fn relaxed(mut self) -> Self {
        self.durability = Durability::Relaxed;
        self
    }

    /// Says that it makes room, so that it is taken where there is little.
    #[must_use]
    pub fn makes_room(mut self) -> Self {
        self.purpose = Purpose::MakeRoom;
        self
    }

    /// Adds all checks and writes of another transaction to this one.
    #[must_use]
    pub fn and(mut self, other: Transaction) -> Self {
        self.checks.extend(other.checks);
        self.writes.extend(other.writes);
        self
    }

    /// Number of checks and writes.
    pub fn operations(&self) -> usize {
        self.checks.len() + self.writes.len()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        let checks = self.checks.iter().map(|check| match check {
            Check::Absent(key) | Check::Version(key, _) => key.len(),
            Check::RangeEmpty(range) => range.start.len() + range.end.as_ref().map_or(0, Bytes::len),
        });
        let writes = self.writes.iter().map(|write| match write {
            Write::Put(key, value) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        });
        checks.chain(writes).sum()
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a transaction that met a conflict was not applied"]
pub enum Outcome {
    /// Applied, as the commit of this version.
    Committed(Version),
    /// Not applied: the check at this position does not hold (the first such one).
    Conflict(usize),
}

impl Outcome {
    /// Whether it was applied.
    pub fn is_committed(self) -> bool {
        matches!(self, Self::Committed(_))
    }
}

/// Why the metadata store did not do what it was asked, by what the caller can do next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The request breaks a limit. Asking again is no use.
    #[error("invalid metadata request: {0}")]
    Invalid(String),
    /// The store can't be reached, or gave no answer in time. Try again, a transaction under the same id.
    #[error("the metadata store is unavailable: {0}")]
    Unavailable(String),
    /// The store has no room for writes; reads go on.
    #[error("the metadata store is full: {0}")]
    Full(String),
    /// The store failed and takes no more writes until it is reopened.
    #[error("the metadata store failed: {0}")]
    Failed(String),
    /// Whoever stands before the store takes no changes at the moment, and says why. Nothing was changed; reads go on.
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it() {
        let range = KeyRange::prefix(&b"a\xff"[..]);
        assert_eq!(range.end.as_deref(), Some(&b"b"[..]));
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\xff\xff"));
        assert!(!range.contains(b"a\xfe") && !range.contains(b"b"));
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end, None);
        assert_eq!(KeyRange::prefix(Bytes::new()).end, None);
    }

    #[test]
    fn a_scan_goes_on_after_a_key() {
        let rest = KeyRange::prefix("a").after(b"ab");
        assert!(!rest.contains(b"ab") && rest.contains(b"ab\0") && rest.contains(b"ac"));
        assert!(!rest.is_empty());
        assert!(KeyRange::new("b", "a").is_empty());
    }
}
