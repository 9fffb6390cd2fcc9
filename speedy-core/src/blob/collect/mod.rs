mod fence;
mod lease;
mod orphans;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::records::{FragmentRecord, LayoutRow, UploadRecord, decode, decode_of};
use super::{BlobError, BlobStore, Pace, keys, trust};
use crate::id::{BlobId, ChunkId, FileId, GroupId};
use crate::meta::{Check, Timestamp, Transaction, Write};

pub use lease::Leaseholder;

/// Chunks deleted at once.
const DELETES_IN_FLIGHT: usize = 8;
/// Entries looked at in one page.
const PAGE: usize = 256;

/// Frees what nothing needs: sessions that expired, chunks of dead blobs, and chunks that no layout names.
///
/// Any number of processes may run one over the same store: a lease in the metadata store lets one of them work. It
/// stops nothing and can be stopped at any point; what it had not finished is met again.
///
/// # Why it is safe
/// * A session is given up by a transaction that checks that it has not changed: an upload that went on keeps it.
/// * Chunks of a dead blob are freed only [`dead_grace`](super::BlobOptions::dead_grace) after its death, when reads
///   that found it alive have ended and late writes have arrived.
/// * Where the metadata store may have lost records, because it was restored or begun anew over chunks that were there,
///   chunks without an owner are kept: they can be [rebuilt](BlobStore::rebuild). A group counts as known once its first
///   chunk was written under this store, or a pass has met all owners of its chunks.
/// * A chunk is an orphan when its owner has no record, is live with another chunk at that place, or is dead and
///   emptied. It is freed only when it was one in two passes at least
///   [`orphan_grace`](super::BlobOptions::orphan_grace) apart: a write puts its chunk's name into a layout within
///   seconds. One that comes later than that fails, however late it is: before an orphan is freed, the entry changes that
///   the transaction relies on. Chunks of a blob that is still uploading are never touched.
#[derive(Debug)]
pub struct Collector {
    store: BlobStore,
    holder: BlobId,
    /// What others are told of where it is.
    place: String,
    pace: Pace,
    /// Whether chunks are only counted.
    rehearses: bool,
    /// When it last took or renewed its lease.
    renewed: Mutex<Option<Instant>>,
    suspects: HashMap<FileId, Timestamp>,
    /// What was said last of chunks without owners.
    unknown: u64,
}

/// What a pass of the collector did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Upload sessions given up.
    pub uploads: u64,
    /// Bytes that those had received. They are freed with the dead.
    pub upload_bytes: u64,
    /// Dead blobs emptied.
    pub blobs: u64,
    /// Bytes of those blobs, which are free now.
    pub blob_bytes: u64,
    /// Chunks deleted, those of dead blobs and orphans.
    pub chunks: u64,
    /// Those of them that were orphans.
    pub orphans: u64,
    /// Bytes of the orphans, which are free now.
    pub orphan_bytes: u64,
    /// Chunks seen without a place in a layout, to be looked at again.
    pub suspects: u64,
    /// Chunks whose owner has no record, in groups of which the store may have lost records. They are kept.
    pub unknown: u64,
}

impl Collector {
    /// A collector over a blob store.
    pub fn new(store: BlobStore) -> Self {
        Self {
            store: store.making_room(),
            holder: BlobId::random(),
            place: String::new(),
            pace: Pace::default(),
            rehearses: false,
            renewed: Mutex::new(None),
            suspects: HashMap::new(),
            unknown: 0,
        }
    }

    /// Tells other processes where it is while it holds the lease.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// Looks at things no faster than this from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Deletes no chunk and only counts them: over an [`Overlay`](crate::meta::Overlay), where records change for
    /// nobody else.
    #[must_use]
    pub fn rehearsing(mut self) -> Self {
        self.rehearses = true;
        self
    }

    /// Makes one pass. `None` where another process holds the lease.
    pub async fn pass(&mut self) -> Result<Option<Collected>, BlobError> {
        if !self.lease().await? {
            return Ok(None);
        }
        let mut collected = Collected::default();
        self.expire_uploads(&mut collected).await?;
        self.empty_dead(&mut collected).await?;
        self.free_orphans(&mut collected).await?;
        Ok(Some(collected))
    }

    /// Passes again and again, `interval` apart, until it is dropped.
    pub async fn run(mut self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            match self.pass().await {
                Ok(Some(done)) if done.uploads + done.blobs + done.chunks > 0 => tracing::info!(
                    uploads = done.uploads,
                    blobs = done.blobs,
                    chunks = done.chunks,
                    "freed what nothing needs"
                ),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a pass of the collector failed; the next one goes on"),
            }
        }
    }

    /// Says so when chunks that nobody owns are kept, once for each number of them.
    fn say_unknown(&mut self, unknown: u64) {
        if unknown > 0 && unknown != self.unknown {
            tracing::warn!(
                chunks = unknown,
                "chunks belong to blobs that the metadata does not know; they are kept, since metadata that was lost or \
                 restored may lack them. Run `speedy meta rebuild`, with --release if they are to be freed"
            );
        }
        self.unknown = unknown;
    }

    /// Gives up upload sessions that rested for longer than they may.
    ///
    /// # Errors
    /// What the metadata store reports, and what [`keep_lease`](Self::keep_lease) does.
    pub async fn expire_uploads(&self, collected: &mut Collected) -> Result<(), BlobError> {
        let meta = self.store.meta();
        let (now, restored) = (meta.now().await?, trust::restored(&self.store).await?);
        let mut rest = Some(keys::uploads());
        while let Some(range) = rest {
            self.keep_lease().await?;
            let page = meta.scan(range, PAGE).await?;
            self.pace.examined(page.entries.len()).await;
            for entry in page.entries {
                let Ok(record) = decode::<UploadRecord>(&entry) else { continue };
                // One that ended after the backup can be rebuilt, and looks as if it had rested since.
                if now.since(Timestamp(record.active).max(restored)) < self.store.options().upload_expiry {
                    continue;
                }
                let mut give_up = Transaction::new()
                    .check(Check::Version(entry.key.clone(), entry.version))
                    .write(Write::Delete(entry.key));
                if let Ok(blob) = BlobId::try_from(&record.blob[..])
                    && let Some(entry) = meta.get(keys::blob(blob)).await?
                {
                    let dead = self.store.death(blob, decode_of(blob, &entry)?).await?;
                    give_up = give_up.check(Check::Version(entry.key, entry.version)).and(dead);
                }
                if meta.transact(give_up).await?.is_committed() {
                    collected.uploads += 1;
                    collected.upload_bytes += record.offset;
                }
            }
            rest = page.next;
        }
        Ok(())
    }

    /// What the sessions are called that are there, repositories that somebody uploads to, each with when the oldest of its
    /// sessions began.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn labels(&self) -> Result<BTreeMap<String, Timestamp>, BlobError> {
        let (mut labels, mut rest) = (BTreeMap::new(), Some(keys::uploads()));
        while let Some(range) = rest {
            let page = self.store.meta().scan(range, PAGE).await?;
            self.pace.examined(page.entries.len()).await;
            for record in page.entries.iter().filter_map(|entry| decode::<UploadRecord>(entry).ok()) {
                let begun = Timestamp(record.begun);
                labels.entry(record.label).and_modify(|oldest| *oldest = begun.min(*oldest)).or_insert(begun);
            }
            rest = page.next;
        }
        Ok(labels)
    }

    /// Frees the chunks of blobs that have been dead for long enough.
    ///
    /// # Errors
    /// What the metadata store reports, and what [`keep_lease`](Self::keep_lease) does. A blob of which a chunk can't be
    /// deleted, for a replica may be away, is left to the next pass.
    pub async fn empty_dead(&self, collected: &mut Collected) -> Result<(), BlobError> {
        let meta = self.store.meta();
        let grace = self.store.options().dead_grace.as_millis() as u64;
        // A blob that died just `grace` ago is in.
        let until = (meta.now().await?.0 + 1).saturating_sub(grace);
        let mut rest = Some(keys::dead_before(Timestamp(until)));
        while let Some(range) = rest {
            self.keep_lease().await?;
            let page = meta.scan(range, PAGE).await?;
            for entry in page.entries {
                self.keep_lease().await?;
                let Some(blob) = keys::blob_of_dead(&entry.key) else { continue };
                match self.empty(blob, entry.key, collected).await {
                    Ok(()) => collected.blobs += 1,
                    // A replica may be away: the blob keeps its place among the dead.
                    Err(error) => tracing::debug!(%blob, %error, "a dead blob waits for the next pass"),
                }
            }
            rest = page.next;
        }
        Ok(())
    }

    /// Deletes the chunks of a dead blob, then its layout, then what says that it ever was.
    async fn empty(&self, blob: BlobId, dead: Bytes, collected: &mut Collected) -> Result<(), BlobError> {
        let meta = self.store.meta();
        loop {
            let page = meta.scan(keys::layout_from(blob, 0), 64).await?;
            let rows: Vec<LayoutRow> =
                page.entries.iter().map(|entry| decode_of(blob, entry)).collect::<Result<_, _>>()?;
            let fragments = || rows.iter().flat_map(|row| &row.fragments);
            collected.chunks += self.delete_all(fragments().map(file_of).collect()).await?;
            collected.blob_bytes += fragments().map(|fragment| fragment.length).sum::<u64>();
            self.pace.examined(fragments().count() + 1).await;
            let done = page.next.is_none();
            let mut forget = Transaction::new();
            for entry in page.entries {
                forget = forget.write(Write::Delete(entry.key));
            }
            if done {
                forget = forget.write(Write::Delete(keys::blob(blob))).write(Write::Delete(dead.clone()));
            }
            // Nobody else changes the rows of a dead blob.
            let _ = meta.transact(forget).await?;
            if done {
                return Ok(());
            }
        }
    }

    async fn delete_all(&self, files: Vec<FileId>) -> Result<u64, BlobError> {
        if self.rehearses {
            return Ok(files.len() as u64);
        }
        let fragments = self.store.fragments();
        let mut deletes = stream::iter(files)
            .map(|file| async move { fragments.delete(file).await })
            .buffer_unordered(DELETES_IN_FLIGHT);
        let mut deleted = 0;
        while let Some(result) = deletes.next().await {
            result.map_err(|error| BlobError::Unavailable(format!("a chunk cannot be deleted: {error}")))?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

fn file_of(fragment: &FragmentRecord) -> FileId {
    FileId::new(GroupId::new(fragment.group), ChunkId::new(fragment.chunk))
}
