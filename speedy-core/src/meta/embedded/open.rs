//! Opening a store: its directory, its lock, its file and what the file says about itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend, StorageError};

use super::disk::{Disk, FaultLog};
use super::tables::{CLOCK_ROW, FORMAT, FORMAT_ROW, IDENTITY_ROW, Tables, VERSIONS_ROW};
use crate::meta::Timestamp;
use crate::sync::{AtomicBool, Ordering};

const FILE: &str = "meta.redb";
/// What a restore writes, until it is complete and verified.
const UNFINISHED: &str = "meta.redb.restoring";
const LOCK: &str = "lock";
/// What the lock says once a store was closed and all of it was on stable storage.
const CLOSED: &str = "closed";

/// Why a store can't be opened, by what the operator can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store in this one, has the directory.
    #[error(
        "the metadata directory {} is in use by another process{}; stop it first, or choose another directory",
        directory.display(),
        holder.map_or(String::new(), |pid| format!(" ({pid})"))
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The process that has it, where it left its number.
        holder: Option<u32>,
    },
    /// The directory or a file in it can't be written.
    #[error(
        "the metadata directory {} is not writable: {source}; give its owner and mode to the user that runs this, \
         or choose another directory",
        directory.display()
    )]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by a version of this program that uses another format.
    #[error(
        "the metadata store in {} has format {found}, and this program knows formats up to {known}; \
         run the version that wrote it, or a later one",
        directory.display()
    )]
    Format {
        /// The directory.
        directory: PathBuf,
        /// The format that was found.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// What is in the file can't be understood. Nothing was changed.
    #[error(
        "the metadata store in {} is damaged: {reason}; nothing was changed. Keep a copy of the directory and \
         restore a backup",
        directory.display()
    )]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A restore into the directory was begun and did not end.
    #[error(
        "the restore of a backup into {} was not finished: run `speedy meta restore` again, or empty the directory",
        directory.display()
    )]
    Unfinished {
        /// The directory.
        directory: PathBuf,
    },
    /// The disk failed, or is full.
    #[error("the metadata store in {} can't be opened: {source}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(directory: &Path, source: io::Error) -> Self {
        let directory = directory.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { directory, source }
            }
            // What the engine says of a file that is not its own, or is cut short.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged { directory, reason: source.to_string() }
            }
            _ => Self::Io { directory, source },
        }
    }

    fn damaged(directory: &Path, reason: impl ToString) -> Self {
        Self::Damaged { directory: directory.to_owned(), reason: reason.to_string() }
    }

    fn engine(directory: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(source) => Self::io(directory, source),
            error => Self::damaged(directory, error),
        }
    }
}

/// A directory that nobody else has. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    // Held for its lock, which the system takes back when the process ends, however it ends.
    lock: File,
    /// Whether all that the system holds of the file is on the disk: nothing was written since a close that went well.
    memory_is_good: AtomicBool,
}

/// Whether a directory has a store's file, or what a restore has begun, with anything in it. What can't be looked at counts
/// as there: opening it says why.
pub(super) fn has_file(directory: &Path) -> bool {
    let is_there = |name: &str| match fs::metadata(directory.join(name)) {
        Ok(file) => file.len() > 0,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    is_there(FILE) || is_there(UNFINISHED)
}

impl Directory {
    /// Creates the directory if need be and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(path, error);
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(failed)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
            }
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(failed)?;
        let locked = lock.try_lock();
        let mut said = String::new();
        let said = lock.read_to_string(&mut said).map_or("", |_| said.trim());
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { directory: path.to_owned(), holder: said.parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let memory_is_good = AtomicBool::new(said == CLOSED);
        // The number only helps whoever is refused, so that it need not be on stable storage.
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        match writeln!(lock, "{}", std::process::id()) {
            // A full disk is no reason to keep anybody from reading.
            Err(error) if is_full(&error) => {}
            written => written.map_err(failed)?,
        }
        Ok(Self { path: path.to_owned(), lock, memory_is_good })
    }

    /// Leaves word that the engine has let go of its file and that all of it is on stable storage. The word and what the
    /// system holds of the file are lost together, so it need not be on stable storage itself.
    pub(super) fn note_closed(&self) {
        let mut lock = &self.lock;
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{CLOSED}"));
        if let Err(error) = written {
            tracing::debug!(directory = %self.path.display(), %error, "the next start reads the disk again");
        }
    }

    /// Whether a restore was begun here and did not end.
    pub(super) fn has_unfinished_restore(&self) -> bool {
        self.path.join(UNFINISHED).exists()
    }

    /// Something in the directory that is neither a restore's leftover nor the file system's own; `None` where there is
    /// none, nor a directory.
    pub(super) fn foreign_file(path: &Path) -> io::Result<Option<std::ffi::OsString>> {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            if ![LOCK, UNFINISHED, "lost+found"].iter().any(|known| name == *known) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Begins the file that a restore fills, anew if there is one.
    pub(super) fn begin_restore(&self) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path.join(UNFINISHED);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        self.sync()?;
        backend(file)
    }

    /// Opens that file again.
    pub(super) fn reopen_restore(&self) -> io::Result<Box<dyn StorageBackend>> {
        backend(OpenOptions::new().read(true).write(true).open(self.path.join(UNFINISHED))?)
    }

    /// Makes that file the store.
    pub(super) fn finish_restore(&self) -> io::Result<()> {
        File::open(self.path.join(UNFINISHED))?.sync_all()?;
        fs::rename(self.path.join(UNFINISHED), self.path.join(FILE))?;
        self.sync()
    }

    /// Removes that file.
    pub(super) fn give_up_restore(&self) {
        if let Err(error) = fs::remove_file(self.path.join(UNFINISHED)) {
            tracing::warn!(directory = %self.path.display(), %error, "an unfinished restore is left behind");
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    #[cfg(test)]
    pub(super) fn memory_is_good(&self) -> bool {
        self.memory_is_good.load(Ordering::Relaxed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the engine's file, and makes sure that a new one is found again after a power cut.
    pub(super) fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // After a sync that failed, the system may hold pages that look clean and never reached the disk. Drop what it
        // holds, unless the last close has seen to it that there are none: what is read from here on is what the disk
        // has. A large store would be slow for long if a restart took its pages out of memory.
        if !self.memory_is_good.swap(false, Ordering::Relaxed) {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        self.sync()?;
        backend(file)
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Box::new(backend))
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that this process is just starting may hold it a moment longer.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(directory = %self.path.display(), %error, "the metadata directory stays locked");
        }
    }
}

/// What a store says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    pub(super) identity: [u8; 16],
    /// No version above this was handed out.
    pub(super) versions: u64,
    /// No time after this was told.
    pub(super) clock: Timestamp,
}

/// Opens the engine on a file, checks that the store is one that this code knows, and makes a new one in an empty
/// file.
pub(super) fn open(
    directory: &Path,
    file: Box<dyn StorageBackend>,
    faults: &FaultLog,
    cache_bytes: usize,
) -> Result<(Database, Info), OpenError> {
    let disk = Disk::new(file, faults.clone());
    // The engine trusts what passes its checks and may panic on what a damaged file holds all the same.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(disk);
        let database = database.map_err(|error| match error {
            DatabaseError::Storage(StorageError::Io(source)) => OpenError::io(directory, source),
            error => OpenError::damaged(directory, error),
        })?;
        let info = read_or_create(directory, &database)?;
        Ok((database, info))
    }));
    opened.unwrap_or_else(|_| Err(OpenError::damaged(directory, "the engine stopped at what the file holds")))
}

fn read_or_create(directory: &Path, database: &Database) -> Result<Info, OpenError> {
    let failed = |error: redb::Error| OpenError::engine(directory, error);
    let commit = database.begin_write().map_err(|error| failed(error.into()))?;
    let mut tables = Tables::open(&commit, Timestamp::default()).map_err(|error| failed(error.into()))?;
    if tables.is_new().map_err(|error| failed(error.into()))? {
        let identity = *crate::id::BlobId::random().as_bytes();
        let rows: [(&'static str, &[u8]); 4] = [
            (FORMAT_ROW, &FORMAT.to_be_bytes()),
            (IDENTITY_ROW, &identity),
            (VERSIONS_ROW, &0u64.to_be_bytes()),
            (CLOCK_ROW, &0u64.to_be_bytes()),
        ];
        for (row, value) in rows {
            tables.set_info(row, value).map_err(|error| failed(error.into()))?;
        }
        drop(tables);
        commit.commit().map_err(|error| failed(error.into()))?;
        return Ok(Info { identity, versions: 0, clock: Timestamp(0) });
    }
    let info = read(directory, &tables);
    drop(tables);
    commit.abort().map_err(|error| failed(error.into()))?;
    info
}

fn read(directory: &Path, tables: &Tables<'_>) -> Result<Info, OpenError> {
    fn row<const N: usize>(
        directory: &Path,
        tables: &Tables<'_>,
        name: &'static str,
    ) -> Result<[u8; N], OpenError> {
        let value = tables.info(name).map_err(|error| OpenError::engine(directory, error))?;
        let value = value.and_then(|value| value.try_into().ok());
        value
            .ok_or_else(|| OpenError::damaged(directory, format!("its row {name:?} is missing or malformed")))
    }
    let found = u32::from_be_bytes(row(directory, tables, FORMAT_ROW)?);
    if found != FORMAT {
        return Err(OpenError::Format { directory: directory.to_owned(), found, known: FORMAT });
    }
    Ok(Info {
        identity: row(directory, tables, IDENTITY_ROW)?,
        versions: u64::from_be_bytes(row(directory, tables, VERSIONS_ROW)?),
        clock: Timestamp(u64::from_be_bytes(row(directory, tables, CLOCK_ROW)?)),
    })
}
