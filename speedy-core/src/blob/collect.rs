use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::records::{
    BlobRecord, CollectorLease, FragmentRecord, LayoutRow, State, UploadRecord, decode, decode_of, encode,
};
use super::{BlobError, BlobStore, keys, trust};
use crate::id::{BlobId, ChunkId, FileId, GroupId};
use crate::meta::{Check, Entry, KeyRange, Timestamp, Transaction, Write};

/// Chunks deleted at once.
const DELETES_IN_FLIGHT: usize = 8;
/// Entries looked at in one page.
const PAGE: usize = 256;
/// How long a collector may go on without renewing its lease.
const LEASE: Duration = Duration::from_secs(60);
/// Most chunks that are remembered as seen without a place in a layout. The others are met again in the next pass.
const MOST_SUSPECTS: usize = 1_000_000;

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
///   seconds. Chunks of a blob that is still uploading are never touched.
#[derive(Debug)]
pub struct Collector {
    store: BlobStore,
    holder: BlobId,
    suspects: HashMap<FileId, Timestamp>,
    /// What was said last of chunks without owners.
    unknown: u64,
}

/// The collector's lease, kept by a task until this is dropped; it then runs out by itself.
#[derive(Debug)]
pub(super) struct Held {
    collector: Arc<Collector>,
    renewal: AbortHandle,
}

impl Held {
    /// Gives it back now.
    pub(super) async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.collector.give_back().await {
            tracing::debug!(%error, "the collector's lease runs out by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// What a pass of the collector did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Upload sessions given up.
    pub uploads: u64,
    /// Dead blobs emptied.
    pub blobs: u64,
    /// Chunks deleted, those of dead blobs and orphans.
    pub chunks: u64,
    /// Chunks seen without a place in a layout, to be looked at again.
    pub suspects: u64,
    /// Chunks whose owner has no record, in groups of which the store may have lost records. They are kept.
    pub unknown: u64,
}

impl Collector {
    /// A collector over a blob store.
    pub fn new(store: BlobStore) -> Self {
        Self { store, holder: BlobId::random(), suspects: HashMap::new(), unknown: 0 }
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
            let passed = self.pass().await;
            if let Ok(Some(done)) = &passed {
                self.say_unknown(done.unknown);
            }
            match passed {
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

    /// Takes the lease and keeps it until it is [released](Held::release): no collector works meanwhile.
    pub(super) async fn hold(self) -> Result<Held, BlobError> {
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

    /// Gives the lease back, if this collector has it.
    async fn give_back(&self) -> Result<(), BlobError> {
        let meta = self.store.meta();
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

    /// Takes or renews the lease.
    async fn lease(&self) -> Result<bool, BlobError> {
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
        };
        let take = Transaction::new()
            .unchanged(keys::COLLECTOR, entry.as_ref())
            .write(Write::Put(keys::COLLECTOR, encode(&lease)))
            .relaxed();
        Ok(meta.transact(take).await?.is_committed())
    }

    async fn expire_uploads(&self, collected: &mut Collected) -> Result<(), BlobError> {
        let meta = self.store.meta();
        let (now, restored) = (meta.now().await?, trust::restored(&self.store).await?);
        let mut rest = Some(keys::uploads());
        while let Some(range) = rest {
            let page = meta.scan(range, PAGE).await?;
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
                collected.uploads += u64::from(meta.transact(give_up).await?.is_committed());
            }
            rest = page.next;
        }
        Ok(())
    }

    async fn empty_dead(&self, collected: &mut Collected) -> Result<(), BlobError> {
        let meta = self.store.meta();
        let grace = self.store.options().dead_grace.as_millis() as u64;
        // A blob that died just `grace` ago is in.
        let until = (meta.now().await?.0 + 1).saturating_sub(grace);
        let mut rest = Some(keys::dead_before(Timestamp(until)));
        while let Some(range) = rest {
            let page = meta.scan(range, PAGE).await?;
            for entry in page.entries {
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
            let files = rows.iter().flat_map(|row| &row.fragments).map(file_of);
            collected.chunks += self.delete_all(files.collect()).await?;
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

    async fn free_orphans(&mut self, collected: &mut Collected) -> Result<(), BlobError> {
        let mut seen = HashMap::new();
        let mut groups = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self
                .store
                .fragments()
                .list(cursor, PAGE)
                .await
                .map_err(|error| BlobError::Unavailable(format!("chunks cannot be listed: {error}")))?;
            // Time is taken before the owners are looked at: a suspect is never older than it seems.
            let now = self.store.meta().now().await?;
            let mut orphans = Vec::new();
            for placeless in self.placeless(&page.chunks, &mut groups).await? {
                let since = self.suspects.get(&placeless).copied().unwrap_or(now);
                if self.suspects.contains_key(&placeless)
                    && now.since(since) >= self.store.options().orphan_grace
                {
                    orphans.push(placeless);
                } else if seen.len() < MOST_SUSPECTS {
                    seen.insert(placeless, since);
                }
            }
            collected.chunks += self.delete_all(orphans).await?;
            cursor = page.next;
            if cursor.is_none() {
                self.trust(&groups).await?;
                break;
            }
            if !self.lease().await? {
                break;
            }
        }
        collected.suspects = seen.len() as u64;
        collected.unknown = groups.values().map(|group| group.unknown).sum();
        self.suspects = seen;
        Ok(())
    }

    /// From now on the groups count as known of whose chunks every owner was met in a whole pass.
    async fn trust(&self, groups: &BTreeMap<GroupId, Seen>) -> Result<(), BlobError> {
        for (group, seen) in groups {
            if !seen.is_known && seen.unknown == 0 {
                trust::put(&self.store, *group).await?;
            }
        }
        Ok(())
    }

    /// Those of these chunks that have no place in the layout of their owner, and whose owner can't give them one.
    async fn placeless(
        &self,
        chunks: &[(GroupId, crate::replicate::ChunkStat)],
        groups: &mut BTreeMap<GroupId, Seen>,
    ) -> Result<Vec<FileId>, BlobError> {
        let meta = self.store.meta();
        let keys: Vec<Bytes> = chunks.iter().map(|(_, chunk)| keys::blob(chunk.owner.blob)).collect();
        let mut placeless = Vec::new();
        for ((group, chunk), entry) in chunks.iter().zip(meta.get_many(&keys).await?) {
            let seen = match groups.entry(*group) {
                Occupied(seen) => seen.into_mut(),
                Vacant(new) => {
                    let is_known = trust::is_known(&self.store, *group).await?;
                    new.insert(Seen { is_known, unknown: 0 })
                }
            };
            let file = FileId::new(*group, chunk.id);
            match entry {
                None if !seen.is_known => seen.unknown += 1,
                None => placeless.push(file),
                Some(entry) => {
                    if !self.may_be_named(chunk.owner.blob, &entry, chunk.owner.offset, file).await? {
                        placeless.push(file);
                    }
                }
            }
        }
        Ok(placeless)
    }

    async fn may_be_named(
        &self,
        blob: BlobId,
        entry: &Entry,
        offset: u64,
        file: FileId,
    ) -> Result<bool, BlobError> {
        // A record that can't be read keeps its chunks.
        let Ok(record) = decode::<BlobRecord>(entry) else { return Ok(true) };
        if !matches!(record.state(), State::Live | State::Dead) {
            return Ok(true);
        }
        let range: KeyRange = keys::layout_from(blob, offset);
        let page = self.store.meta().scan(range, 1).await?;
        let Some(entry) = page.entries.first() else { return Ok(false) };
        let Ok(row) = decode::<LayoutRow>(entry) else { return Ok(true) };
        Ok(row.fragments().any(|fragment| fragment.offset == offset && fragment.file == file))
    }

    async fn delete_all(&self, files: Vec<FileId>) -> Result<u64, BlobError> {
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

/// A group in a pass.
#[derive(Debug)]
struct Seen {
    /// Whether the store knows it from its first chunk on.
    is_known: bool,
    /// Chunks whose owner has no record, where it does not.
    unknown: u64,
}

fn file_of(fragment: &FragmentRecord) -> FileId {
    FileId::new(GroupId::new(fragment.group), ChunkId::new(fragment.chunk))
}
