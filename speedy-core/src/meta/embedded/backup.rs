//! A backup of a store at work: one snapshot of the engine, read a block at a time.

use std::io::Write;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::reader::{corrupted, read_error};
use super::tables::{CLOCK_ROW, ENTRIES, INFO, TRANSACTIONS, VERSIONS_ROW, entry, parse_memory_key};
use super::{EmbeddedMeta, Request, Shared};
use crate::meta::backup::BackupWriter;
use crate::meta::{BackupError, BackupInfo, MetaError, Timestamp, Version};
use crate::sync::Ordering;

use bytes::Bytes;
use tokio::sync::oneshot;

impl EmbeddedMeta {
    /// Writes a backup: everything that was committed by now, and nothing of what comes later. `progress` hears how
    /// many of how many rows are done. Blocks; call it where that is allowed.
    ///
    /// Reads and transactions go on meanwhile. What it costs them is the disk's time, and room: pages that change are
    /// not used again before it ends, so the file grows by as much as is written meanwhile. Memory is bounded, by the
    /// store's cache and half a megabyte.
    ///
    /// # Errors
    /// [`BackupError::Io`] when `out` fails; [`BackupError::Store`] when the store can't be read, holds a damaged entry,
    /// or was closed or opened anew meanwhile.
    pub fn backup(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupInfo, BackupError> {
        let result = Snapshot::take(self).and_then(|snapshot| snapshot.write(out, progress));
        if matches!(result, Err(BackupError::Store(MetaError::Unavailable(_)))) {
            // As after any other failed read: the writer opens the engine anew at the next commit, so let there be one.
            let (answer, _) = oneshot::channel();
            self.send(Request::MoveMark { answer })?;
        }
        result
    }
}

/// A snapshot of the engine.
struct Snapshot<'a> {
    shared: &'a Shared,
    reading: ReadTransaction,
    /// The engine that it is a snapshot of.
    engine: u64,
    info: BackupInfo,
}

impl<'a> Snapshot<'a> {
    fn take(store: &'a EmbeddedMeta) -> Result<Self, BackupError> {
        let shared = &*store.shared;
        let guard = shared.database.read();
        let database = guard.as_ref().ok_or_else(|| shared.away())?;
        let engine = shared.reopened.load(Ordering::Relaxed);
        let reading = database.begin_read().map_err(|error| failed(error.into()))?;
        let info = describe(store.identity, shared.clock.unmarked(), &reading).map_err(failed)?;
        drop(guard);
        Ok(Self { shared, reading, engine, info })
    }

    fn write(
        self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupInfo, BackupError> {
        let (mut done, total) = (0, self.info.entries + self.info.transactions);
        let mut writer = BackupWriter::new(out, self.info)?;
        let table = self.reading.open_table(ENTRIES).map_err(|error| failed(error.into()))?;
        let mut rows = table.iter().map_err(|error| failed(error.into()))?;
        loop {
            let more = self.in_engine(|| {
                while !writer.is_full() {
                    let Some(row) = rows.next() else { return Ok(false) };
                    let (key, row) = row?;
                    let entry = entry(Bytes::copy_from_slice(key.value()), row.value()).map_err(corrupted)?;
                    writer.entry(&entry);
                    done += 1;
                }
                Ok(true)
            })?;
            writer.flush()?;
            progress(done, total);
            if !more {
                break;
            }
        }
        let table = self.reading.open_table(TRANSACTIONS).map_err(|error| failed(error.into()))?;
        let mut rows = table.iter().map_err(|error| failed(error.into()))?;
        loop {
            let more = self.in_engine(|| {
                while !writer.is_full() {
                    let Some(row) = rows.next() else { return Ok(false) };
                    let (key, version) = row?;
                    let (spell, id) = parse_memory_key(key.value());
                    writer.transaction(spell, id, Version(version.value()));
                    done += 1;
                }
                Ok(true)
            })?;
            writer.flush()?;
            progress(done, total);
            if !more {
                break;
            }
        }
        writer.end()
    }

    /// Reads from the snapshot while nobody can open the engine anew. An engine that was has the pages of this
    /// snapshot for free and may write over them.
    fn in_engine<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, BackupError> {
        let database = self.shared.database.read();
        if database.is_none() || self.shared.reopened.load(Ordering::Relaxed) != self.engine {
            let reason = format!(
                "{} was closed, or recovered from a failed write, while it was backed up; take the backup again",
                self.shared.directory.path().display()
            );
            return Err(MetaError::Unavailable(reason).into());
        }
        read().map_err(failed)
    }
}

/// What the snapshot holds.
fn describe(
    identity: [u8; 16],
    taken: Timestamp,
    reading: &ReadTransaction,
) -> Result<BackupInfo, redb::Error> {
    let info = reading.open_table(INFO)?;
    let number = |name: &'static str| -> Result<u64, redb::Error> {
        let row = info.get(name)?;
        let row = row.and_then(|row| row.value().try_into().ok());
        let row = row.ok_or_else(|| redb::Error::Corrupted(format!("its row {name:?} is malformed")))?;
        Ok(u64::from_be_bytes(row))
    };
    Ok(BackupInfo {
        identity,
        taken,
        versions: number(VERSIONS_ROW)?,
        clock: Timestamp(number(CLOCK_ROW)?),
        entries: reading.open_table(ENTRIES)?.len()?,
        transactions: reading.open_table(TRANSACTIONS)?.len()?,
        bytes: 0,
    })
}

fn failed(error: redb::Error) -> BackupError {
    read_error(error).into()
}
