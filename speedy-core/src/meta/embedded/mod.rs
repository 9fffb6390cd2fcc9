//! The embedded metadata store: redb under one writer thread. What is in its file is specified in `docs/meta.md`.

mod backup;
mod clock;
mod disk;
mod open;
mod reader;
mod restore;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, StorageBackend};
use tokio::sync::{Semaphore, oneshot};

use self::clock::Clock;
use self::disk::FaultLog;
use self::open::Directory;
use self::reader::{Pace, read_error};
use self::writer::{Request, Writer};
use super::limits::{check_keys, check_scan, check_transaction};
use super::{Entry, KeyRange, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction};
use crate::sync::{Arc, AtomicU64, Mutex, RwLock};

pub use self::open::OpenError;
pub use self::restore::RestoreError;

/// Transactions that may wait for the writer; further ones wait to be queued.
const QUEUE: usize = 1024;
/// Most keys, and most entries, that are read on an async worker.
const SMALL_READ: usize = 16;

/// How an [`EmbeddedMeta`] is set up.
///
/// ```
/// let options = speedy_core::meta::EmbeddedOptions::default().cache_bytes(64 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmbeddedOptions {
    cache_bytes: usize,
    reserve_bytes: u64,
}

impl EmbeddedOptions {
    /// The default of [`cache_bytes`](Self::cache_bytes): 32 MiB.
    pub const DEFAULT_CACHE: usize = 32 << 20;
    /// The default of [`reserve_bytes`](Self::reserve_bytes): 64 MiB.
    pub const DEFAULT_RESERVE: u64 = 64 << 20;

    /// Bytes of memory for pages, read and yet to be written. Count them in the process's budget. With less than a
    /// few MiB the store works, slowly.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// While the file system has fewer free bytes, transactions that put are refused as [`MetaError::Full`]. Those
    /// that only delete may use three quarters of it. 0 turns it off.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { cache_bytes: Self::DEFAULT_CACHE, reserve_bytes: Self::DEFAULT_RESERVE }
    }
}

/// A metadata store in a directory of this machine, for one process at a time.
///
/// The engine is redb, a copy-on-write B-tree in one file; `docs/meta.md` says why, with figures, and specifies what
/// is in the file.
///
/// # Consistency
/// One thread writes, in batches; every reader sees the last commit whole. Nothing of a commit is seen before it is on
/// stable storage, but for [relaxed](super::Durability::Relaxed) transactions.
///
/// # Crash recovery
/// The engine never overwrites what the last synced commit needs. After a crash it walks its file, compares all pages
/// with their checksums and goes on from that commit. Every entry carries a checksum of its own too, compared at each
/// read: a damaged entry is an error for whoever asks for it, not for the others.
///
/// # Cancellation
/// A transaction whose future is dropped may be applied all the same: send it again under its id to know.
///
/// # Knowingly left
/// The store is one process on one machine: what it holds is lost with the disk. [Back it up](Self::backup), or put a
/// replicated store behind the same trait.
///
/// # Closing
/// Dropping it waits until queued transactions are on stable storage; futures that were dropped may have left some.
///
/// ```
/// # async fn example(directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
/// use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions, MetaStore, Transaction, Write};
/// let meta = EmbeddedMeta::open(directory, EmbeddedOptions::default())?;
/// let tag = Transaction::new().write(Write::Put("tag/latest".into(), "sha256:…".into()));
/// assert!(meta.transact(tag).await?.is_committed());
/// assert!(meta.get("tag/latest".into()).await?.is_some());
/// # Ok(()) }
/// # let directory = tempfile::tempdir()?;
/// # tokio::runtime::Runtime::new()?.block_on(example(directory.path()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EmbeddedMeta {
    shared: Arc<Shared>,
    identity: [u8; 16],
    places: Arc<Semaphore>,
    // Both are taken when the store is dropped.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

type FileSource = Box<dyn Fn(&Directory) -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;
type FreeSpace = Box<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// Where a store's bytes come from: tests put their own in.
struct Sources {
    file: FileSource,
    free: FreeSpace,
}

impl Sources {
    fn real() -> Self {
        Self {
            file: Box::new(Directory::file),
            free: Box::new(|path| {
                let stats = rustix::fs::statvfs(path)?;
                Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
            }),
        }
    }
}

/// What readers and the writer share.
struct Shared {
    options: EmbeddedOptions,
    sources: Sources,
    faults: FaultLog,
    clock: Clock,
    pace: Pace,
    failure: Mutex<Option<String>>,
    /// `None` while it is being opened anew, when that failed, and after the close.
    database: RwLock<Option<Database>>,
    /// How often the engine was opened anew: a snapshot of an earlier one must not be read any more. Changed only while
    /// `database` is locked for it.
    reopened: AtomicU64,
    // Last: the lock is given back after the engine has let go of its file.
    directory: Directory,
}

fn failed(reason: &impl ToString) -> MetaError {
    MetaError::Failed(reason.to_string())
}

impl Shared {
    fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        (self.sources.file)(&self.directory)
    }

    /// Free bytes of the file system, where it tells.
    fn free_bytes(&self) -> Option<u64> {
        (self.sources.free)(self.directory.path()).ok()
    }

    fn full(&self, free: u64) -> MetaError {
        MetaError::Full(format!(
            "the file system of {} has {} MiB free, and the last {} MiB are kept in reserve; make room there. \
             {} on",
            self.directory.path().display(),
            free >> 20,
            self.options.reserve_bytes >> 20,
            if free < self.options.reserve_bytes / 4 { "Reads go" } else { "Reads and deletes go" },
        ))
    }

    /// Why no more is written, if so.
    fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    fn fail(&self, reason: &str) {
        *self.failure.lock() = Some(format!(
            "{} could not be written: {reason}; no more is written until it is reopened. Check the disk, then \
             restart this process",
            self.directory.path().display()
        ));
    }

    /// A write found no room, although the reserve was still there a moment before, or there is none.
    fn no_space(&self, reason: &str) -> MetaError {
        MetaError::Full(format!(
            "{} could not be written ({reason}); make room on its file system, and it goes on by itself",
            self.directory.path().display()
        ))
    }

    /// The engine could not be opened anew: its disk does not even take that.
    fn away(&self) -> MetaError {
        MetaError::Unavailable(format!(
            "the file system of {} is full; make room there, and it goes on by itself",
            self.directory.path().display()
        ))
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, MetaError> {
        let database = self.database.read();
        let error = match database.as_ref().map(read) {
            Some(Ok(read)) => return Ok(read),
            Some(Err(error)) => read_error(error),
            None => self.away(),
        };
        match self.failure() {
            Some(reason) if matches!(error, MetaError::Unavailable(_)) => Err(failed(&reason)),
            _ => Err(error),
        }
    }
}

impl EmbeddedMeta {
    /// Opens the store in a directory, which is created if need be. Blocks: after a crash it reads the whole store.
    pub fn open(directory: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        Self::open_from(directory.as_ref(), options, Sources::real())
    }

    /// Whether there is a store in a directory, or something in its place that is not empty.
    pub(crate) fn is_in(directory: impl AsRef<Path>) -> bool {
        open::has_file(directory.as_ref())
    }

    fn open_from(directory: &Path, options: EmbeddedOptions, sources: Sources) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { directory: directory.to_owned(), source };
        let locked = Directory::lock(directory)?;
        if locked.has_unfinished_restore() {
            return Err(OpenError::Unfinished { directory: directory.to_owned() });
        }
        let faults = FaultLog::default();
        let file = (sources.file)(&locked).map_err(|source| OpenError::io(directory, source))?;
        let (database, info) = open::open(directory, file, &faults, options.cache_bytes)?;
        let shared = Arc::new(Shared {
            options,
            sources,
            faults,
            clock: Clock::new(info.clock),
            pace: Pace::new(),
            failure: Mutex::new(None),
            database: RwLock::new(Some(database)),
            reopened: AtomicU64::new(0),
            directory: locked,
        });
        let (queue, requests) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), requests, info.versions);
        let writer =
            std::thread::Builder::new().name("meta-writer".into()).spawn(move || writer.run()).map_err(io)?;
        Ok(Self {
            shared,
            identity: info.identity,
            places: Arc::new(Semaphore::new(QUEUE)),
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// The random identity that the store was given when it was created. A restored copy has the same one.
    pub fn identity(&self) -> [u8; 16] {
        self.identity
    }

    /// Finishes what is queued, leaves all on stable storage and gives the directory back. Blocks.
    pub fn close(self) {
        drop(self);
    }

    fn send(&self, request: Request) -> Result<(), MetaError> {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(request).is_ok());
        if sent { Ok(()) } else { Err(self.stopped()) }
    }

    fn stopped(&self) -> MetaError {
        let reason = self.shared.failure();
        failed(&reason.unwrap_or_else(|| "its writer stopped at a fault of the engine; see the log".into()))
    }

    async fn read<T: Send + 'static>(
        &self,
        small: bool,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, MetaError> {
        let shared = Arc::clone(&self.shared);
        let result = if small && shared.pace.in_place() {
            shared.pace.timed(|| shared.read(read))
        } else {
            let task = tokio::task::spawn_blocking(move || shared.pace.timed(|| shared.read(read)));
            task.await
                .map_err(|error| failed(&format!("a read stopped at a fault of the engine: {error}")))?
        };
        if matches!(result, Err(MetaError::Unavailable(_))) {
            // The engine takes no more requests after any failure of its file. The writer opens it anew at the next
            // commit, so let there be one.
            let (answer, _) = oneshot::channel();
            self.send(Request::MoveMark { answer })?;
        }
        result
    }
}

#[async_trait]
impl MetaStore for EmbeddedMeta {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        check_keys(keys)?;
        let keys = keys.to_vec();
        self.read(keys.len() <= SMALL_READ, move |database| reader::get_many(database, &keys)).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        check_scan(&range, limit)?;
        self.read(limit <= SMALL_READ, move |database| reader::scan(database, &range, limit)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        check_transaction(&transaction)?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the places of the queue are never closed");
        let (answer, answered) = oneshot::channel();
        self.send(Request::Transact { transaction, answer, place })?;
        answered.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        loop {
            if let Some(now) = self.shared.clock.now() {
                return Ok(now);
            }
            let (answer, answered) = oneshot::channel();
            self.send(Request::MoveMark { answer })?;
            answered.await.unwrap_or_else(|_| Err(self.stopped()))?;
        }
    }
}

impl Drop for EmbeddedMeta {
    fn drop(&mut self) {
        // The writer ends once nobody can ask any more.
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(
                directory = %self.shared.directory.path().display(),
                "the metadata store's writer had stopped at a fault of the engine"
            );
        }
    }
}

impl fmt::Debug for EmbeddedMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedMeta")
            .field("directory", &self.shared.directory.path())
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
