use std::time::Duration;

use super::OpenError;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// When an acknowledged write, a chunk or a delete, is on stable storage.
///
/// Whatever is chosen, a crash leaves each chunk whole or not there, never torn: what no sync has covered is verified to
/// the last byte when the store is opened again. A killed process loses nothing that was acknowledged, for its bytes
/// are the system's; the choice is about power cuts and crashes of the whole machine. Volumes and the directories'
/// own files are always synced when they are made, a volume again when it is full, and everything when the store is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Before the answer: every commit and delete waits for fdatasync. Concurrent ones share it. A crash loses
    /// nothing that was acknowledged.
    #[default]
    Always,
    /// At most so much later, 1 ms to 1 hour, and the time that a sync takes: a thread of the store syncs all volumes
    /// that were written to. A crash loses any of the writes that were acknowledged after the last round of syncs
    /// began, in no particular order; of deletes that are lost the chunk is there again. So does a sync that fails,
    /// which seals its volume and is counted and logged: by then the writes that it covers have been
    /// acknowledged, and so is a second try of one, as long as the first can be read.
    Interval(Duration),
    /// When the system sees fit. A crash loses any of the writes to volumes that are not full yet, in no particular
    /// order.
    Never,
}

/// How a chunk store behaves. Every option has a default that is right for most uses.
///
/// ```
/// use speedy_core::store::StoreOptions;
///
/// let options = StoreOptions::default().volume_size(512 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub(super) volume_size: u64,
    pub(super) preallocation: u64,
    pub(super) durability: Durability,
    reserve: Option<u64>,
    least_reserve: u64,
    pub(super) forget_missing: bool,
    pub(super) cache_writes: bool,
    access: Access,
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    /// Everything.
    Full,
    /// To be read; nothing on the disk is changed.
    ReadOnly {
        /// Whether checkpoints are believed, or all volumes walked.
        trusts_checkpoints: bool,
    },
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            volume_size: 2 * GIB,
            preallocation: 64 * MIB,
            durability: Durability::Always,
            reserve: None,
            least_reserve: 0,
            forget_missing: false,
            cache_writes: false,
            access: Access::Full,
        }
    }
}

impl StoreOptions {
    /// Size in bytes at which a volume is sealed and the next one starts: 2 GiB by default, 1 MiB to 32 GiB. A chunk
    /// larger than this gets a volume of its own.
    pub fn volume_size(mut self, bytes: u64) -> Self {
        self.volume_size = bytes;
        self
    }

    /// Bytes by which a volume's file grows ahead of the writes: 64 MiB by default, 0 (not at all) to 1 GiB. What is
    /// not used goes back to the file system when the volume is sealed or the store is closed.
    pub fn preallocation(mut self, bytes: u64) -> Self {
        self.preallocation = bytes;
        self
    }

    /// When an acknowledged write is on stable storage: [`Durability::Always`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Bytes of each file system that new chunks leave free, so that deletes and compaction work on a full disk: by
    /// default the size of a volume, or 2% of the file system where that is less. 0 keeps none. It is looked at when
    /// a volume's file grows, so what is left may be less by one [step](Self::preallocation) of each open volume.
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.reserve = Some(bytes);
        self
    }

    /// Makes the default [reserve](Self::reserve) no less than this, or a quarter of the file system where that is less: for
    /// others that need room beside the store. By default 0.
    pub fn least_reserve(mut self, bytes: u64) -> Self {
        self.least_reserve = bytes;
        self
    }

    /// The reserve on a file system of so many bytes.
    pub(super) fn reserve_of(&self, total: u64) -> u64 {
        let usual = || self.volume_size.min(total / 50).max(self.least_reserve.min(total / 4));
        self.reserve.unwrap_or_else(usual)
    }

    /// Whether directories that are missing are given up for good: `false` by default. Their chunks are then not here
    /// any more, where before they were unavailable, and a directory that comes back is refused. Set it for the one
    /// start after a disk was lost, never as a habit: a disk that is only not mounted would be lost the same way.
    ///
    /// It also opens a store where every list of its directories is damaged, with those that are there.
    pub fn forget_missing(mut self, forget: bool) -> Self {
        self.forget_missing = forget;
        self
    }

    /// Whether large chunks that are written stay in the page cache: `false` by default, then they pass it by where the file
    /// system can. What is read soon after it was written need not come from the disk then, and one more copy of it is made
    /// on its way there, some 0.2 s of a processor for each GiB.
    pub fn cache_writes(mut self, cache: bool) -> Self {
        self.cache_writes = cache;
        self
    }

    /// Opens a store that is there to be read, and changes nothing on the disk: not even the lock's file, so it may be
    /// mounted read-only. Writes, deletes, compaction and scrub are refused; [`ChunkStore::check`](super::ChunkStore::check)
    /// and [`ChunkStore::dump`](super::ChunkStore::dump) look at it. As long as it is open no process can open it to
    /// write.
    pub fn read_only(mut self) -> Self {
        self.access = Access::ReadOnly { trusts_checkpoints: true };
        self
    }

    /// As [`read_only`](Self::read_only), with all volumes walked as if there were no checkpoint.
    pub(super) fn read_only_by_walking(mut self) -> Self {
        self.access = Access::ReadOnly { trusts_checkpoints: false };
        self
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.access != Access::Full
    }

    pub(super) fn trusts_checkpoints(&self) -> bool {
        self.access != Access::ReadOnly { trusts_checkpoints: false }
    }

    pub(super) fn validate(&self) -> Result<(), OpenError> {
        if !(MIB..=32 * GIB).contains(&self.volume_size) {
            let text = format!("volume_size is {} bytes; it must be 1 MiB to 32 GiB", self.volume_size);
            return Err(OpenError::Option(text));
        }
        let intervals = Duration::from_millis(1)..=Duration::from_secs(3600);
        if let Durability::Interval(interval) = self.durability
            && !intervals.contains(&interval)
        {
            return Err(OpenError::Option(format!(
                "durability interval is {interval:?}; it must be 1 ms to 1 hour"
            )));
        }
        if self.preallocation > GIB || !self.preallocation.is_multiple_of(4 * KIB) {
            let text = format!(
                "preallocation is {} bytes; it must be a multiple of 4 KiB, up to 1 GiB",
                self.preallocation
            );
            return Err(OpenError::Option(text));
        }
        Ok(())
    }
}
