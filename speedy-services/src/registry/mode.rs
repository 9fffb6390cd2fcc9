//! Read-only mode: one key of the metadata store that every registry over it looks at.
//!
//! # Why nothing changes once it is switched on
//! Requests that come later are refused at the door, by what was seen last. That is for their clients' sake: a registry may
//! have looked a second ago, and a request may have come in before. What counts is that every transaction by which a push or
//! delete changes metadata checks that the key is not there ([`Guarded`]). The metadata store applies transactions one
//! after the other, so each of them is before the switch, and in every backup that is taken after it, or it is not made.
//! No registry has to be waited for, also not one that stands still.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use speedy_core::meta::{
    Check, Entry, KeyRange, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction, Write,
};

/// There while registries take no pushes and no deletes. Its value says why and since when.
const KEY: Bytes = Bytes::from_static(b"R/o/read-only");
/// How often it is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// The longest reason, in bytes.
pub const MAX_REASON: usize = 500;

/// The value of the key.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(string, tag = "1")]
    reason: String,
    /// In milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "2")]
    since: u64,
}

/// Why pushes and deletes are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadOnly {
    /// What whoever switched it on had to say, for clients to see; may be empty.
    pub reason: String,
    /// Since when, by the metadata store's clock.
    pub since: Timestamp,
}

/// Whether the registries of a metadata store take pushes, as this one knows.
#[derive(Debug)]
pub(crate) struct Mode {
    meta: Arc<dyn MetaStore>,
    known: RwLock<Option<Arc<ReadOnly>>>,
}

impl Mode {
    /// Takes pushes until it has looked.
    pub(crate) fn new(meta: Arc<dyn MetaStore>) -> Self {
        Self { meta, known: RwLock::new(None) }
    }

    /// What was seen last: `None` where pushes are taken.
    pub(crate) fn known(&self) -> Option<Arc<ReadOnly>> {
        self.known.read().clone()
    }

    /// Looks now.
    pub(crate) async fn look(&self) -> Result<Option<Arc<ReadOnly>>, MetaError> {
        let seen = self.meta.get(KEY).await?.map(|entry| Arc::new(read(&entry)));
        self.learn(seen.clone());
        Ok(seen)
    }

    /// Switches it, for all registries, durably. This one knows at once, the others when they look.
    pub(crate) async fn set(&self, reason: Option<String>) -> Result<Option<Arc<ReadOnly>>, MetaError> {
        let (write, set) = match reason {
            Some(reason) => {
                let since = self.meta.now().await?;
                let record = Record { reason: reason.clone(), since: since.0 };
                let set = Some(Arc::new(ReadOnly { reason, since }));
                (Write::Put(KEY, record.encode_to_vec().into()), set)
            }
            None => (Write::Delete(KEY), None),
        };
        // It has no checks that could fail.
        let _ = self.meta.transact(Transaction::new().write(write).makes_room()).await?;
        self.learn(set.clone());
        Ok(set)
    }

    /// Looks again and again. Where that fails, what was seen last goes on to hold: nothing can be pushed then anyway.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match tokio::time::timeout(LOOK_LIMIT, self.look()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot look whether pushes are taken"),
                Err(_) => tracing::debug!("the metadata store does not say in time whether pushes are taken"),
            }
        }
    }

    fn learn(&self, seen: Option<Arc<ReadOnly>>) {
        if *self.known.read() == seen {
            return;
        }
        match &seen {
            Some(now) => tracing::info!(
                reason = now.reason,
                "read-only: pushes and deletes are refused, pulls go on; `speedy read-only off` ends it"
            ),
            None => tracing::info!("pushes and deletes are taken again"),
        }
        *self.known.write() = seen;
    }
}

impl std::fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the registry is read-only at the moment")?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// The metadata store as requests that push and delete see it: it takes their changes only while the key is not there.
///
/// A transaction through it may have one operation less than the store takes:
/// [`MOST_OPERATIONS`](super::repositories::MOST_OPERATIONS).
#[derive(Debug)]
pub(crate) struct Guarded(Arc<Mode>);

impl Guarded {
    /// The store that `mode` looks at.
    pub(crate) fn new(mode: Arc<Mode>) -> Self {
        Self(mode)
    }
}

#[async_trait]
impl MetaStore for Guarded {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.0.meta.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.0.meta.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        // After the others: their positions mean something to whoever meets a conflict.
        let own = transaction.checks.len();
        match self.0.meta.transact(transaction.check(Check::Absent(KEY))).await? {
            Outcome::Conflict(at) if at == own => Err(match self.0.look().await? {
                Some(mode) => MetaError::Refused(mode.to_string()),
                None => MetaError::Unavailable("the registry was read-only until a moment ago".into()),
            }),
            outcome => Ok(outcome),
        }
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.0.meta.now().await
    }
}

/// A value of a later version is still a reason to be read-only.
fn read(entry: &Entry) -> ReadOnly {
    let record = Record::decode(entry.value.clone()).unwrap_or_default();
    ReadOnly { reason: record.reason, since: Timestamp(record.since) }
}

#[cfg(test)]
mod tests;
