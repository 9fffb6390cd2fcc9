//! One directory of a store: its disk, how full it is, and how it is doing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreOptions;
use super::disk::{Disk, Space};
use super::membership::Member;
use crate::id::DirectoryId;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};

/// So many volumes in a row may fail before a directory takes no more writes: a disk that fails every sync must not
/// be filled with the beginnings of volumes.
const FAILURES_IN_A_ROW: u32 = 8;

/// A volume's number is its directory's ordinal, above the number that the directory gave it: so no two directories
/// make the same one, not even while one of them is missing.
const LOCAL_BITS: u32 = 24;

/// A directory of a store, as [`ChunkStore::directories`](super::ChunkStore::directories) tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DirectoryInfo {
    /// Where it is. `None` for a missing one if nothing was named that could be its place.
    pub path: Option<PathBuf>,
    /// Names it for its whole life. `None` for a missing one where nobody can tell which of several it is.
    pub id: Option<DirectoryId>,
    /// How it is doing.
    pub state: DirectoryState,
    /// Volumes that are served from it.
    pub volumes: usize,
    /// Syncs that failed since the store was opened.
    pub failed_syncs: u64,
    /// Bytes on its file system that this user may still take; 0 where the system does not tell.
    pub free: u64,
    /// Bytes on its file system; 0 where the system does not tell.
    pub total: u64,
}

/// How a directory of a store is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DirectoryState {
    /// Takes reads and writes.
    Healthy,
    /// Its disk failed. It takes no writes until the store is opened again; what can be read of it is.
    Failed {
        /// What happened.
        reason: String,
    },
    /// Not there when the store was opened. An empty directory counts as missing while the store misses one: its
    /// disk may not be mounted.
    Missing,
}

/// As in "/data/2 is missing", or the id where the path is not known.
impl fmt::Display for DirectoryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.id) {
            (Some(path), _) => write!(f, "{}", path.display())?,
            (None, Some(id)) => write!(f, "directory {id}")?,
            (None, None) => f.write_str("a directory")?,
        }
        match &self.state {
            DirectoryState::Healthy => f.write_str(" is healthy"),
            DirectoryState::Missing => f.write_str(" is missing"),
            DirectoryState::Failed { reason } => write!(f, " failed: {reason}"),
        }
    }
}

/// What a record is for, and so whether it may take of the room that is kept in reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A new chunk.
    Write,
    /// A tombstone, or a copy from which room will come back.
    Maintenance,
}

/// A directory that is there.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) disk: Box<dyn Disk>,
    pub(super) id: DirectoryId,
    ordinal: u8,
    /// Position among the directories of this process.
    pub(super) slot: usize,
    /// Number of the next volume, without the ordinal.
    next_local: AtomicU32,
    /// Bytes of the file system that ordinary writes leave free.
    reserve: u64,
    /// Free bytes when they were last looked at.
    free: AtomicU64,
    /// Records that are being written.
    pub(super) in_flight: AtomicU32,
    failed_in_a_row: AtomicU32,
    pub(super) failed_syncs: AtomicU64,
    is_failed: AtomicBool,
    reason: Mutex<String>,
}

impl Directory {
    pub(super) fn new(slot: usize, member: Member, options: &StoreOptions) -> Self {
        let Member { disk, superblock, .. } = member;
        let (free, total) = disk.space().map_or((0, 0), |space| (space.free, space.total));
        Self {
            disk,
            id: superblock.directory,
            ordinal: superblock.ordinal,
            slot,
            next_local: AtomicU32::new(1),
            reserve: options.reserve_of(total),
            free: AtomicU64::new(free),
            in_flight: AtomicU32::new(0),
            failed_in_a_row: AtomicU32::new(0),
            failed_syncs: AtomicU64::new(0),
            is_failed: AtomicBool::new(false),
            reason: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.disk.path()
    }

    /// There is a file of a volume of this number, here or in another directory.
    pub(super) fn see_number(&self, number: u32) {
        if number >> LOCAL_BITS == self.ordinal.into() {
            self.next_local.fetch_max((number & ((1 << LOCAL_BITS) - 1)) + 1, Ordering::Relaxed);
        }
    }

    /// A number that no volume has had.
    pub(super) fn next_number(&self) -> io::Result<u32> {
        let local = self.next_local.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next >> LOCAL_BITS == 0).then_some(next + 1)
        });
        let local =
            local.map_err(|_| io::Error::other("16777215 volumes were made here, the most there can be"))?;
        Ok(u32::from(self.ordinal) << LOCAL_BITS | local)
    }

    pub(super) fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }

    /// Volumes that failed one after the other.
    pub(super) fn failures(&self) -> u32 {
        self.failed_in_a_row.load(Ordering::Relaxed)
    }

    /// A write came through.
    pub(super) fn succeeded(&self) {
        // Mostly it is zero, and stays in every processor's cache.
        if self.failures() != 0 {
            self.failed_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Another volume failed.
    pub(super) fn volume_failed(&self, error: &io::Error) {
        let failures = self.failed_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES_IN_A_ROW {
            self.fail(format!("{failures} volumes failed in a row, the last one with: {error}"));
        }
    }

    /// Takes the directory out of writing until the store is opened again.
    pub(super) fn fail(&self, reason: String) {
        let mut known = self.reason.lock();
        if !self.is_failed() {
            tracing::error!(path = %self.path().display(), reason, "a directory takes no more writes: replace the disk");
            *known = reason;
            self.is_failed.store(true, Ordering::Release);
        }
    }

    /// Looks how much room there is.
    pub(super) fn look_at_space(&self) -> io::Result<Space> {
        let space = self.disk.space()?;
        self.free.store(space.free, Ordering::Relaxed);
        Ok(space)
    }

    /// How far a file may grow that has room up to `from`, needs it up to `end` and would rather have it up to
    /// `ahead`. The reserve is taken only for maintenance, and then no more of it than is needed.
    pub(super) fn grant(&self, from: u64, end: u64, ahead: u64, purpose: Purpose) -> io::Result<u64> {
        let free = match self.look_at_space() {
            Ok(space) if self.reserve > 0 => space.free,
            // Without a reserve, or where the system does not tell, the file system itself is asked.
            _ => return Ok(ahead),
        };
        let leaves_reserve = |upto: u64| free >= (upto - from).saturating_add(self.reserve);
        if leaves_reserve(ahead) {
            Ok(ahead)
        } else if purpose == Purpose::Maintenance || leaves_reserve(end) {
            Ok(end)
        } else {
            let text = format!("of {free} free bytes {} are kept for deletes and compaction", self.reserve);
            Err(io::Error::new(io::ErrorKind::StorageFull, text))
        }
    }

    /// Whether the next record rather goes here than there: by the records under way, against free room. A disk with
    /// twice the room gets twice as many, and when nothing is under way the emptiest one is next.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        let load = |directory: &Self| u128::from(directory.in_flight.load(Ordering::Relaxed)) + 1;
        let free = |directory: &Self| u128::from(directory.free.load(Ordering::Relaxed)) + 1;
        load(self) * free(other) < load(other) * free(self)
    }

    pub(super) fn info(&self, volumes: usize) -> DirectoryInfo {
        let state = if self.is_failed() {
            DirectoryState::Failed { reason: self.reason.lock().clone() }
        } else {
            DirectoryState::Healthy
        };
        let (free, total) = self.look_at_space().map_or((0, 0), |space| (space.free, space.total));
        DirectoryInfo {
            path: Some(self.path().to_path_buf()),
            id: Some(self.id),
            state,
            volumes,
            failed_syncs: self.failed_syncs.load(Ordering::Relaxed),
            free,
            total,
        }
    }
}
