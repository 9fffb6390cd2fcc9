//! The one door to the disk: remembers how it failed, and can be replaced by a test.

use std::fmt;
use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use super::open::is_full;
use crate::sync::Mutex;

/// How the file system failed the engine.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// A write found no room. Nothing committed is touched, so writing may go on once there is room again.
    NoSpace(String),
    /// A write, read or sync failed. After a failed sync nobody can tell what is on the disk: final.
    Io(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace(reason) | Self::Io(reason) => f.write_str(reason),
        }
    }
}

/// Where a [`Disk`] leaves word of its last failure.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultLog(Arc<Mutex<Option<Fault>>>);

impl FaultLog {
    /// The last failure since this was called last.
    pub(super) fn take(&self) -> Option<Fault> {
        self.0.lock().take()
    }

    fn note(&self, action: &str, error: &io::Error) {
        let reason = format!("{action}: {error}");
        // A sync that reports a lack of room has failed all the same: pages that it dropped are gone.
        let no_space = is_full(error) && action != SYNC;
        *self.0.lock() = Some(if no_space { Fault::NoSpace(reason) } else { Fault::Io(reason) });
    }
}

const SYNC: &str = "sync";

/// The engine's file.
///
/// The engine's own locking is left out: the directory's lock is held before any file in it is opened.
#[derive(Debug)]
pub(super) struct Disk {
    file: Box<dyn StorageBackend>,
    faults: FaultLog,
}

impl Disk {
    /// The disk of this file, with word of its failures left in `faults`.
    pub(super) fn new(file: Box<dyn StorageBackend>, faults: FaultLog) -> Self {
        Self { file, faults }
    }

    fn noting<T>(&self, action: &str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.faults.note(action, error))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.noting("size", self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noting("read", self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noting("resize", self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noting(SYNC, self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noting("write", self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
