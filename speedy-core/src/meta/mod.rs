//! The metadata store: an ordered key-value store with transactions.
//!
//! Layouts, repositories, tags, upload sessions, accounts and the master's state all live behind [`MetaStore`].
//! The trait asks for little, so that SQL databases, etcd and distributed stores can stand behind it.
//!
//! # Consistency
//! Every operation is linearizable. A transaction applies whole or not at all, and is durable when
//! [`transact`](MetaStore::transact) returns unless it said [`Durability::Relaxed`].
//!
//! # Retries
//! A transaction carries an id that its client chose. Sent again under that id within [`TRANSACTION_MEMORY`] of its
//! commit it is not applied twice: the version of the first commit is the answer. That resolves lost answers.
//! A transaction that met a [conflict](Outcome::Conflict) left no trace and its id may be used again.

mod backup;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod limits;
mod memory;
mod overlay;
mod room;
mod types;

pub use backup::{BackupError, BackupInfo, check_backup};
pub use embedded::{EmbeddedMeta, EmbeddedOptions, OpenError, RestoreError};
pub use limits::{
    MAX_GET_KEYS, MAX_KEY_LEN, MAX_PAGE_ENTRIES, MAX_TRANSACTION_BYTES, MAX_TRANSACTION_OPERATIONS,
    MAX_VALUE_LEN, TRANSACTION_MEMORY,
};
pub use memory::MemoryMeta;
pub use overlay::Overlay;
pub use room::MakesRoom;
pub use types::{
    Check, Durability, Entry, KeyRange, MetaError, Outcome, Page, Purpose, Timestamp, Transaction,
    TransactionId, Version, Write,
};

use async_trait::async_trait;
use bytes::Bytes;

/// An ordered key-value store with transactions. See the [module](self) for what it promises.
#[async_trait]
pub trait MetaStore: std::fmt::Debug + Send + Sync + 'static {
    /// The entries of `keys`, in the order asked, all from one snapshot; `None` where a key is absent.
    ///
    /// # Errors
    /// [`MetaError::Invalid`] for a bad key or more than [`MAX_GET_KEYS`]; otherwise what a read may meet.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError>;

    /// Up to `limit` entries of `range` in bytewise order of their keys, from one snapshot. A longer scan goes on at
    /// [`Page::next`], at a newer snapshot: an entry that is there for the whole of the scan is met exactly once.
    ///
    /// `limit` is at most [`MAX_PAGE_ENTRIES`]; a page may also end early, after about [`MAX_TRANSACTION_BYTES`].
    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError>;

    /// Applies all writes if all checks hold.
    ///
    /// # Errors
    /// [`MetaError::Invalid`] when it breaks a limit or writes one key twice, and then nothing was applied. After
    /// [`MetaError::Unavailable`] the outcome is unknown: send it again under its id.
    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError>;

    /// The store's clock. It never goes back, across restarts too, and is the only clock that leases and expiry
    /// are measured against.
    async fn now(&self) -> Result<Timestamp, MetaError>;

    /// The entry of one key.
    async fn get(&self, key: Bytes) -> Result<Option<Entry>, MetaError> {
        Ok(self.get_many(&[key]).await?.pop().flatten())
    }
}
