//! The chunk store: immutable chunks of 1 byte to 64 MiB in append-only volumes, durable when a write returns.
//!
//! ```
//! use speedy_core::id::{BlobId, ChunkId, GroupVersion, Owner};
//! use speedy_core::store::{ChunkStore, NewChunk, StoreOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let store = ChunkStore::open(dir, StoreOptions::default())?;
//! let owner = Owner { blob: BlobId::random(), offset: 0 };
//! let mut writer = store.begin(NewChunk::new(ChunkId::new(1), owner, 11, GroupVersion::INITIAL))?;
//! writer.write(b"hello ")?;
//! writer.write(b"world")?;
//! writer.commit()?;
//!
//! let mut reader = store.read(ChunkId::new(1), 0..5)?;
//! while let Some(run) = reader.next_run()? {
//!     // Whole blocks come, here the only one; the caller cuts off what it did not ask for.
//!     assert_eq!(&run.data[..5], b"hello");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Several disks
//! [`ChunkStore::open_all`] keeps one store in several directories, each on a disk of its own: `docs/format.md` and
//! `docs/operations.md` say how disks are added, lost and replaced. A record goes to the directory with the least to
//! do for its room. One whose disk fails takes no more writes, and what can be read of it is read.
//!
//! # Threads
//! Every call blocks on the disk, takes `&self`, and may be made from any thread at once. From asynchronous code call
//! it on a pool for blocking work, as [`StoreNode`](crate::replicate::StoreNode) does.
//!
//! # Durability
//! [`ChunkWriter::commit`] and [`ChunkStore::delete`] return when their record is on stable storage, unless a weaker
//! [`Durability`] was chosen; those that run at once share one fdatasync. A failed fdatasync is final for its volume: it takes no more records, the writes
//! that had not been acknowledged fail, and others go on in another volume.
//!
//! # Crash recovery
//! [`ChunkStore::open`] walks the volumes. A write that had not returned is either whole or not there. Nothing is cut
//! off or deleted: what can't be parsed stays where it is, and costs no other record. `docs/format.md` has the bytes
//! and the argument.
//!
//! # Room
//! [`ChunkStore::compact`] copies what counts out of volumes in which little does, and removes them.
//!
//! # Damage
//! Every read verifies what it returns, and [`ChunkStore::scrub`] all that there is; [`ChunkStore::heal`] replaces what
//! is damaged. [`Maintenance`] compacts and scrubs in the background.

mod aligned;
mod checkpoint;
mod claims;
mod commit;
mod compaction;
mod control;
mod copying;
mod damage;
mod directory;
mod disk;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod gone;
mod heal;
mod index;
mod inspect;
mod interval;
mod maintenance;
mod membership;
mod opening;
mod options;
mod reader;
mod recovery;
mod scan;
mod scrub;
mod sets;
mod sums;
mod superblock;
#[cfg(test)]
mod tests;
mod throttle;
mod unsettled;
mod volume;
mod volumes;
mod writer;

use std::ops::Range;
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use compaction::{CompactionError, CompactionOptions, CompactionReport, QuarantineFile};
pub use control::{Control, Progress};
pub use directory::{DirectoryInfo, DirectoryState};
pub use error::{OpenError, ReadError, WriteError};
pub use format::MAX_CHUNK_LEN;
pub use gone::LostVolume;
pub use inspect::{CheckOptions, CheckReport, RecordInfo, RecordOf, RecordState, VolumeInfo};
pub use maintenance::{Maintenance, MaintenanceOptions, MaintenanceStatus};
pub use options::{Durability, StoreOptions};
pub use reader::{ChunkReader, Run};
pub use recovery::{RecoveryReport, SkipReason, SkippedVolume};
pub use scrub::{ScrubError, ScrubOptions, ScrubPass, ScrubReport};
pub use writer::ChunkWriter;

use claims::Claims;
use damage::Damages;
use disk::RealSite;
use format::{RecordHeader, RecordKind, ScrubState};
use heal::Healing;
use index::{Entry, Index, VolumeUsage};
use interval::IntervalSync;
use unsettled::Unsettled;
use volume::{Slot, Volume, Wait};
use volumes::{Need, Volumes};

use crate::id::{ChunkId, GroupVersion, NodeId, Owner, StoreId};
use crate::sync::{Arc, AtomicBool, Mutex};

/// Directories of chunks, locked against other processes. The module's page says how it behaves.
///
/// Dropping it closes it: the ends of its volumes are marked, so that the next start need not verify them. A writer
/// that is still in use keeps it open.
#[derive(Debug)]
pub struct ChunkStore {
    shared: Arc<Shared>,
}

/// What a store and its writers share.
#[derive(Debug)]
struct Shared {
    id: StoreId,
    node: NodeId,
    is_read_only: bool,
    volumes: Arc<Volumes>,
    /// Syncs in the background where commits do not wait for it.
    interval: Option<IntervalSync>,
    index: Index,
    claims: Claims,
    unsettled: Unsettled,
    recovery: RecoveryReport,
    /// Directories of the store that are not there.
    absent: Vec<DirectoryInfo>,
    /// Why a chunk may exist that the index does not know: directories that are missing or were not read whole.
    unseen: Option<Arc<str>>,
    damages: Arc<Damages>,
    healing: Healing,
    /// Whether a compaction runs.
    compacting: AtomicBool,
    /// Whether a scrub runs.
    scrubbing: AtomicBool,
    /// How far the scrub is, once somebody asked.
    scrub: Mutex<Option<ScrubState>>,
}

/// What is announced of a chunk before its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NewChunk {
    /// Its id.
    pub id: ChunkId,
    /// Whom it is written for.
    pub owner: Owner,
    /// Its length: 1 byte to 64 MiB.
    pub length: u64,
    /// The version of the group under which it is written.
    pub version: GroupVersion,
}

impl NewChunk {
    /// A chunk to be written.
    pub fn new(id: ChunkId, owner: Owner, length: u64, version: GroupVersion) -> Self {
        Self { id, owner, length, version }
    }
}

/// What a store knows of a chunk without reading its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ChunkInfo {
    /// Its id.
    pub id: ChunkId,
    /// Whom it was written for.
    pub owner: Owner,
    /// Its length in bytes.
    pub length: u64,
    /// The version of the group under which it was written.
    pub version: GroupVersion,
    /// CRC-32C of all its bytes.
    pub checksum: u32,
    /// When its write began, by this machine's clock.
    pub created: SystemTime,
}

impl ChunkInfo {
    fn new(header: &RecordHeader, checksum: u32) -> Self {
        let RecordHeader { id, owner, length, version, created, .. } = *header;
        let created = UNIX_EPOCH + Duration::from_millis(created);
        Self { id, owner, length, version, checksum, created }
    }
}

/// Part of the list of a store's chunks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct InfoPage {
    /// Chunks in order of their ids.
    pub chunks: Vec<ChunkInfo>,
    /// Whether there are more, after the last of these.
    pub more: bool,
}

/// What a store takes, and what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Usage {
    /// Chunks that can be read.
    pub chunks: u64,
    /// Bytes of those chunks, without headers and checksums.
    pub bytes: u64,
    /// Ids that are spent.
    pub tombstones: u64,
    /// Volumes.
    pub volumes: usize,
    /// Bytes on the file system that this user may still take.
    pub free: u64,
    /// Bytes on the file system.
    pub total: u64,
}

impl ChunkStore {
    /// Opens the store in `dir`, and prepares one where the directory is empty or missing. Files that are not the
    /// store's are left alone.
    ///
    /// # Errors
    /// See [`OpenError`]. Damaged records and volumes are no errors: [`recovery`](Self::recovery) tells of them.
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self, OpenError> {
        Self::open_all([dir], options)
    }

    /// Opens one store over several directories, each on a disk of its own; in any order. Every chunk is in one of
    /// them, so that losing a disk costs its chunks and no others.
    ///
    /// Where all directories are empty a store is prepared in them. Where the store is complete, an empty directory
    /// joins it. Where one is missing, because its disk is not mounted, can't be read or was not named, the store
    /// opens without it, and empty directories are not touched, for one of them may be where it is missing:
    /// [`directories`](Self::directories) tells.
    ///
    /// # Errors
    /// See [`OpenError`]. A missing directory is no error as long as another one of the store is there.
    pub fn open_all<P: AsRef<Path>>(
        dirs: impl IntoIterator<Item = P>,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let site = |dir: P| Box::new(RealSite(dir.as_ref().to_path_buf())) as Box<_>;
        opening::open(dirs.into_iter().map(site).collect(), options)
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn open_on(site: Box<dyn disk::Site>, options: StoreOptions) -> Result<Self, OpenError> {
        opening::open(vec![site], options)
    }

    /// Begins to write a chunk.
    ///
    /// # Errors
    /// [`WriteError::InvalidLength`]; [`WriteError::Deleted`] for a spent id; [`WriteError::Conflict`] for one that
    /// holds a chunk of another length; [`WriteError::Damaged`] for one whose chunk can't be read; a full or failed
    /// disk.
    pub fn begin(&self, chunk: NewChunk) -> Result<ChunkWriter, WriteError> {
        ChunkWriter::begin(Arc::clone(&self.shared), chunk)
    }

    /// Begins to write the bytes of a chunk that is damaged here and was found elsewhere. Like [`begin`](Self::begin),
    /// but at the [`commit`](ChunkWriter::commit) the chunk that is here is verified: if it is whole and has the same
    /// bytes, nothing changes; if it is damaged, the new record takes its place. An id that is not known is just
    /// written.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin), but not [`WriteError::Damaged`]. [`WriteError::Conflict`] also for a damaged
    /// chunk of which the length or the checksum is known, and is another one.
    pub fn heal(&self, chunk: NewChunk) -> Result<ChunkWriter, WriteError> {
        ChunkWriter::heal(Arc::clone(&self.shared), chunk)
    }

    /// Writes a chunk that is all there; the same as [`begin`](Self::begin), one [`write`](ChunkWriter::write) and
    /// [`commit`](ChunkWriter::commit). Bytes of a large chunk that begin on a page of memory (4 KiB) go to the disk
    /// without being copied.
    pub fn put(&self, chunk: NewChunk, bytes: &[u8]) -> Result<ChunkInfo, WriteError> {
        writer::put(&self.shared, chunk, bytes)
    }

    /// Reads the whole blocks that hold `range` of a chunk, which must be inside it and not empty. Only those blocks
    /// are read and verified.
    pub fn read(&self, id: ChunkId, range: Range<u64>) -> Result<ChunkReader, ReadError> {
        self.shared.reader(id, Some(range), Wait::ForDisk)
    }

    /// As [`read`](Self::read), of what the system has in memory: [`Pending`](Poll::Pending) where the disk would have to
    /// be waited for. So it may be called where nothing may block; its bytes are read with
    /// [`try_next_run`](ChunkReader::try_next_run).
    pub fn try_read(&self, id: ChunkId, range: Range<u64>) -> Result<Poll<ChunkReader>, ReadError> {
        reader::unless_it_waits(self.shared.reader(id, Some(range), Wait::Never))
    }

    /// Whether there is a chunk of this id that can be read. The disk is not asked: that is left to a read.
    pub fn contains(&self, id: ChunkId) -> bool {
        self.shared.index.get(id).is_some_and(|entry| entry.is_chunk())
    }

    /// What is known of a chunk.
    pub fn stat(&self, id: ChunkId) -> Result<ChunkInfo, ReadError> {
        self.shared.info(id)
    }

    /// Deletes a chunk. When this returns the id is spent for ever, on stable storage, whether or not a chunk was
    /// there. `version` is that of the group under which it is deleted; it is kept with the tombstone.
    ///
    /// After an error the chunk can still be read, but the id takes no writes: the tombstone may have got to the disk.
    /// Delete again.
    ///
    /// The tombstone goes to the directory of the chunk, so that losing another one can't bring the chunk back. While
    /// that directory takes no writes, or where no chunk is known, it goes to another one. So a chunk in a directory
    /// that is missing at the time stays deleted when that comes back, as long as the one with the tombstone is there.
    pub fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), WriteError> {
        let shared = &*self.shared;
        shared.check_writable()?;
        let _claim = shared.claims.claim(id);
        let found = shared.index.get(id);
        if found.is_some_and(|entry| entry.is_tombstone()) {
            return Ok(());
        }
        // The slot is held until the index knows: neither a compaction nor a mark, and with it a checkpoint, may take
        // the volume for settled before.
        let (_slot, entry) = shared.unsettled.delete(id, || shared.put_tombstone(id, version, found))?;
        shared.index.insert(id, entry);
        shared.damages.forget(id);
        Ok(())
    }

    /// Up to `limit` chunks with ids above `after`, in order. A chunk whose record can't be read is left out, as if
    /// it were missing: whoever compares replicas by their lists then sends it again.
    ///
    /// # Errors
    /// None of one chunk; only of the disk.
    pub fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<InfoPage, ReadError> {
        let mut page = InfoPage { chunks: Vec::new(), more: true };
        let mut after = after;
        while page.more && page.chunks.len() < limit {
            let (found, more) = self.shared.index.list(after, limit - page.chunks.len());
            page.more = more;
            for (id, _) in found {
                after = Some(id);
                match self.shared.info(id) {
                    Ok(info) => page.chunks.push(info),
                    // Deleted since it was found.
                    Err(ReadError::Deleted(_)) => {}
                    Err(error @ ReadError::Io { .. }) => return Err(error),
                    Err(error) => tracing::warn!(%error, "a chunk is left out of the list"),
                }
            }
        }
        Ok(page)
    }

    /// Chunks that were found damaged since the store was opened, by a read, a scrub or a compaction, and have not been
    /// healed or deleted; each with what is wrong. The first 65,536 of them.
    pub fn damaged(&self) -> Vec<(ChunkId, String)> {
        self.shared.damages.list()
    }

    /// Calls `listener` with each chunk that is found damaged from now on, once, with what is wrong. It is called on the
    /// thread that finds it, so it should only take note.
    pub fn on_damage(&self, listener: impl Fn(ChunkId, &str) + Send + Sync + 'static) {
        self.shared.damages.tell(Arc::new(listener));
    }

    /// The highest id that the store has ever accepted or deleted.
    pub fn highest_id(&self) -> Option<ChunkId> {
        self.shared.index.highest()
    }

    /// Bytes of all chunks that can be read.
    fn live_bytes(&self) -> u64 {
        self.shared.index.usage().chunk_bytes
    }

    /// What the store takes, and what room there is: in the directories that take writes, a file system that
    /// several of them share counted once.
    ///
    /// # Errors
    /// Where no file system says how much room it has.
    pub fn usage(&self) -> Result<Usage, ReadError> {
        let shared = &*self.shared;
        let (free, total) = shared.volumes.room()?;
        let VolumeUsage { chunks, chunk_bytes: bytes, tombstones, .. } = shared.index.usage();
        Ok(Usage { chunks, bytes, tombstones, volumes: shared.volumes.count(), free, total })
    }

    /// Writes the index to a file, so that the next start need not read the volumes that are full. The store does so
    /// itself when it is closed; while it runs, whoever looks after it calls this when
    /// [`checkpoint_is_due`](Self::checkpoint_is_due). Reads and writes go on.
    ///
    /// # Errors
    /// Those of the disk. The checkpoint before stays; the store is none the worse.
    pub fn checkpoint(&self) -> Result<(), WriteError> {
        self.shared.check_writable()?;
        self.shared.volumes.checkpoint(&self.shared.index)
    }

    /// Whether a volume has become full since the last checkpoint.
    pub fn checkpoint_is_due(&self) -> bool {
        self.shared.volumes.checkpoint_is_due()
    }

    /// The directories of the store, those that are missing at the end.
    pub fn directories(&self) -> Vec<DirectoryInfo> {
        let mut directories = self.shared.volumes.directories();
        directories.extend(self.shared.absent.iter().cloned());
        directories
    }

    /// Names this store for its whole life.
    pub fn store_id(&self) -> StoreId {
        self.shared.id
    }

    /// Names the chunk node that this store belongs to, for its whole life.
    pub fn node_id(&self) -> NodeId {
        self.shared.node
    }

    /// What opening the store has found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.recovery
    }
}

impl Shared {
    /// The record of a live chunk, and its volume.
    fn locate(&self, id: ChunkId) -> Result<(Entry, Arc<Volume>), ReadError> {
        let mut gone = None;
        loop {
            let entry = match (self.index.get(id), &self.unseen) {
                (None, None) => return Err(ReadError::NotFound(id)),
                (None, Some(missing)) => {
                    return Err(ReadError::Unavailable { id, missing: Arc::clone(missing) });
                }
                (Some(entry), _) if entry.is_tombstone() => return Err(ReadError::Deleted(id)),
                (Some(entry), _) => entry,
            };
            if let Some(volume) = self.volumes.get(entry.volume) {
                if entry.is_quarantined() {
                    return Err(ReadError::Damaged { id, reason: compaction::reason(&volume, entry) });
                }
                return Ok((entry, volume));
            }
            // A volume goes only after the index has other places for all that counts of it: look again.
            if gone == Some(entry) {
                let reason = format!("volume {} is not there", entry.volume);
                return Err(ReadError::Damaged { id, reason });
            }
            gone = Some(entry);
        }
    }

    fn reader(&self, id: ChunkId, range: Option<Range<u64>>, wait: Wait) -> Result<ChunkReader, ReadError> {
        let (entry, volume) = self.locate(id)?;
        let opened = ChunkReader::open_by(volume, id, entry, range, wait);
        opened.map(|reader| reader.reporting_to(&self.damages)).inspect_err(|error| self.damages.saw(error))
    }

    fn info(&self, id: ChunkId) -> Result<ChunkInfo, ReadError> {
        let (entry, volume) = self.locate(id)?;
        let record = reader::read_record(&volume, id, entry).inspect_err(|error| self.damages.saw(error))?;
        Ok(record.info)
    }

    fn put_tombstone(
        &self,
        id: ChunkId,
        version: GroupVersion,
        chunk: Option<Entry>,
    ) -> Result<(Slot, Entry), WriteError> {
        let need = Need::tombstone(chunk.map(|entry| entry.volume));
        let slot = self.volumes.place(need, &mut |volume, geometry, sequence| {
            let bare = RecordHeader::bare(RecordKind::Tombstone, sequence, now());
            let header = RecordHeader { id, version, ..bare };
            volume.file.write_at(&header.encode(volume.seed(geometry.start)), geometry.start)
        })?;
        self.volumes.commit(&slot.volume)?;
        let entry = Entry::tombstone(slot.volume.header.number, slot.geometry.start);
        Ok((slot, entry))
    }

    fn check_writable(&self) -> Result<(), WriteError> {
        if self.is_read_only { Err(WriteError::ReadOnly) } else { Ok(()) }
    }

    /// What a writer finds under its id.
    fn found_by_writer(&self, id: ChunkId) -> Result<Option<Entry>, WriteError> {
        self.check_writable()?;
        self.unsettled.check_id(id)?;
        match self.index.get(id) {
            Some(entry) if entry.is_tombstone() => Err(WriteError::Deleted(id)),
            // Whatever its length: only a heal replaces it.
            Some(entry) if entry.is_quarantined() => match self.locate(id) {
                Err(error) => Err(WriteError::from_read(error)),
                Ok((entry, _)) => Ok(Some(entry)),
            },
            entry => Ok(entry),
        }
    }

    /// What a writer finds under its id that may replace a damaged chunk.
    fn found_by_healer(&self, chunk: &NewChunk) -> Result<Option<Entry>, WriteError> {
        self.check_writable()?;
        self.unsettled.check_id(chunk.id)?;
        match self.index.get(chunk.id) {
            Some(entry) if entry.is_tombstone() => Err(WriteError::Deleted(chunk.id)),
            Some(entry) if entry.length() != chunk.length => Err(WriteError::Conflict(chunk.id)),
            entry => Ok(entry),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Not beside the thread: who closes a volume has the last word.
        self.interval = None;
        if self.is_read_only {
            return;
        }
        self.volumes.close();
        if let Err(error) = self.volumes.checkpoint(&self.index) {
            tracing::warn!(%error, "no checkpoint of the index: the next start reads the volumes");
        }
    }
}

/// Milliseconds since 1970, by this machine's clock.
fn now() -> u64 {
    millis(SystemTime::now())
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
