//! Opening what is there: from the volumes to the index.
//!
//! Nothing is cut off, overwritten or removed. A volume is walked from header to header. What stands before its last
//! mark is on stable storage, for the mark was written after a sync. What stands behind it was written before a
//! crash: it is brought to stable storage, read back from the disk, and verified to the last byte before it counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint};
use super::directory::{Directory, DirectoryInfo};
use super::disk::DiskFile;
use super::format::{
    Covered, FIRST_RECORD, FORMAT_VERSION, Head, HeadError, PAGE, RecordKind, VolumeHeader, VolumeKind,
};
use super::gone::{Gone, LostVolume};
use super::index::{Entry, Index, Row};
use super::scan::{Found, Mark, Walk, is_whole, walk};
use super::volume::{Remains, Volume};
use super::volumes::{Recovered, number_of, number_of_quarantine};
use super::{OpenError, StoreOptions};
use crate::id::{ChunkId, StoreId};
use crate::sync::{Arc, AtomicU64, Ordering};

/// What opening a store has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Volumes that are served.
    pub volumes: usize,
    /// Bytes of chunks that no mark vouched for and that were therefore verified.
    pub verified_bytes: u64,
    /// Writes that a crash or a client had cut off before their end.
    pub unfinished: u64,
    /// Records behind the last mark that are complete but not whole: writes that a power cut has torn. They are not
    /// served, and stay on disk.
    pub torn: u64,
    /// Places where no record could be read and that are not empty. They stay on disk.
    pub damaged_regions: u64,
    /// Volume files that are not served.
    pub skipped: Vec<SkippedVolume>,
    /// Volumes that a checkpoint knows, with records that are nowhere any more.
    pub lost: Vec<LostVolume>,
    /// Chunks and tombstones that came from a checkpoint, so that their records were not read.
    pub from_checkpoints: u64,
    /// Checkpoints that were not used, and why. They cost time, never data.
    pub unused_checkpoints: Vec<(PathBuf, String)>,
    /// Directories of the store that are missing, or that could not be read whole: what is not found elsewhere may
    /// be there.
    pub absent: Vec<DirectoryInfo>,
}

impl RecoveryReport {
    /// With these volumes, but those that are there and are told as skipped.
    fn with_lost(mut self, lost: Vec<LostVolume>) -> Self {
        let is_told = |lost: &LostVolume| self.skipped.iter().any(|skipped| skipped.path == lost.path);
        self.lost = lost.into_iter().filter(|lost| !is_told(lost)).collect();
        self
    }
}

/// A volume file that is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SkippedVolume {
    /// The file. It is left alone.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why a volume file is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SkipReason {
    /// A crash cut off its creation: nothing in it was ever acknowledged.
    Unfinished,
    /// Both copies of its header are damaged, and with them all that is in it is lost.
    Damaged,
    /// The disk does not give out its header; the system's error.
    Unreadable(String),
    /// It belongs to another store.
    OtherStore(StoreId),
    /// It is a copy of another volume file, by its name or by what it says of itself.
    Copy(String),
}

impl SkipReason {
    /// Whether chunks of this store may be lost with the file.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged | Self::Unreadable(_))
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("a crash cut off its creation"),
            Self::Damaged => f.write_str("both copies of its header are damaged"),
            Self::Unreadable(error) => write!(f, "its header can't be read: {error}"),
            Self::OtherStore(store) => write!(f, "it belongs to store {store}"),
            Self::Copy(of) => write!(f, "it is a copy of {of}"),
        }
    }
}

/// Reads all volumes of the directories into an index. A directory that can't be read to the end costs what it
/// holds, as long as another one can.
///
/// A checkpoint leaves out an id whose latest record is not covered yet, for that one is read. If it can't be read, an
/// earlier record may be all that is left of the id, in a volume that the checkpoint covers: then all volumes are walked.
pub(super) fn recover(
    directories: &[Arc<Directory>],
    store: StoreId,
    options: &StoreOptions,
) -> Result<(Recovered, Index, RecoveryReport), OpenError> {
    let found = recover_with(directories, store, options, options.trusts_checkpoints(), &HashSet::new())?;
    let lost = found.gone.lost(&found.index);
    if found.report.from_checkpoints == 0 || !found.has_lost && lost.is_empty() {
        return Ok((found.recovered, found.index, found.report.with_lost(lost)));
    }
    tracing::warn!("something that a checkpoint counts on can't be read: all volumes are walked");
    let walked = recover_with(directories, store, options, false, found.gone.volumes())?;
    // Numbers that were given out to records which are lost are not given out again.
    walked.recovered.sequence.fetch_max(found.recovered.sequence.load(Ordering::Relaxed), Ordering::Relaxed);
    let report = RecoveryReport { unused_checkpoints: found.report.unused_checkpoints, ..walked.report };
    let lost = found.gone.lost(&walked.index);
    Ok((walked.recovered, walked.index, report.with_lost(lost)))
}

/// What came of a look at all directories.
struct Looked {
    recovered: Recovered,
    index: Index,
    report: RecoveryReport,
    /// Whether something was found in what was walked that can't be read.
    has_lost: bool,
    /// What checkpoints that were trusted have of volumes that are not there.
    gone: Gone,
}

/// Volumes that were `cut_off` take no records: one that is put back in their place may have more than they.
fn recover_with(
    directories: &[Arc<Directory>],
    store: StoreId,
    options: &StoreOptions,
    trusts_checkpoints: bool,
    cut_off: &HashSet<u32>,
) -> Result<Looked, OpenError> {
    let mut recovery = Recovery {
        store,
        options,
        index: Index::default(),
        volumes: BTreeMap::new(),
        open: Vec::new(),
        covered: HashMap::new(),
        gone: Gone::default(),
        cut_off,
        sequence: Arc::new(AtomicU64::new(1)),
        unreadable: 0,
        has_lost: false,
        report: RecoveryReport::default(),
    };
    let mut failed = 0;
    let mut each = |recovery: &mut Recovery<'_>, step: &dyn Fn(&mut Recovery<'_>, &Arc<Directory>) -> _| {
        for directory in directories.iter().filter(|directory| !directory.is_failed()) {
            match step(recovery, directory) {
                Ok(()) => {}
                Err(OpenError::Io { path, source } | OpenError::NotWritable { path, source })
                    if failed + 1 < directories.len() =>
                {
                    failed += 1;
                    directory.fail(format!("{}: {source}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    each(&mut recovery, &|recovery, directory| recovery.open_volumes(directory, directories))?;
    if trusts_checkpoints {
        let checkpoints = recovery.load_checkpoints(directories);
        recovery.take_checkpoints(checkpoints);
    }
    each(&mut recovery, &|recovery, directory| recovery.read_volumes(directory))?;
    recovery.report.volumes = recovery.volumes.len();
    let Recovery { volumes, open, sequence, index, report, covered, has_lost, gone, .. } = recovery;
    let recovered = Recovered { volumes, open, sequence, covered };
    Ok(Looked { recovered, index, report, has_lost, gone })
}

struct Recovery<'a> {
    store: StoreId,
    options: &'a StoreOptions,
    index: Index,
    volumes: BTreeMap<u32, Arc<Volume>>,
    open: Vec<Arc<Volume>>,
    /// Up to where the index knows the volumes already.
    covered: HashMap<u32, Covered>,
    /// What checkpoints have of volumes that are not there.
    gone: Gone,
    /// Volumes that a look before this one found shorter than a checkpoint knows them.
    cut_off: &'a HashSet<u32>,
    sequence: Arc<AtomicU64>,
    /// Volumes whose header the disk did not give out.
    unreadable: usize,
    /// Whether a record or a region that was walked can't be read.
    has_lost: bool,
    report: RecoveryReport,
}

impl Recovery<'_> {
    fn open_volumes(&mut self, directory: &Arc<Directory>, all: &[Arc<Directory>]) -> Result<(), OpenError> {
        let path = directory.path();
        let io_error = |e| OpenError::io(path.to_path_buf(), e);
        let names = directory.disk.names().map_err(io_error)?;
        // A process that was killed after it had removed a volume, and before it had synced the directory, must not let
        // the volume come back after what is decided now from the others.
        directory.disk.sync().map_err(io_error)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        for number in names.iter().filter_map(|name| number_of(name).or(number_of_quarantine(name))) {
            // Of any volume's file, whether or not it can be read, and of whichever directory it was made in.
            all.iter().for_each(|directory| directory.see_number(number));
        }
        let unreadable = self.unreadable;
        numbers.iter().try_for_each(|&number| self.volume(directory, number))?;
        // One bad sector costs its volume; where none can be read it is the disk.
        if all.len() > 1 && !numbers.is_empty() && self.unreadable - unreadable == numbers.len() {
            directory.fail("no volume can be read".into());
        }
        Ok(())
    }

    fn volume(&mut self, directory: &Arc<Directory>, number: u32) -> Result<(), OpenError> {
        let name = super::volumes::file_name(number);
        let path = directory.path().join(&name);
        let io_error = |e: io::Error| OpenError::from_write(path.clone(), e);
        let file = directory.disk.open(&name).map_err(io_error)?;
        let header = match self.identify(&*file, number, &path)? {
            Ok(header) => header,
            Err(reason) => {
                tracing::warn!(volume = %path.display(), %reason, "a volume is left alone");
                self.report.skipped.push(SkippedVolume { path, reason });
                return Ok(());
            }
        };
        let sequence = Arc::clone(&self.sequence);
        let volume = Arc::new(Volume::new(header, file, true, self.options, sequence, directory));
        self.volumes.insert(number, volume);
        Ok(())
    }

    /// The checkpoints of the directories, with what they say of volumes that are there.
    fn load_checkpoints(&mut self, directories: &[Arc<Directory>]) -> Vec<Checkpoint> {
        let mut checkpoints = Vec::new();
        for directory in directories.iter().filter(|directory| !directory.is_failed()) {
            let unused = &mut self.report.unused_checkpoints;
            let kind_of = |number| self.volumes.get(&number).map(|volume| volume.kind());
            let loaded = checkpoint::load(&*directory.disk, self.store, &kind_of, unused);
            let Some(mut checkpoint) = loaded else { continue };
            let is_there = |covered: &Covered| {
                self.volumes.get(&covered.number).is_some_and(|volume| {
                    Arc::ptr_eq(&volume.directory, directory)
                        && volume.header.identity == covered.identity
                        && volume.file.len().is_ok_and(|len| covered.offset <= len)
                })
            };
            let gone = checkpoint.covered.extract_if(|_, covered| !is_there(covered));
            let gone: Vec<u32> = gone.map(|(number, _)| number).collect();
            // No other volume takes the number of one that may be put back.
            for &number in &gone {
                directories.iter().for_each(|directory| directory.see_number(number));
            }
            if !gone.is_empty() {
                self.gone.add(directory.path(), checkpoint.clone(), gone);
            }
            checkpoints.push(checkpoint);
        }
        checkpoints
    }

    /// Fills the index with what the checkpoints have of volumes that are there.
    fn take_checkpoints(&mut self, checkpoints: Vec<Checkpoint>) {
        for checkpoint in &checkpoints {
            self.see_sequence(checkpoint.highest_sequence);
        }
        fn rows(checkpoint: &Checkpoint) -> impl Iterator<Item = Row> {
            checkpoint.rows().filter(|row| checkpoint.covered.contains_key(&row.entry().volume))
        }
        if let [checkpoint] = &checkpoints[..] {
            self.index.load(rows(checkpoint));
        } else {
            for row in checkpoints.iter().flat_map(rows) {
                self.enter_entry(ChunkId::new(row.id()), row.entry(), None);
            }
        }
        let usage = self.index.usage();
        self.report.from_checkpoints = usage.chunks + usage.tombstones + usage.quarantined;
        for covered in checkpoints.into_iter().flat_map(|checkpoint| checkpoint.covered.into_values()) {
            self.report.unfinished += covered.unfinished;
            self.report.damaged_regions += covered.gaps;
            self.covered.insert(covered.number, covered);
        }
    }

    fn read_volumes(&mut self, directory: &Arc<Directory>) -> Result<(), OpenError> {
        let volumes: Vec<_> = self
            .volumes
            .values()
            .filter(|volume| Arc::ptr_eq(&volume.directory, directory))
            .cloned()
            .collect();
        for volume in volumes {
            self.records(&volume).map_err(|error| OpenError::from_write(volume.path.clone(), error))?;
        }
        Ok(())
    }

    /// Reads the header of a volume; or says why the volume is left alone.
    fn identify(
        &mut self,
        file: &dyn DiskFile,
        number: u32,
        path: &Path,
    ) -> Result<Result<VolumeHeader, SkipReason>, OpenError> {
        let mut head = vec![0; FIRST_RECORD as usize];
        let read = match file.read_at(&mut head, 0) {
            Ok(read) => read,
            Err(error) => {
                self.unreadable += 1;
                return Ok(Err(SkipReason::Unreadable(error.to_string())));
            }
        };
        Ok(match VolumeHeader::decode(&head[..read]) {
            Err(HeadError::OtherVersion(found)) => {
                let path = path.to_path_buf();
                return Err(OpenError::NewerFormat { path, found, supported: FORMAT_VERSION });
            }
            Err(HeadError::Unfinished) => Err(SkipReason::Unfinished),
            Err(HeadError::Damaged) => Err(SkipReason::Damaged),
            Ok(header) if header.store != self.store => Err(SkipReason::OtherStore(header.store)),
            Ok(header) if header.number != number => {
                Err(SkipReason::Copy(super::volumes::file_name(header.number)))
            }
            Ok(header) => match self.volumes.get(&number) {
                Some(same) => Err(SkipReason::Copy(same.path.display().to_string())),
                None => Ok(header),
            },
        })
    }

    fn records(&mut self, volume: &Arc<Volume>) -> io::Result<()> {
        let covered = self.covered.get(&volume.header.number);
        let (from, mark) = covered.map_or((FIRST_RECORD, None), |covered| {
            (covered.offset, Some(if covered.sealed { Mark::Final } else { Mark::Open }))
        });
        let first = walk(volume, from, mark)?;
        let (unfinished, gaps) = (first.vouched_unfinished, first.vouched_gaps);
        self.report.unfinished += unfinished;
        self.report.damaged_regions += gaps;
        self.has_lost |= gaps > 0;
        let before =
            covered.map_or(Remains::default(), |c| Remains { unfinished: c.unfinished, gaps: c.gaps });
        let remains = Remains { unfinished: before.unfinished + unfinished, gaps: before.gaps + gaps };
        volume.recovered(first.mark_end(), first.sealed, remains);
        for found in &first.vouched {
            self.enter(volume, found);
        }
        self.see_sequence(first.highest_sequence);
        if first.ends_with_mark() {
            let number = volume.header.number;
            let is_cut_off = self.cut_off.contains(&number) || self.gone.volumes().contains(&number);
            if !first.sealed && !is_cut_off && first.end < self.options.volume_size {
                volume.reopen(first.end);
                self.open.push(Arc::clone(volume));
            }
            return Ok(());
        }
        let from = first.vouched_end;
        drop(first);
        self.after_crash(volume, from)
    }

    /// Takes over what stands behind the last mark.
    fn after_crash(&mut self, volume: &Arc<Volume>, from: u64) -> io::Result<()> {
        // What the page cache kept over a killed process is not durable yet, but what is served, and above all what a
        // second try of a write is compared with, has to be. And pages whose writeback has failed look clean.
        let synced = volume.file.sync_data();
        if let Err(error) = &synced {
            tracing::error!(volume = %volume.path.display(), %error, "a volume can't be synced after a crash");
        }
        volume.file.forget_cached(from / PAGE * PAGE);
        let Walk { tail, end, rest_is_empty, tail_gaps, tail_unfinished, highest_sequence, .. } =
            walk(volume, from, None)?;
        let mut torn = 0;
        for found in &tail {
            if found.is_chunk() && !is_whole(volume, found) {
                torn += 1;
                continue;
            }
            self.report.verified_bytes += found.length;
            self.enter(volume, found);
        }
        self.see_sequence(highest_sequence);
        self.report.torn += torn;
        self.has_lost |= torn + tail_gaps > 0;
        self.report.unfinished += tail_unfinished;
        volume.note_unfinished(tail_unfinished);
        match volume.kind() {
            VolumeKind::Packed => self.report.damaged_regions += tail_gaps,
            // Large records are not written in the order of their places: what came without its header is torn.
            VolumeKind::Aligned => self.report.torn += tail_gaps,
        }
        // Where something is not whole the next start has to verify again: a mark would vouch for it.
        let all_is_whole = synced.is_ok() && torn == 0 && tail_gaps == 0 && rest_is_empty;
        if all_is_whole
            && !self.options.is_read_only()
            && let Err(error) = volume.vouch(end)
        {
            tracing::warn!(volume = %volume.path.display(), %error, "could not mark the end of a volume");
        }
        Ok(())
    }

    /// Records may be numbered from here on.
    fn see_sequence(&mut self, highest: u64) {
        self.sequence.fetch_max(highest + 1, Ordering::Relaxed);
    }

    /// Enters a record into the index.
    fn enter(&mut self, volume: &Volume, found: &Found) {
        let number = volume.header.number;
        let entry = match found.kind {
            RecordKind::Tombstone => Entry::tombstone(number, found.offset),
            RecordKind::Quarantined { .. } => Entry::quarantined(number, found.offset, found.length),
            _ => Entry::chunk(number, found.offset, found.length),
        };
        self.enter_entry(found.id, entry, Some(found.sequence));
    }

    /// Enters what an id may be. A tombstone decides for ever; of two chunks of one id, which a failed volume, a
    /// compaction that was cut off or a heal leaves behind, the later one counts. Its sequence is looked up where it
    /// is not given.
    fn enter_entry(&mut self, id: ChunkId, entry: Entry, sequence: Option<u64>) {
        let wins = match self.index.get(id) {
            None => true,
            Some(old) if old.is_tombstone() || old == entry => false,
            Some(_) if entry.is_tombstone() => true,
            Some(old) => self
                .sequence_of(old)
                .is_none_or(|old| sequence.or_else(|| self.sequence_of(entry)).is_some_and(|new| old < new)),
        };
        if wins {
            self.index.insert(id, entry);
        }
    }

    fn sequence_of(&self, entry: Entry) -> Option<u64> {
        let (header, _) = self.volumes.get(&entry.volume)?.read_header(entry.offset()).ok()??;
        Some(header.sequence)
    }
}
