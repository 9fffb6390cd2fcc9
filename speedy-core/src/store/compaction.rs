//! Getting the room of dead records back.
//!
//! A volume in which little counts is emptied and removed: each record that counts is copied to the volume that is
//! open for its kind, under a higher sequence, and the index points to the copy once that is durable and verified.
//! `docs/format.md` argues why a crash at any point loses nothing. Nothing else stops meanwhile: a record is only
//! claimed while its batch is written.
//!
//! What can't be read is not dropped. A note takes the place of a damaged chunk, and the volume's file stays, under
//! another name and with holes in place of all that was readable.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::copying::{Batch, Outcome};
use super::directory::Directory;
use super::format::{FIRST_RECORD, RecordHeader, RecordKind, VolumeKind};
use super::index::Entry;
use super::scan::{Found, Walk, walk};
use super::throttle::Throttle;
use super::volume::Volume;
use super::volumes::{file_name, number_of_quarantine, quarantine_name};
use super::{ChunkStore, Control, Progress, ReadError, Shared, WriteError};
use crate::sync::{Arc, AtomicBool, Ordering};

/// On a disk that is nearly full every volume with so many percent of dead bytes is worth it, the one with the least
/// to copy first.
const TIGHT_PERCENT: u8 = 10;

/// An open volume is sealed to be compacted once so many bytes in it are dead; in small volumes, a quarter.
const WORTH_SEALING: u64 = 64 << 20;

/// How a compaction is done.
#[derive(Clone, Debug)]
pub struct CompactionOptions {
    dead_percent: u8,
    rate: Option<u64>,
    control: Control,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self { dead_percent: 50, rate: None, control: Control::default() }
    }
}

impl CompactionOptions {
    /// Compact volumes of which at least so many percent are dead: 50 by default, 0 (every volume that takes no
    /// more records) to 100. Volumes that are all dead are removed in any case.
    #[must_use]
    pub fn dead_percent(mut self, percent: u8) -> Self {
        self.dead_percent = percent;
        self
    }

    /// Bytes a second that are copied at most; by default as fast as it goes.
    #[must_use]
    pub fn rate(mut self, bytes: u64) -> Self {
        self.rate = Some(bytes);
        self
    }

    /// Follow the compaction, or end it early, through this.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    fn validate(&self) -> Result<(), CompactionError> {
        if self.dead_percent > 100 {
            let text = format!("dead_percent is {}; it must be 0 to 100", self.dead_percent);
            return Err(CompactionError::Option(text));
        }
        if self.rate == Some(0) {
            return Err(CompactionError::Option(
                "rate is 0 bytes a second; leave it out for no limit".into(),
            ));
        }
        Ok(())
    }
}

/// What a compaction has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Volumes whose files are gone.
    pub removed: u64,
    /// Volumes of which something could not be read: their files are kept, see [`ChunkStore::quarantine`].
    pub quarantined: u64,
    /// Records that were copied.
    pub copied: u64,
    /// Bytes of those records.
    pub copied_bytes: u64,
    /// Chunks that are damaged. Heal them.
    pub damaged: u64,
    /// Bytes of the files that are gone.
    pub freed_bytes: u64,
    /// Volumes that are still there because something in them could not be copied now, and why.
    pub left: Vec<(PathBuf, String)>,
    /// Whether it was cancelled before its end.
    pub cancelled: bool,
}

/// Why a compaction ended early. What it had copied stays copied; another one goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// Another one runs.
    #[error("a compaction of this store is running: wait for it")]
    Busy,
    /// An option is out of its bounds.
    #[error("bad compaction option: {0}")]
    Option(String),
    /// A copy could not be written.
    #[error("compaction: {0}")]
    Write(#[from] WriteError),
    /// A volume can't be looked at, or can't be removed.
    #[error("compaction of {}: {source}; look for disk errors in the system's log", path.display())]
    Io {
        /// The volume.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is left of a volume of which something could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct QuarantineFile {
    /// The file. The store does not touch it any more: remove it when what was in it is healed, or given up.
    pub path: PathBuf,
    /// The number that the volume had.
    pub volume: u32,
}

impl ChunkStore {
    /// Copies what counts out of volumes in which little does, and removes them. Returns when no volume is worth it
    /// any more. Reads, writes and deletes go on beside it.
    ///
    /// # Errors
    /// [`CompactionError::Busy`] while another one runs; a full or failed disk. The store is whole in any case.
    pub fn compact(&self, options: &CompactionOptions) -> Result<CompactionReport, CompactionError> {
        options.validate()?;
        let store = &*self.shared;
        store.check_writable()?;
        let _running = Running::begin(&store.compacting).ok_or(CompactionError::Busy)?;
        let compaction = Compaction {
            store,
            options,
            throttle: Throttle::new(options.rate),
            progress: Progress::default(),
            report: CompactionReport::default(),
        };
        compaction.run()
    }

    /// Files with what could not be read when its volume was compacted, in the order of their numbers.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn quarantine(&self) -> Result<Vec<QuarantineFile>, ReadError> {
        let mut files = Vec::new();
        for directory in &self.shared.volumes.directories {
            let path = directory.path();
            let names = directory.disk.names();
            let names = names.map_err(|source| ReadError::Io { path: path.into(), source })?;
            files.extend(names.iter().filter_map(|name| {
                let volume = number_of_quarantine(name)?;
                Some(QuarantineFile { path: path.join(name), volume })
            }));
        }
        files.sort_unstable_by_key(|file| file.volume);
        Ok(files)
    }
}

/// What there is to say of a chunk whose record is a note of quarantine.
pub(super) fn reason(volume: &Volume, entry: Entry) -> String {
    match volume.read_header(entry.offset()) {
        Ok(Some((RecordHeader { kind: RecordKind::Quarantined { volume }, .. }, _))) => {
            let kept = quarantine_name(volume);
            format!("its bytes could not be read when volume {volume} was compacted; {kept} has what is left")
        }
        _ => "its bytes could not be read when its volume was compacted".into(),
    }
}

/// The right to be the only one at something.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a AtomicBool);

impl<'a> Running<'a> {
    pub(super) fn begin(flag: &'a AtomicBool) -> Option<Self> {
        // Made only by whoever sets the flag, for dropping it clears the flag.
        (!flag.swap(true, Ordering::Acquire)).then(|| Self(flag))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A volume that may be worth it.
struct Candidate {
    volume: Arc<Volume>,
    /// Bytes of the records that count.
    live: u64,
    /// Bytes of all records, and of what never became one.
    size: u64,
}

impl Candidate {
    fn dead(&self) -> u64 {
        self.size.saturating_sub(self.live)
    }

    /// Dead bytes in a million.
    fn dead_share(&self) -> u64 {
        (u128::from(self.dead()) * 1_000_000 / u128::from(self.size.max(1))) as u64
    }

    fn is_worth(&self, percent: u8) -> bool {
        self.live == 0 || self.dead_share() >= u64::from(percent) * 10_000
    }
}

struct Compaction<'a> {
    store: &'a Shared,
    options: &'a CompactionOptions,
    throttle: Throttle,
    progress: Progress,
    report: CompactionReport,
}

impl Compaction<'_> {
    fn run(mut self) -> Result<CompactionReport, CompactionError> {
        let due = self.choose()?;
        self.progress.volumes = due.len() as u64;
        self.progress.bytes = due.iter().map(|candidate| candidate.live).sum();
        self.options.control.report(self.progress);
        let mut failed: Vec<(usize, CompactionError)> = Vec::new();
        for Candidate { volume, .. } in due {
            // A disk that is full or fails does not stop the others.
            let slot = volume.directory.slot;
            if failed.iter().any(|(other, _)| *other == slot) {
                continue;
            }
            if let Err(error) = self.volume(&volume) {
                failed.push((slot, error));
            }
            if self.options.control.is_cancelled() {
                self.report.cancelled = true;
                break;
            }
            self.progress.volumes_done += 1;
            self.options.control.report(self.progress);
        }
        match failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.report),
        }
    }

    /// The volumes that are worth it, the best first.
    fn choose(&self) -> Result<Vec<Candidate>, CompactionError> {
        let mut due = Vec::new();
        // What is on a disk that takes no writes can be neither copied nor removed.
        let all = self.store.volumes.all();
        for volume in all.into_iter().filter(|volume| !volume.directory.is_failed()) {
            let live = self.store.index.usage_of(volume.header.number).record_bytes;
            self.seal_if_worth(&volume, live);
            if volume.is_settled() {
                let len = volume.file.len().map_err(|source| io_error(&volume, source))?;
                due.push(Candidate { volume, live, size: len.saturating_sub(FIRST_RECORD) });
            }
        }
        let tight: Vec<bool> = self.store.volumes.directories.iter().map(|d| self.is_tight(d)).collect();
        let is_tight = |candidate: &Candidate| tight[candidate.volume.directory.slot];
        let percent = self.options.dead_percent;
        due.retain(|candidate| {
            candidate.is_worth(if is_tight(candidate) { percent.min(TIGHT_PERCENT) } else { percent })
        });
        // What is all dead needs no room at all; then the disks that need it most.
        due.sort_by_key(|candidate| {
            let tight = is_tight(candidate);
            let rank = if tight { candidate.live } else { u64::MAX - candidate.dead_share() };
            (candidate.live > 0, !tight, rank)
        });
        Ok(due)
    }

    /// Whether a directory has less room than another volume takes.
    fn is_tight(&self, directory: &Directory) -> bool {
        directory.look_at_space().is_ok_and(|space| space.free < self.store.volumes.volume_size())
    }

    /// Seals a volume that could take records, and is mostly dead or not the one that takes them.
    fn seal_if_worth(&self, volume: &Arc<Volume>, live: u64) {
        let volumes = &self.store.volumes;
        // While a record is in flight it looks dead.
        let Some(end) = volume.idle_end() else { return };
        let candidate = Candidate { volume: Arc::clone(volume), live, size: end - FIRST_RECORD };
        let enough = candidate.dead() >= WORTH_SEALING.min(volumes.volume_size() / 4);
        if !volumes.is_open(volume) || enough && candidate.is_worth(self.options.dead_percent) {
            volumes.retire(volume);
        }
    }

    /// Empties a volume, and removes it if that succeeds.
    fn volume(&mut self, volume: &Arc<Volume>) -> Result<(), CompactionError> {
        let number = volume.header.number;
        let mut left = None;
        let mut entries = self.store.index.entries_of(number).into_iter().peekable();
        while entries.peek().is_some() {
            if self.options.control.is_cancelled() {
                return Ok(());
            }
            let mut batch = Batch::new(self.store);
            let (mut failed, mut damaged) = (None, Vec::new());
            while !batch.is_full()
                && let Some((id, entry)) = entries.next()
            {
                match batch.add(volume, id, entry) {
                    Ok(Outcome::Copied(bytes)) => {
                        self.report.copied += 1;
                        self.report.copied_bytes += bytes;
                    }
                    Ok(Outcome::Quarantined(reason)) => {
                        self.report.damaged += 1;
                        damaged.push((id, reason));
                    }
                    Ok(Outcome::Gone) => {}
                    Ok(Outcome::Left(reason)) => left = Some(format!("chunk {id}: {reason}")),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            // What has its copy keeps it, whatever came after.
            let finished = batch.finish();
            // Only now, for whoever is told may want the claim that the batch had.
            for (id, reason) in damaged {
                self.store.damages.add(id, &reason);
            }
            let bytes = finished?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            self.progress.bytes_done += bytes;
            self.options.control.report(self.progress);
            self.throttle.spend(bytes, &self.options.control);
        }
        if let Some(reason) = left {
            tracing::warn!(volume = %volume.path.display(), reason, "a volume can't be compacted now");
            self.report.left.push((volume.path.clone(), reason));
            return Ok(());
        }
        if self.store.index.usage_of(number).record_bytes == 0 {
            self.remove(volume)?;
        }
        Ok(())
    }

    /// Removes a volume in which nothing counts any more; keeps what could not be read of it.
    fn remove(&mut self, volume: &Arc<Volume>) -> Result<(), CompactionError> {
        let failed = |source| io_error(volume, source);
        // What outranks its records has to be on stable storage, also where writes did not wait for that.
        self.store.volumes.catch_up();
        let Walk { vouched, vouched_gaps, tail, tail_gaps, .. } =
            walk(volume, FIRST_RECORD, None).map_err(failed)?;
        if volume.kind() == VolumeKind::Packed {
            // The walk has read it all.
            let len = volume.file.len().map_err(failed)?;
            self.throttle.spend(len, &self.options.control);
        }
        let number = volume.header.number;
        let (name, disk) = (file_name(number), &*volume.directory.disk);
        let found: Vec<Found> = vouched.into_iter().chain(tail).collect();
        let is_readable = vouched_gaps + tail_gaps == 0;
        if is_readable && !found.iter().any(|found| self.is_unresolved(found)) {
            let len = volume.file.len().map_err(failed)?;
            disk.remove(&name).map_err(failed)?;
            self.store.volumes.forget(number);
            disk.sync().map_err(failed)?;
            self.report.removed += 1;
            self.report.freed_bytes += len;
            return Ok(());
        }
        let kept = quarantine_name(number);
        tracing::warn!(
            volume = %volume.path.display(), kept,
            "something in a volume could not be read: its file is kept for inspection, without what was readable"
        );
        disk.rename(&name, &kept).map_err(failed)?;
        self.store.volumes.forget(number);
        // Holes only under the new name: under the old one the next start would take them for damage.
        disk.sync().map_err(failed)?;
        let readable = found.iter().filter(|found| !self.is_unresolved(found));
        volume.release_at_end(ranges(readable.map(|found| found.geometry(volume.kind()))));
        self.report.quarantined += 1;
        Ok(())
    }

    /// Whether a record is all that there is of a chunk: it was torn, or it is the damaged one of a chunk in quarantine.
    fn is_unresolved(&self, found: &Found) -> bool {
        found.is_chunk() && self.store.index.get(found.id).is_none_or(|entry| entry.is_quarantined())
    }
}

/// The ranges of records, those that follow each other as one.
fn ranges(records: impl Iterator<Item = super::format::Geometry>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for record in records {
        match ranges.last_mut() {
            Some(last) if last.end == record.start => last.end = record.end,
            _ => ranges.push(record.start..record.end),
        }
    }
    ranges
}

fn io_error(volume: &Volume, source: io::Error) -> CompactionError {
    CompactionError::Io { path: volume.path.clone(), source }
}
