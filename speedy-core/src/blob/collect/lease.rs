//! The lease that lets one collector work at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Collector;
use crate::blob::records::{CollectorLease, decode, encode};
use crate::blob::{BlobError, keys};
use crate::meta::{Check, Timestamp, Transaction, Write};

/// How long a collector may go on without renewing its lease.
const LEASE: Duration = Duration::from_secs(60);

/// Who has the lease.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Leaseholder {
    /// Where it is, as it calls itself.
    pub place: String,
    /// How long it has the lease unless it renews it. One that was killed has it for as long.
    pub left: Duration,
}

/// The collector's lease, kept by a task until this is dropped; it then runs out by itself.
#[derive(Debug)]
pub(crate) struct Held {
    collector: Arc<Collector>,
    renewal: AbortHandle,
}

impl Held {
    /// Gives it back now.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        self.collector.release().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Collector {
    /// Takes the lease, or renews it. `false` where another process holds it.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn lease(&self) -> Result<bool, BlobError> {
        let meta = self.store.meta();
        let (now, entry) = (meta.now().await?, meta.get(keys::COLLECTOR).await?);
        if let Some(entry) = &entry {
            // A lease that can't be read is of a later version: it is left to expire by being taken over.
            let lease: CollectorLease = decode(entry).unwrap_or_default();
            if lease.holder != self.holder.as_bytes()[..] && Timestamp(lease.until) > now {
                return Ok(false);
            }
        }
        let lease = CollectorLease {
            holder: Bytes::copy_from_slice(self.holder.as_bytes()),
            until: now.after(LEASE).0,
            place: self.place.clone(),
        };
        let take = Transaction::new()
            .unchanged(keys::COLLECTOR, entry.as_ref())
            .write(Write::Put(keys::COLLECTOR, encode(&lease)))
            .relaxed();
        let taken = meta.transact(take).await?.is_committed();
        *self.renewed.lock() = taken.then(Instant::now);
        Ok(taken)
    }

    /// Takes the lease from whoever has it: over metadata that no other process sees, where he ended without giving it
    /// back.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn depose(&self) -> Result<(), BlobError> {
        let forget = Transaction::new().write(Write::Delete(keys::COLLECTOR));
        let _ = self.store.meta().transact(forget.relaxed()).await?;
        Ok(())
    }

    /// Renews the lease where it is time to.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] where another process has taken it over: it goes on from where this one stands.
    pub async fn keep_lease(&self) -> Result<(), BlobError> {
        let renewed = *self.renewed.lock();
        if renewed.is_some_and(|renewed| renewed.elapsed() < LEASE / 4) || self.lease().await? {
            return Ok(());
        }
        Err(BlobError::Unavailable("another process collects now".into()))
    }

    /// Gives the lease back, if this collector has it, so that another need not wait until it runs out.
    pub async fn release(&self) {
        if let Err(error) = self.give_back().await {
            tracing::debug!(%error, "the collector's lease runs out by itself");
        }
    }

    /// The collector that holds the lease; `None` where nobody does.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn leaseholder(&self) -> Result<Option<Leaseholder>, BlobError> {
        let meta = self.store.meta();
        let (now, entry) = (meta.now().await?, meta.get(keys::COLLECTOR).await?);
        let lease = entry.map(|entry| decode::<CollectorLease>(&entry).unwrap_or_default());
        let lease = lease.filter(|lease| Timestamp(lease.until) > now);
        Ok(lease.map(|lease| Leaseholder { place: lease.place, left: Timestamp(lease.until).since(now) }))
    }

    /// Takes the lease and keeps it until it is [released](Held::release): no collector works meanwhile.
    pub(crate) async fn hold(self) -> Result<Held, BlobError> {
        let since = Instant::now();
        while !self.lease().await? {
            if since.elapsed() > 2 * LEASE {
                let text =
                    "a collector is at work and does not end; stop the image nodes, or try again later";
                return Err(BlobError::Unavailable(text.into()));
            }
            tokio::time::sleep(LEASE / 60).await;
        }
        let collector = Arc::new(self);
        let renewed = Arc::clone(&collector);
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 4).await;
                if let Err(error) = renewed.lease().await {
                    tracing::warn!(%error, "the collector's lease could not be renewed; trying again");
                }
            }
        });
        Ok(Held { collector, renewal: renewal.abort_handle() })
    }

    async fn give_back(&self) -> Result<(), BlobError> {
        let meta = self.store.meta();
        *self.renewed.lock() = None;
        let Some(entry) = meta.get(keys::COLLECTOR).await? else { return Ok(()) };
        let lease: CollectorLease = decode(&entry).unwrap_or_default();
        if lease.holder == self.holder.as_bytes()[..] {
            let give_back = Transaction::new()
                .check(Check::Version(keys::COLLECTOR, entry.version))
                .write(Write::Delete(keys::COLLECTOR));
            // Whoever took it over meanwhile may keep it.
            let _ = meta.transact(give_back.relaxed()).await?;
        }
        Ok(())
    }
}
