//! The one thread that writes: takes what has queued up, applies it in one commit of the engine, then answers.
//!
//! # What a batch is
//! Its transactions are judged in the order in which they came, each seeing the writes of those before it. One that
//! meets a conflict has written nothing, so the others are not affected. One sync serves them all, and no answer goes
//! out before it.
//!
//! # Relaxed transactions
//! Where all of a batch are relaxed, it is committed without a sync and answered at once. The next durable commit
//! takes it to the disk, or one that the writer makes by itself after [`SYNC_WITHIN`]. A crash before that loses it
//! whole, with the memory of its ids. The versions that it was given are not handed out again, because versions are
//! reserved ahead on stable storage.
//!
//! # Failures
//! Nothing of a commit that failed is visible. The engine is opened anew, from what the disk has, so that reads go on
//! and so that the batch can be answered truly: what the disk remembers was committed, the rest was not. If a write
//! merely found no room, writing goes on. After any other failure no more is written until the store is reopened.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::ReadableDatabase;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::Fault;
use super::open;
use super::tables::{CLOCK_ROW, TRANSACTIONS, Tables, Trouble, VERSIONS_ROW, remembered, spell};
use super::{Shared, failed};
use crate::meta::{Durability, MetaError, Outcome, Purpose, Timestamp, Transaction, Version, Write};
use crate::sync::{Arc, Ordering};

/// Most transactions in one commit.
const BATCH_TRANSACTIONS: usize = 256;
/// Most bytes of keys and values in one commit, but for its last transaction.
const BATCH_BYTES: usize = 4 << 20;
/// How long a relaxed commit may wait for a sync.
const SYNC_WITHIN: Duration = Duration::from_millis(500);
/// Versions that are reserved at a time. A crash skips at most as many.
const RESERVED_VERSIONS: u64 = 1 << 16;

/// What the writer is asked for.
pub(super) enum Request {
    /// Apply a transaction.
    Transact {
        transaction: Transaction,
        answer: oneshot::Sender<Result<Outcome, MetaError>>,
        /// A place in the queue, given back with the answer.
        place: OwnedSemaphorePermit,
    },
    /// Move the clock's mark ahead.
    MoveMark { answer: oneshot::Sender<Result<(), MetaError>> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Transact { transaction, .. } => transaction.bytes(),
            Self::MoveMark { .. } => 0,
        }
    }

    fn is_durable(&self) -> bool {
        match self {
            Self::Transact { transaction, .. } => transaction.durability == Durability::Durable,
            Self::MoveMark { .. } => true,
        }
    }

    fn refuse(self, error: MetaError) {
        // Whoever asked may be gone; nobody is owed an answer then.
        match self {
            Self::Transact { answer, place, .. } => {
                drop(place);
                let _ = answer.send(Err(error));
            }
            Self::MoveMark { answer } => drop(answer.send(Err(error))),
        }
    }

    fn answer(self, outcome: Result<Outcome, MetaError>) {
        match (self, outcome) {
            (Self::Transact { answer, place, .. }, outcome) => {
                drop(place);
                let _ = answer.send(outcome);
            }
            (Self::MoveMark { answer }, outcome) => drop(answer.send(outcome.map(|_| ()))),
        }
    }
}

/// The writer's thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    /// The last version handed out.
    version: u64,
    /// No version above this may be handed out before the mark on stable storage is moved.
    reserved: u64,
    /// When the first commit without a sync was made since the last sync.
    unsynced_since: Option<Instant>,
    /// The spell in which all that can be forgotten has been.
    forgotten: Option<u32>,
}

/// What a commit came to.
struct Applied {
    outcomes: Vec<Result<Outcome, MetaError>>,
    version: u64,
    reserved: Option<u64>,
    clock: Option<Timestamp>,
    forgotten: Option<u32>,
}

impl Writer {
    /// A writer that goes on from the versions that the store has reserved.
    pub(super) fn new(shared: Arc<Shared>, requests: Receiver<Request>, reserved: u64) -> Self {
        Self { shared, requests, version: reserved, reserved, unsynced_since: None, forgotten: None }
    }

    /// Serves until nobody can ask any more and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            let next = match self.unsynced_since {
                Some(since) => self.requests.recv_timeout(SYNC_WITHIN.saturating_sub(since.elapsed())),
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(first) => {
                    let batch = self.gather(first);
                    self.serve(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.serve(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.close();
    }

    fn gather(&self, first: Request) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_TRANSACTIONS && bytes < BATCH_BYTES {
            let Ok(request) = self.requests.try_recv() else { break };
            bytes += request.bytes();
            batch.push(request);
        }
        batch
    }

    /// Answers every request of a batch. An empty batch is a sync.
    fn serve(&mut self, batch: Vec<Request>) {
        if let Some(reason) = self.shared.failure() {
            self.unsynced_since = None;
            return batch.into_iter().for_each(|request| request.refuse(failed(&reason)));
        }
        if self.shared.database.read().is_none()
            && let Err(reason) = self.reopen()
        {
            let refusal = self.refusal(&reason);
            return batch.into_iter().for_each(|request| request.refuse(refusal.clone()));
        }
        let batch = self.admit(batch);
        let durable = batch.is_empty() || batch.iter().any(Request::is_durable) || self.short_of_versions();
        match self.apply(&batch, durable) {
            Ok(applied) => {
                self.version = applied.version;
                self.reserved = applied.reserved.unwrap_or(self.reserved);
                self.forgotten = applied.forgotten;
                if let Some(mark) = applied.clock {
                    self.shared.clock.reserve(mark);
                }
                for (request, outcome) in batch.into_iter().zip(applied.outcomes) {
                    request.answer(outcome);
                }
            }
            Err(error) => self.recover(batch, &error),
        }
    }

    /// Refuses what there is no room for. Half of the reserve is left to transactions that make room, and a quarter more to
    /// those of them that only delete.
    fn admit(&self, batch: Vec<Request>) -> Vec<Request> {
        let Some(free) = self.shared.free_bytes() else { return batch };
        let reserve = self.shared.options.reserve_bytes;
        if free >= reserve {
            return batch;
        }
        let mut admitted = Vec::with_capacity(batch.len());
        for request in batch {
            let refused = match &request {
                Request::Transact { transaction, .. } => {
                    let grows = transaction.writes.iter().any(|write| matches!(write, Write::Put(..)));
                    let least = match (grows, transaction.purpose) {
                        (false, _) => reserve / 4,
                        (true, Purpose::MakeRoom) => reserve / 2,
                        (true, Purpose::Store) => reserve,
                    };
                    free < least
                }
                // Reads need the time, and it takes a row that is there already.
                Request::MoveMark { .. } => false,
            };
            if refused {
                request.refuse(self.shared.full(free));
            } else {
                admitted.push(request);
            }
        }
        admitted
    }

    fn short_of_versions(&self) -> bool {
        self.reserved - self.version < BATCH_TRANSACTIONS as u64
    }

    /// Judges and applies a batch in one commit of the engine.
    fn apply(&mut self, batch: &[Request], durable: bool) -> Result<Applied, redb::Error> {
        let database = self.shared.database.read();
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let now = self.shared.clock.unmarked();
        let mut commit = database.begin_write()?;
        if !durable {
            commit.set_durability(redb::Durability::None)?;
        }
        let mut applied = Applied {
            outcomes: Vec::with_capacity(batch.len()),
            version: self.version,
            reserved: None,
            clock: None,
            forgotten: self.forgotten,
        };
        let mut tables = Tables::open(&commit, now)?;
        for request in batch {
            applied.outcomes.push(judge(&mut tables, request, &mut applied.version)?);
        }
        if durable {
            self.reserve(&mut tables, &mut applied)?;
        }
        let committed = applied.version - self.version;
        if committed > 0 && self.forgotten != Some(spell(now)) {
            // Faster than they come, and never so many that somebody waits for it.
            let more = tables.forget(64 + 4 * batch.len())?;
            applied.forgotten = (!more).then(|| spell(now));
        }
        drop(tables);
        let reserved = applied.reserved.is_some() || applied.clock.is_some();
        let syncs = durable && self.unsynced_since.is_some();
        if committed == 0 && !reserved && !syncs {
            commit.abort()?;
            return Ok(applied);
        }
        commit.commit()?;
        self.unsynced_since = match durable {
            true => None,
            false => self.unsynced_since.or_else(|| Some(Instant::now())),
        };
        Ok(applied)
    }

    /// Moves the marks of versions and clock ahead where they come near, in a commit that is made anyway.
    fn reserve(&self, tables: &mut Tables<'_>, applied: &mut Applied) -> Result<(), redb::Error> {
        if self.reserved - self.version < RESERVED_VERSIONS / 2 {
            let reserved = applied.version + RESERVED_VERSIONS;
            tables.set_info(VERSIONS_ROW, &reserved.to_be_bytes())?;
            applied.reserved = Some(reserved);
        }
        applied.clock = self.shared.clock.wanted_mark();
        if let Some(mark) = applied.clock {
            tables.set_info(CLOCK_ROW, &mark.0.to_be_bytes())?;
        }
        Ok(())
    }

    /// Opens the engine anew after a failed commit and answers the batch from what the disk has.
    fn recover(&mut self, batch: Vec<Request>, error: &redb::Error) {
        let fault = self.shared.faults.take();
        let reason = fault.as_ref().map_or_else(|| error.to_string(), Fault::to_string);
        let no_space = matches!(fault, Some(Fault::NoSpace(_)));
        tracing::error!(
            directory = %self.shared.directory.path().display(),
            error = %reason,
            resumes = no_space,
            "the metadata store could not commit"
        );
        if !no_space {
            self.shared.fail(&reason);
        }
        self.unsynced_since = None;
        let refusal = match self.reopen() {
            Ok(()) => self.refusal(&reason),
            Err(error) => self.refusal(&format!("{reason}; and then {error}")),
        };
        for request in batch {
            match self.committed(&request) {
                Some(version) => request.answer(Ok(Outcome::Committed(version))),
                None => request.refuse(refusal.clone()),
            }
        }
    }

    /// Opens the engine anew. Where that finds no room either, it is tried again at the next request.
    fn reopen(&mut self) -> Result<(), String> {
        let mut database = self.shared.database.write();
        *database = None;
        self.shared.reopened.fetch_add(1, Ordering::Relaxed);
        let cache = self.shared.options.cache_bytes;
        let reopened = self.shared.file().map_err(|error| error.to_string()).and_then(|file| {
            let opened = open::open(self.shared.directory.path(), file, &self.shared.faults, cache);
            opened.map_err(|error| error.to_string())
        });
        match reopened {
            Ok((reopened, info)) => {
                *database = Some(reopened);
                // What the failed batch was given may be on the disk: nothing up to the mark is handed out again.
                self.version = info.versions;
                self.reserved = info.versions;
                Ok(())
            }
            Err(error) => {
                if !matches!(self.shared.faults.take(), Some(Fault::NoSpace(_))) {
                    self.shared.fail(&error);
                }
                Err(error)
            }
        }
    }

    /// What to tell those whose transactions are not applied.
    fn refusal(&self, reason: &str) -> MetaError {
        match self.shared.failure() {
            Some(reason) => failed(&reason),
            None => self.shared.no_space(reason),
        }
    }

    /// Whether the disk remembers this request's transaction.
    fn committed(&self, request: &Request) -> Option<Version> {
        let Request::Transact { transaction, .. } = request else { return None };
        let database = self.shared.database.read();
        let snapshot = database.as_ref()?.begin_read().ok()?;
        let table = snapshot.open_table(TRANSACTIONS).ok()?;
        remembered(&table, spell(self.shared.clock.unmarked()), transaction.id).ok().flatten()
    }

    /// Leaves the store as a clean close does: all on stable storage, and the marks where versions and clock are.
    fn close(self) {
        let mut database = self.shared.database.write();
        let mut closes_well = false;
        if self.shared.failure().is_none()
            && let Some(open) = database.as_ref()
        {
            match self.leave_marks(open) {
                Ok(()) => closes_well = true,
                Err(error) => tracing::warn!(
                    directory = %self.shared.directory.path().display(),
                    %error,
                    "the metadata store could not be closed cleanly; relaxed writes of the last second may be lost"
                ),
            }
        }
        // The engine writes and syncs once more as it closes, and says nothing where that fails: the disk does.
        *database = None;
        if closes_well && self.shared.faults.take().is_none() {
            self.shared.directory.note_closed();
        }
    }

    fn leave_marks(&self, database: &redb::Database) -> Result<(), redb::Error> {
        let commit = database.begin_write()?;
        let mut tables = Tables::open(&commit, self.shared.clock.unmarked())?;
        tables.set_info(VERSIONS_ROW, &self.version.to_be_bytes())?;
        tables.set_info(CLOCK_ROW, &self.shared.clock.closing_mark().0.to_be_bytes())?;
        drop(tables);
        Ok(commit.commit()?)
    }
}

/// Judges one request and applies it. The outer error is the engine's and ends the whole batch.
fn judge(
    tables: &mut Tables<'_>,
    request: &Request,
    last: &mut u64,
) -> Result<Result<Outcome, MetaError>, redb::Error> {
    let Request::Transact { transaction, .. } = request else {
        return Ok(Ok(Outcome::Committed(Version(*last))));
    };
    if let Some(version) = tables.remembered(transaction.id)? {
        return Ok(Ok(Outcome::Committed(version)));
    }
    match tables.first_failing(&transaction.checks) {
        Ok(None) => {}
        Ok(Some(position)) => return Ok(Ok(Outcome::Conflict(position))),
        Err(Trouble::Damaged(damaged)) => return Ok(Err(MetaError::Failed(damaged.to_string()))),
        Err(Trouble::Engine(error)) => return Err(error.into()),
    }
    let version = Version(*last + 1);
    tables.apply(transaction.id, &transaction.writes, version)?;
    *last = version.0;
    Ok(Ok(Outcome::Committed(version)))
}
