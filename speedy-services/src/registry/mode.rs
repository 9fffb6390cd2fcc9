//! Read-only mode: one key of the metadata store that every registry over it looks at.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use speedy_core::meta::{Entry, MetaError, MetaStore, Timestamp, Transaction, Write};

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
        let _ = self.meta.transact(Transaction::new().write(write)).await?;
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

/// A value of a later version is still a reason to be read-only.
fn read(entry: &Entry) -> ReadOnly {
    let record = Record::decode(entry.value.clone()).unwrap_or_default();
    ReadOnly { reason: record.reason, since: Timestamp(record.since) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use speedy_core::meta::MemoryMeta;

    #[tokio::test(start_paused = true)]
    async fn one_switches_and_all_follow() {
        let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::new());
        let (here, there) = (Mode::new(Arc::clone(&meta)), Arc::new(Mode::new(Arc::clone(&meta))));
        let follower = Arc::clone(&there);
        let following = tokio::spawn(async move { follower.follow().await });
        here.set(Some("the disks are exchanged".into())).await.unwrap();
        assert_eq!(here.known().unwrap().reason, "the disks are exchanged");
        assert_eq!(there.known(), None);
        tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
        assert_eq!(there.known(), here.known());
        assert_eq!(Mode::new(Arc::clone(&meta)).look().await.unwrap(), here.known(), "one that starts later");
        here.set(None).await.unwrap();
        tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
        assert_eq!((here.known(), there.known()), (None, None));
        following.abort();
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_read_counts() {
        let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::new());
        let garbage = Write::Put(KEY, Bytes::from_static(&[0xff; 3]));
        assert!(meta.transact(Transaction::new().write(garbage)).await.unwrap().is_committed());
        assert!(Mode::new(meta).look().await.unwrap().is_some());
    }
}
