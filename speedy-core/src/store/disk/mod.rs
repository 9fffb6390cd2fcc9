//! The seam to the file system: everything that the engine asks of a disk, in two small traits, so that tests can
//! stand in a disk that forgets what was not synced and fails when told to.

mod read_only;
mod real;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "fuzzers use less of it than tests"))]
pub(super) mod simulated;

pub(super) use read_only::ReadOnlyDisk;
pub(super) use real::RealSite;

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;

use super::OpenError;

/// A directory that was named, before it is known whether the store may touch it: an empty one may be the place
/// where a disk is not mounted today.
pub(super) trait Site: Debug {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// Whether `other` is the same directory, perhaps by another path.
    fn is_same(&self, other: &Path) -> bool;

    /// The names of the files in it, none where it does not exist. Changes nothing.
    fn look(&self) -> io::Result<Vec<String>>;

    /// Makes the directory where it does not exist, and locks it against every other process.
    fn take(&self) -> Result<Box<dyn Disk>, OpenError>;

    /// Opens the directory, which must exist, to be read and not changed; as long as that goes on nobody can take it.
    fn peek(&self) -> Result<Box<dyn Disk>, OpenError>;
}

/// One directory. The engine keeps all its files in it, without subdirectories.
pub(super) trait Disk: Debug + Send + Sync {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// The names of all files in it. Names that are no UTF-8 are left out: the engine never made them.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file that must not exist yet.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in one step, replacing a file of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Puts the names of the files on stable storage. A new file may vanish in a power cut before this.
    fn sync(&self) -> io::Result<()>;

    /// Room on the file system.
    fn space(&self) -> io::Result<Space>;
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// Which file system it is: directories that share one share its room.
    pub(super) file_system: u64,
    pub(super) free: u64,
    pub(super) total: u64,
}

/// The bytes of a file that is mapped into memory.
pub(super) type Mapping = Box<dyn Deref<Target = [u8]> + Send + Sync>;

/// An open file. Every method takes `&self`: positions are arguments, never state.
pub(super) trait DiskFile: Debug + Send + Sync {
    /// Length in bytes, with what is preallocated.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` as far as the file goes; answers how many bytes that was.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`read_at`](Self::read_at), of what the page cache has: never waits for the disk.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where it has not all of it, or where that can't be known.
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Replaces the content of `buf` by up to `len` bytes from `offset`; fewer where the file ends. Does not pay
    /// for zeroing what is about to be overwritten.
    fn read_into(&self, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()>;

    /// All of the file, to be read without copying. Only for files that are complete and are never written again.
    fn map(&self) -> io::Result<Mapping>;

    /// Writes all of `bytes`. They are in the page cache afterwards, not on stable storage.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `parts` behind each other, past the page cache where the file system can. `offset`, the memory of
    /// each part and the length of each are multiples of [`PAGE`](super::format::PAGE). Not on stable storage before
    /// [`sync_data`](Self::sync_data) either.
    fn write_direct(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;

    /// As [`write_direct`](Self::write_direct), by way of the page cache, where the bytes stay to be read: the disk begins to
    /// write at once, and not when they are synced.
    fn write_cached(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;

    /// Puts everything written so far on stable storage. After an error nothing is known of what was not yet
    /// there, and asking again proves nothing: the kernel has marked the pages clean.
    fn sync_data(&self) -> io::Result<()>;

    /// Extends the file to `end` bytes and reserves the room from `start` on. `false` where the file system can't:
    /// no error, only slower.
    fn preallocate(&self, start: u64, end: u64) -> io::Result<bool>;

    /// Cuts the file off at `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Gives the room of a range back; the range reads as zeros afterwards. Best effort.
    fn release(&self, offset: u64, len: u64);

    /// Drops what the page cache holds of the file from `offset` on, so that the next read asks the disk. Best
    /// effort.
    fn forget_cached(&self, offset: u64);
}
