//! Verifying a store to its last byte, and telling what is wrong with it.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::id::ChunkId;
use crate::store::damage::REMEMBERED;
use crate::store::format::FIRST_RECORD;
use crate::store::index::{Entry, Index};
use crate::store::scrub::{damage, verdict};
use crate::store::throttle::Throttle;
use crate::store::{
    ChunkStore, Control, DirectoryInfo, LostVolume, OpenError, Progress, QuarantineFile, RecoveryReport,
    Shared, SkippedVolume, StoreOptions, recovery,
};

/// Entries of an index that are compared at a time.
const PAGE: usize = 65_536;

/// How a check is done.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    rate: Option<u64>,
    control: Control,
}

impl CheckOptions {
    /// Bytes a second that are read at most; by default as fast as it goes.
    ///
    /// # Panics
    /// For 0.
    #[must_use]
    pub fn rate(mut self, bytes: u64) -> Self {
        assert!(bytes > 0, "a check that reads nothing never ends");
        self.rate = Some(bytes);
        self
    }

    /// Follow the check, or end it early, through this.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }
}

/// What a check has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Volumes that were read.
    pub volumes: u64,
    /// Records that were verified: chunks, tombstones and notes of quarantine.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Chunks that can't be read whole, and what is wrong with them; the first 65,536.
    pub damaged: Vec<(ChunkId, String)>,
    /// How many there are in all.
    pub damaged_chunks: u64,
    /// Tombstones that can't be read. A scrub of the open store writes them again; a restart before that forgets them, and
    /// their chunks may come back.
    pub damaged_tombstones: Vec<ChunkId>,
    /// Places in volumes where no record can be read.
    pub damaged_regions: u64,
    /// Complete records behind the last mark of a volume that are not whole: a power cut tore them before they were
    /// acknowledged, or they are damaged, which nobody can tell apart.
    pub torn: u64,
    /// Writes that were cut off before their end. They were never acknowledged.
    pub unfinished: u64,
    /// Volume files that are not served.
    pub skipped: Vec<SkippedVolume>,
    /// Volumes that were there at the last checkpoint, with records that are nowhere any more. Looked for in a store that
    /// was opened to be read.
    pub lost: Vec<LostVolume>,
    /// Directories that are missing, or were not read whole.
    pub absent: Vec<DirectoryInfo>,
    /// Checkpoints that can't be used, and why. They cost time, never data.
    pub unused_checkpoints: Vec<(PathBuf, String)>,
    /// Ids of which a checkpoint says something else than the volumes do: an error of the program, to be reported.
    /// Looked for in a store that was opened to be read.
    pub contradictions: Vec<ChunkId>,
    /// Files with what could not be read when its volume was compacted.
    pub quarantine: Vec<QuarantineFile>,
    /// Whether it was cancelled before its end.
    pub cancelled: bool,
}

impl CheckReport {
    /// Whether nothing was found that may cost data. What a crash leaves behind, and what is only slower, is no damage.
    pub fn is_sound(&self) -> bool {
        self.damaged_chunks == 0
            && self.damaged_tombstones.is_empty()
            && self.damaged_regions == 0
            && self.absent.is_empty()
            && self.lost.is_empty()
            && self.contradictions.is_empty()
            && !self.skipped.iter().any(|volume| volume.reason.is_damage())
    }
}

impl ChunkStore {
    /// Reads and verifies every record that counts, to its last byte, from the disk and not from the page cache. Reads
    /// and writes go on beside it; what is written meanwhile is not looked at. Other than a [scrub](Self::scrub) it
    /// changes nothing, and always begins at the beginning.
    ///
    /// A store that was opened [to be read](StoreOptions::read_only) has all its volumes walked as well, and what its
    /// checkpoints say compared with what was found.
    ///
    /// # Errors
    /// Where the volumes of a store that was opened to be read can't be walked. Damage is no error: the report has it.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport, OpenError> {
        let mut report = CheckReport::default();
        let store = &*self.shared;
        if store.is_read_only {
            let (index, found) = walk_again(store)?;
            report.take(found);
            report.contradictions = differences(&store.index, &index);
        } else {
            report.take(store.recovery.clone());
            // Others of its group may have given it back its chunks since.
            report.lost.clear();
        }
        report.unused_checkpoints = store.recovery.unused_checkpoints.clone();
        report.quarantine = self.quarantine().unwrap_or_default();
        Check { store, options, report: &mut report }.run();
        let damaged: HashSet<ChunkId> = report.damaged.iter().map(|(id, _)| *id).collect();
        // A walk can't find what a checkpoint still knows of.
        report.contradictions.retain(|id| !damaged.contains(id) && !report.damaged_tombstones.contains(id));
        Ok(report)
    }
}

impl CheckReport {
    fn take(&mut self, found: RecoveryReport) {
        let RecoveryReport { unfinished, torn, damaged_regions, skipped, absent, lost, .. } = found;
        (self.unfinished, self.torn, self.damaged_regions) = (unfinished, torn, damaged_regions);
        (self.skipped, self.absent, self.lost) = (skipped, absent, lost);
    }
}

/// Reads all volumes as if there were no checkpoint.
fn walk_again(store: &Shared) -> Result<(Index, RecoveryReport), OpenError> {
    let options = StoreOptions::default().read_only_by_walking();
    let (_, index, mut report) = recovery::recover(&store.volumes.directories, store.id, &options)?;
    report.absent = store.recovery.absent.clone();
    // Only a checkpoint knows of them.
    report.lost = store.recovery.lost.clone();
    Ok((index, report))
}

/// Ids of which two indexes say different things; the first of them.
fn differences(first: &Index, second: &Index) -> Vec<ChunkId> {
    let mut found = Vec::new();
    let mut after = None;
    while found.len() < REMEMBERED {
        let ((a, more_a), (b, more_b)) = (first.page(after, PAGE), second.page(after, PAGE));
        if a == b {
            match a.last() {
                Some((last, _)) if more_a || more_b => after = Some(*last),
                _ => break,
            }
            continue;
        }
        // Up to where both pages reach, whichever of them has gaps.
        let reach = |page: &[(ChunkId, _)], more: bool| {
            if more { page.last().map_or(ChunkId::new(0), |(id, _)| *id) } else { ChunkId::new(u64::MAX) }
        };
        let upto = reach(&a, more_a).min(reach(&b, more_b));
        let ids = a.iter().chain(&b).map(|(id, _)| *id).filter(|id| *id <= upto);
        found.extend(ids.filter(|id| !is_same(first.get(*id), second.get(*id))));
        if !more_a && !more_b {
            break;
        }
        after = Some(upto);
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(REMEMBERED);
    found
}

/// Whether two indexes say the same of an id. It does not matter which of several tombstones they know.
fn is_same(first: Option<Entry>, second: Option<Entry>) -> bool {
    let is_tombstone = |entry: Option<Entry>| entry.is_some_and(|entry| entry.is_tombstone());
    first == second || is_tombstone(first) && is_tombstone(second)
}

struct Check<'a> {
    store: &'a Shared,
    options: &'a CheckOptions,
    report: &'a mut CheckReport,
}

impl Check<'_> {
    fn run(self) {
        let Self { store, options, report } = self;
        let control = &options.control;
        let mut throttle = Throttle::new(options.rate);
        let volumes: Vec<u32> = store.volumes.all().iter().map(|volume| volume.header.number).collect();
        let bytes = |number: &u32| store.index.usage_of(*number).record_bytes;
        let mut progress = Progress {
            volumes: volumes.len() as u64,
            bytes: volumes.iter().map(bytes).sum(),
            ..Progress::default()
        };
        control.report(progress);
        for number in volumes {
            // One that is gone was compacted: what counted in it was verified on its way.
            let Some(volume) = store.volumes.get(number) else { continue };
            volume.file.forget_cached(FIRST_RECORD);
            for (id, entry) in store.index.entries_of(number) {
                if control.is_cancelled() {
                    report.cancelled = true;
                    return;
                }
                let bytes = entry.record_bytes();
                if let Some(verdict) = verdict(store, &volume, id, entry) {
                    report.records += 1;
                    report.bytes += bytes;
                    if entry.is_tombstone() {
                        report.damaged_tombstones.extend(verdict.is_err().then_some(id));
                    } else if let Some(reason) = damage(&volume, entry, verdict) {
                        store.damages.add(id, &reason);
                        report.damaged_chunks += 1;
                        if report.damaged.len() < REMEMBERED {
                            report.damaged.push((id, reason));
                        }
                    }
                }
                progress.bytes_done += bytes;
                control.report(progress);
                throttle.spend(bytes, control);
            }
            // What was read only for this does not push out what is in use.
            volume.file.forget_cached(FIRST_RECORD);
            report.volumes += 1;
            progress.volumes_done += 1;
            control.report(progress);
        }
        report.damaged.sort_unstable_by_key(|(id, _)| *id);
    }
}
