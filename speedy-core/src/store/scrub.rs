//! Verifying all that a store holds, before somebody needs it.
//!
//! A pass reads every record that counts, volume by volume, from the disk and not from the page cache. What it finds
//! damaged is remembered and told, see [`ChunkStore::on_damage`]; it stays where it is until it is healed, deleted, or
//! carried to quarantine by a compaction. How far the pass is survives a restart.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::compaction::{Running, reason};
use super::copying::{Batch, verify};
use super::disk::Disk;
use super::format::{FIRST_RECORD, Head, PAGE, ScrubState, ScrubTally};
use super::index::Entry;
use super::throttle::Throttle;
use super::volume::Volume;
use super::{ChunkStore, Control, Progress, ReadError, Shared, now};
use crate::id::ChunkId;
use crate::sync::Arc;

const FILE: &str = "SCRUB";
const ASIDE: &str = "SCRUB.new";

/// How much of a pass is done again at most after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How a scrub is done.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    rate: Option<u64>,
    control: Control,
}

impl ScrubOptions {
    /// Bytes a second that are read at most; by default as fast as it goes.
    #[must_use]
    pub fn rate(mut self, bytes: u64) -> Self {
        self.rate = Some(bytes);
        self
    }

    /// Follow the scrub, or end it early, through this.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }
}

/// A pass over all records of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ScrubPass {
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub completed: SystemTime,
    /// Records that were read: chunks and tombstones.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Chunks that were found damaged.
    pub damaged: u64,
}

/// What a scrub has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Records that were read by this call. The pass may have begun earlier.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Chunks that are damaged, those in quarantine included. Heal them.
    pub damaged: u64,
    /// Tombstones and notes of quarantine that could not be read, and were written again.
    pub rewritten: u64,
    /// Whether it was cancelled. The next one goes on from there.
    pub cancelled: bool,
}

/// Why there was no scrub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrubError {
    /// Another one runs.
    #[error("a scrub of this store is running: wait for it")]
    Busy,
    /// The store was opened to be read: [`ChunkStore::check`] verifies it.
    #[error("the store was opened to be read: check it, or open it without read_only")]
    ReadOnly,
    /// An option is out of its bounds.
    #[error("bad scrub option: {0}")]
    Option(String),
}

impl ChunkStore {
    /// Reads and verifies every record that counts, to its last byte; goes on with the pass that was cut off, if one
    /// was. Damage is no error: it is counted, [listed](Self::damaged) and [told](Self::on_damage).
    ///
    /// # Errors
    /// [`ScrubError::Busy`] while another one runs.
    pub fn scrub(&self, options: &ScrubOptions) -> Result<ScrubReport, ScrubError> {
        if options.rate == Some(0) {
            return Err(ScrubError::Option("rate is 0 bytes a second; leave it out for no limit".into()));
        }
        let store = &*self.shared;
        if store.is_read_only {
            return Err(ScrubError::ReadOnly);
        }
        let _running = Running::begin(&store.scrubbing).ok_or(ScrubError::Busy)?;
        let scrub = Scrub {
            store,
            control: &options.control,
            throttle: Throttle::new(options.rate),
            state: store.scrub_state(),
            report: ScrubReport::default(),
            progress: Progress::default(),
            saved: Instant::now(),
        };
        Ok(scrub.run())
    }

    /// The last complete pass over the store, also of an earlier process.
    pub fn last_scrub(&self) -> Option<ScrubPass> {
        let ScrubState { last, completed, .. } = self.shared.scrub_state();
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let ScrubTally { started, records, bytes, damaged } = last;
        (completed > 0).then(|| ScrubPass {
            started: at(started),
            completed: at(completed),
            records,
            bytes,
            damaged,
        })
    }
}

impl Shared {
    /// How far the scrub is; read from its file the first time.
    fn scrub_state(&self) -> ScrubState {
        let mut known = self.scrub.lock();
        *known.get_or_insert_with(|| {
            let directories = self.volumes.directories.iter();
            let known = directories.filter_map(|d| load(&*d.disk)).filter(|state| state.store == self.id);
            // The directories may have been named in another order before, or the first one have failed.
            known.max_by_key(|state| (state.completed, state.pass)).unwrap_or(ScrubState::new(self.id))
        })
    }

    /// The disk that gets the scrub's file: the first that works.
    fn scrub_disk(&self) -> &dyn Disk {
        let directories = &self.volumes.directories;
        let healthy = directories.iter().find(|directory| !directory.is_failed());
        &*healthy.unwrap_or(&directories[0]).disk
    }
}

/// What the file says; nothing where it is missing or damaged.
fn load(disk: &dyn Disk) -> Option<ScrubState> {
    let mut bytes = Vec::new();
    disk.open(FILE).ok()?.read_into(&mut bytes, FIRST_RECORD as usize, 0).ok()?;
    ScrubState::decode(&bytes).ok()
}

fn save(disk: &dyn Disk, state: &ScrubState) -> std::io::Result<()> {
    // One left by a process that was killed is replaced.
    let _ = disk.remove(ASIDE);
    let file = disk.create(ASIDE)?;
    file.write_at(&state.encode(), 0)?;
    file.sync_data()?;
    disk.rename(ASIDE, FILE)?;
    disk.sync()
}

struct Scrub<'a> {
    store: &'a Shared,
    control: &'a Control,
    throttle: Throttle,
    state: ScrubState,
    report: ScrubReport,
    progress: Progress,
    saved: Instant,
}

impl Scrub<'_> {
    fn run(mut self) -> ScrubReport {
        if self.state.pass.started == 0 {
            self.state.pass = ScrubTally { started: now(), ..ScrubTally::default() };
        }
        // What is written later is verified by the next pass, and what is moved, by whoever moves it.
        let volumes = self.store.volumes.all();
        let volumes = volumes.iter().filter(|volume| volume.header.number >= self.state.volume);
        let numbers: Vec<u32> = volumes.map(|volume| volume.header.number).collect();
        self.progress.volumes = numbers.len() as u64;
        self.progress.bytes =
            numbers.iter().map(|&number| self.store.index.usage_of(number).record_bytes).sum();
        self.control.report(self.progress);
        for number in numbers {
            if number > self.state.volume {
                (self.state.volume, self.state.offset) = (number, 0);
            }
            if let Some(volume) = self.store.volumes.get(number) {
                self.volume(&volume);
            }
            if self.control.is_cancelled() {
                self.report.cancelled = true;
                self.save();
                return self.report;
            }
            self.progress.volumes_done += 1;
            self.control.report(self.progress);
        }
        let ScrubState { store, pass, .. } = self.state;
        self.state = ScrubState { last: pass, completed: now(), ..ScrubState::new(store) };
        self.save();
        self.report
    }

    fn volume(&mut self, volume: &Arc<Volume>) {
        // What is in memory says nothing about the disk.
        volume.file.forget_cached(self.state.offset.max(FIRST_RECORD) / PAGE * PAGE);
        for (id, entry) in self.store.index.entries_of(volume.header.number) {
            if entry.offset() < self.state.offset {
                continue;
            }
            if self.control.is_cancelled() {
                return;
            }
            self.record(volume, id, entry);
            let bytes = entry.record_bytes();
            self.state.offset = entry.offset() + bytes;
            self.progress.bytes_done += bytes;
            self.throttle.spend(bytes, self.control);
            if self.saved.elapsed() >= SAVE_EVERY {
                self.control.report(self.progress);
                self.save();
            }
        }
        // Cold data that was read only for this does not push out what is in use.
        volume.file.forget_cached(FIRST_RECORD);
    }

    fn record(&mut self, volume: &Arc<Volume>, id: ChunkId, entry: Entry) {
        let Some(verdict) = verdict(self.store, volume, id, entry) else { return };
        self.report.records += 1;
        self.report.bytes += entry.record_bytes();
        self.state.pass.records += 1;
        self.state.pass.bytes += entry.record_bytes();
        let reason = match verdict {
            Err(_) if !entry.is_chunk() => return self.rewrite(volume, id, entry),
            verdict => match damage(volume, entry, verdict) {
                Some(reason) => reason,
                None => return,
            },
        };
        self.report.damaged += 1;
        self.state.pass.damaged += 1;
        self.store.damages.add(id, &reason);
    }

    /// Writes a tombstone again that could not be read, before a restart forgets it and the chunk comes back.
    fn rewrite(&mut self, volume: &Arc<Volume>, id: ChunkId, entry: Entry) {
        let mut batch = Batch::new(self.store);
        match batch.add(volume, id, entry).map(drop).and_then(|()| batch.finish().map(drop)) {
            Ok(()) => self.report.rewritten += 1,
            Err(error) => {
                tracing::error!(chunk = %id, %error, "a damaged tombstone could not be written again")
            }
        }
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        *self.store.scrub.lock() = Some(self.state);
        let disk = self.store.scrub_disk();
        if let Err(error) = save(disk, &self.state) {
            let path: PathBuf = disk.path().join(FILE);
            tracing::warn!(file = %path.display(), %error, "how far the scrub is could not be saved: a restart begins it again");
        }
    }
}

/// Whether a record can be read; `None` if it does not count any more. Nothing is called damaged that was deleted
/// or moved meanwhile: that is looked at again, under the claim of the id.
pub(super) fn verdict(
    store: &Shared,
    volume: &Arc<Volume>,
    id: ChunkId,
    entry: Entry,
) -> Option<Result<(), ReadError>> {
    if store.index.get(id) != Some(entry) {
        return None;
    }
    if verify(volume, id, entry).is_ok() {
        return Some(Ok(()));
    }
    let _claim = store.claims.claim(id);
    if store.index.get(id) != Some(entry) {
        return None;
    }
    volume.file.forget_cached(entry.offset() / PAGE * PAGE);
    Some(verify(volume, id, entry))
}

/// What is wrong with the record of a verdict, if anything is.
pub(super) fn damage(volume: &Volume, entry: Entry, verdict: Result<(), ReadError>) -> Option<String> {
    match verdict {
        Err(ReadError::Damaged { reason, .. }) => Some(reason),
        Err(error) => Some(error.to_string()),
        Ok(()) if entry.is_quarantined() => Some(reason(volume, entry)),
        Ok(()) => None,
    }
}
