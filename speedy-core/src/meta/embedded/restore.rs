//! A store made of a backup.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::clock::mark_after_restore;
use super::disk::{Disk, FaultLog};
use super::open::{self, Directory, Info, OpenError};
use super::tables::{
    CLOCK_ROW, ENTRIES, FORMAT, FORMAT_ROW, IDENTITY_ROW, TRANSACTIONS, Tables, VERSIONS_ROW, entry,
    parse_memory_key,
};
use super::{EmbeddedMeta, EmbeddedOptions};
use crate::meta::backup::{BackupReader, Block};
use crate::meta::{BackupError, BackupInfo, Entry, Timestamp, Version, check_backup};

/// Bytes of blocks that go into one commit of the engine.
const COMMIT_BYTES: u64 = 64 << 20;
/// Bits below the time in the first version of a restored store: over a million commits a millisecond, far more than
/// any store makes, before versions of two restores could meet.
const VERSIONS_BITS: u32 = 20;

/// Why a backup was not restored. The directory is as it was, but for its lock file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup is refused.
    #[error("the backup {}: {source}", file.display())]
    Backup {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// There is something in the directory. Nothing was changed.
    #[error(
        "{} is not empty: it holds {}; a backup is restored into a new or empty directory. Move what is there away, \
         it may still be of use",
        directory.display(),
        found.display()
    )]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// Something in it.
        found: PathBuf,
    },
    /// The directory can't be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The new store can't be written.
    #[error("the store in {} could not be written: {reason}; make room, or choose another directory", directory.display())]
    Write {
        /// The directory.
        directory: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// What was written is not what is read back.
    #[error(
        "the restored store in {} does not hold what the backup {} holds ({reason}); check the disk",
        directory.display(),
        file.display()
    )]
    Different {
        /// The directory.
        directory: PathBuf,
        /// The backup.
        file: PathBuf,
        /// Where they differ.
        reason: String,
    },
}

impl EmbeddedMeta {
    /// Makes the store of a backup in a directory, which must be empty and is created if need be: verifies the whole
    /// file, writes, and compares every row that the engine gives back with the file once more. `progress` hears how
    /// many of how many steps are done. Blocks.
    ///
    /// The store has the identity, the entries with their versions, and the remembered transactions of the backup.
    /// **No version is ever given to other content:** new versions begin at the time of the restore in milliseconds times
    /// 2²⁰, above all that the store handed out since the backup, here or in an earlier restore. Its clock goes on after
    /// every time that was told. Both hold as long as the wall clocks of the hosts agree.
    ///
    /// Before blobs are kept in it again call [`blob::distrust`](crate::blob::distrust), and before a master
    /// [`placement::after_restore`](crate::placement::after_restore): both look after what was handed out since the
    /// backup.
    ///
    /// # Errors
    /// See [`RestoreError`]: the directory is left without a store.
    pub fn restore(
        file: impl AsRef<Path>,
        directory: impl AsRef<Path>,
        options: EmbeddedOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupInfo, RestoreError> {
        let (file, directory) = (file.as_ref(), directory.as_ref());
        let found = Directory::foreign_file(directory).map_err(|source| OpenError::io(directory, source))?;
        if let Some(found) = found {
            return Err(RestoreError::NotEmpty { directory: directory.into(), found: found.into() });
        }
        // A file that is no good leaves no trace.
        let info = check_backup(open_file(file)?, &mut |done, of| progress(done, of.saturating_mul(3)))
            .map_err(|source| refused(file, source))?;
        let locked = Directory::lock(directory)?;
        let restoring = Restoring {
            file,
            directory: &locked,
            cache: options.cache_bytes,
            total: info.entries + info.transactions,
        };
        match restoring.run(&info, progress) {
            Ok(()) => Ok(info),
            Err(error) => {
                locked.give_up_restore();
                Err(error)
            }
        }
    }
}

fn open_file(file: &Path) -> Result<BufReader<File>, RestoreError> {
    let opened = File::open(file).map_err(|error| refused(file, error.into()))?;
    Ok(BufReader::with_capacity(1 << 20, opened))
}

fn refused(file: &Path, source: BackupError) -> RestoreError {
    RestoreError::Backup { file: file.into(), source }
}

struct Restoring<'a> {
    file: &'a Path,
    directory: &'a Directory,
    cache: usize,
    /// Rows of the backup.
    total: u64,
}

impl Restoring<'_> {
    fn run(&self, info: &BackupInfo, progress: &mut dyn FnMut(u64, u64)) -> Result<(), RestoreError> {
        let marks = marks(info);
        self.write(&marks, progress)?;
        // As a start of a node does it.
        let path = self.directory.path();
        let file = self.directory.reopen_restore().map_err(|error| self.io(&error))?;
        let (database, found) = open::open(path, file, &FaultLog::default(), self.cache)?;
        let same =
            (found.identity, found.versions, found.clock) == (marks.identity, marks.versions, marks.clock);
        let compared = if same { self.compare(&database, progress) } else { Err(self.differs("its marks")) };
        drop(database);
        compared?;
        self.directory.finish_restore().map_err(|error| self.io(&error))
    }

    fn write(&self, marks: &Info, progress: &mut dyn FnMut(u64, u64)) -> Result<(), RestoreError> {
        let file = self.directory.begin_restore().map_err(|error| self.io(&error))?;
        let database = redb::Builder::new()
            .set_cache_size(self.cache)
            .create_with_backend(Disk::new(file, FaultLog::default()));
        let database = database.map_err(|error| self.engine(&error))?;
        let mut reader =
            BackupReader::new(open_file(self.file)?).map_err(|error| refused(self.file, error))?;
        let mut ended = false;
        while !ended {
            let until = reader.info().bytes + COMMIT_BYTES;
            let commit = database.begin_write().map_err(|error| self.engine(&error))?;
            let mut tables =
                Tables::open(&commit, Timestamp::default()).map_err(|error| self.engine(&error))?;
            while reader.info().bytes < until {
                let Some(block) = reader.next().map_err(|error| refused(self.file, error))? else {
                    set_marks(&mut tables, marks).map_err(|error| self.engine(&error))?;
                    ended = true;
                    break;
                };
                put(&mut tables, &block).map_err(|error| self.engine(&error))?;
                progress(self.total + reader.rows_read(), self.total.saturating_mul(3));
            }
            drop(tables);
            commit.commit().map_err(|error| self.engine(&error))?;
        }
        Ok(())
    }

    /// Walks the store and the backup side by side.
    fn compare(&self, database: &Database, progress: &mut dyn FnMut(u64, u64)) -> Result<(), RestoreError> {
        let engine = |error: redb::Error| self.engine(&error);
        let reading = database.begin_read().map_err(|error| engine(error.into()))?;
        let entries = reading.open_table(ENTRIES).map_err(|error| engine(error.into()))?;
        let transactions = reading.open_table(TRANSACTIONS).map_err(|error| engine(error.into()))?;
        let mut reader =
            BackupReader::new(open_file(self.file)?).map_err(|error| refused(self.file, error))?;
        let mut stored = entries.iter().map_err(|error| engine(error.into()))?;
        let mut remembered = transactions.iter().map_err(|error| engine(error.into()))?;
        while let Some(block) = reader.next().map_err(|error| refused(self.file, error))? {
            match block {
                Block::Entries(expected) => {
                    for expected in expected {
                        let row = stored.next().transpose().map_err(|error| engine(error.into()))?;
                        let found = row.and_then(|(key, row)| {
                            entry(bytes::Bytes::copy_from_slice(key.value()), row.value()).ok()
                        });
                        if found.as_ref() != Some(&expected) {
                            return Err(self.differs(&at(&expected)));
                        }
                    }
                }
                Block::Transactions(expected) => {
                    for expected in expected {
                        let row = remembered.next().transpose().map_err(|error| engine(error.into()))?;
                        let found = row.map(|(key, version)| {
                            let (spell, id) = parse_memory_key(key.value());
                            (spell, id, Version(version.value()))
                        });
                        if found != Some(expected) {
                            return Err(self.differs("a remembered transaction"));
                        }
                    }
                }
            }
            progress(2 * self.total + reader.rows_read(), self.total.saturating_mul(3));
        }
        let info = reader.info();
        let counts = entries.len().and_then(|entries| Ok((entries, transactions.len()?)));
        if counts.map_err(|error| engine(error.into()))? != (info.entries, info.transactions) {
            return Err(self.differs("the number of rows"));
        }
        Ok(())
    }

    fn io(&self, error: &io::Error) -> RestoreError {
        self.engine(error)
    }

    fn engine(&self, error: &dyn std::error::Error) -> RestoreError {
        RestoreError::Write { directory: self.directory.path().into(), reason: error.to_string() }
    }

    fn differs(&self, reason: &str) -> RestoreError {
        RestoreError::Different {
            directory: self.directory.path().into(),
            file: self.file.into(),
            reason: reason.into(),
        }
    }
}

fn at(entry: &Entry) -> String {
    format!("the entry of key {}", entry.key.escape_ascii())
}

/// Where versions and clock of a store go on that is made of this backup now.
fn marks(info: &BackupInfo) -> Info {
    let clock = mark_after_restore(info.clock);
    let versions = info.versions.max(clock.0.saturating_mul(1 << VERSIONS_BITS));
    Info { identity: info.identity, versions, clock }
}

fn set_marks(tables: &mut Tables<'_>, marks: &Info) -> Result<(), redb::StorageError> {
    tables.set_info(FORMAT_ROW, &FORMAT.to_be_bytes())?;
    tables.set_info(IDENTITY_ROW, &marks.identity)?;
    tables.set_info(VERSIONS_ROW, &marks.versions.to_be_bytes())?;
    tables.set_info(CLOCK_ROW, &marks.clock.0.to_be_bytes())
}

fn put(tables: &mut Tables<'_>, block: &Block) -> Result<(), redb::StorageError> {
    match block {
        Block::Entries(entries) => entries.iter().try_for_each(|entry| tables.restore_entry(entry)),
        Block::Transactions(rows) => {
            rows.iter().try_for_each(|(spell, id, version)| tables.restore_transaction(*spell, *id, *version))
        }
    }
}
