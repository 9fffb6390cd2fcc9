//! All volumes of a store, and which of them take records.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::directory::{Directory, DirectoryInfo, Purpose};
use super::disk::Space;
use super::format::{Covered, Geometry, Head, VolumeHeader, VolumeKind};
use super::index::Index;
use super::volume::{Refusal, Slot, Volume, is_full};
use super::{Durability, ReadError, StoreOptions, WriteError, checkpoint, now};
use crate::id::StoreId;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, RwLock};

/// The volumes of a store.
#[derive(Debug)]
pub(super) struct Volumes {
    /// Those that are there.
    pub(super) directories: Vec<Arc<Directory>>,
    store: StoreId,
    options: StoreOptions,
    all: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// For each directory, the volume of each kind that takes records.
    open: Vec<Open>,
    /// Number of the next record.
    sequence: Arc<AtomicU64>,
    /// For each directory by its slot, what its last checkpoint covers.
    checkpointed: Mutex<HashMap<usize, Vec<Covered>>>,
}

/// The volume of each kind that takes records. Made at the first write, so that a store that is only read stays as
/// it is.
type Open = [Mutex<Option<Arc<Volume>>>; VolumeKind::ALL.len()];

/// What a record needs of its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) kind: VolumeKind,
    /// Bytes of its body.
    pub(super) length: u64,
    pub(super) purpose: Purpose,
    /// The volume in whose directory it should be, if that takes writes.
    pub(super) near: Option<u32>,
    /// Whether it is refused rather than put into another directory.
    pub(super) stays: bool,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// When it was first written, in milliseconds since 1970.
    pub(super) created: u64,
    /// The volume that it is copied from, in a compaction.
    pub(super) copied_from: Option<u32>,
}

impl Origin {
    /// A write, just now.
    pub(super) fn new_write() -> Self {
        Self { created: now(), copied_from: None }
    }

    pub(super) fn need(&self, kind: VolumeKind, length: u64) -> Need {
        match self.copied_from {
            Some(source) => Need::copy(kind, length, source),
            None => Need { kind, length, purpose: Purpose::Write, near: None, stays: false },
        }
    }
}

impl Need {
    /// That of the tombstone of a chunk in this volume.
    pub(super) fn tombstone(chunk: Option<u32>) -> Self {
        let (kind, purpose) = (VolumeKind::Packed, Purpose::Maintenance);
        Self { kind, length: 0, purpose, near: chunk, stays: false }
    }

    /// That of a copy of a record in the volume `source`: in the same directory, for a tombstone on another disk lets
    /// its chunk come back when that is lost.
    pub(super) fn copy(kind: VolumeKind, length: u64, source: u32) -> Self {
        Self { kind, length, purpose: Purpose::Maintenance, near: Some(source), stays: true }
    }
}

/// The name of a volume's file.
pub(super) fn file_name(number: u32) -> String {
    format!("{number:08}.volume")
}

/// The number of the volume in a file of this name; `None` for any other file.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".volume")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// What the file of a volume is called once only what could not be read is left of it.
pub(super) fn quarantine_name(number: u32) -> String {
    format!("{number:08}.quarantine")
}

/// The number of the volume that a file in quarantine was.
pub(super) fn number_of_quarantine(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".quarantine")?.parse().ok()?;
    (quarantine_name(number) == name).then_some(number)
}

/// The volumes that recovery has found.
pub(super) struct Recovered {
    pub(super) volumes: BTreeMap<u32, Arc<Volume>>,
    /// Those closed cleanly and with room left, to be written on.
    pub(super) open: Vec<Arc<Volume>>,
    pub(super) sequence: Arc<AtomicU64>,
    /// What the checkpoints have of them.
    pub(super) covered: HashMap<u32, Covered>,
}

impl Volumes {
    pub(super) fn new(
        directories: Vec<Arc<Directory>>,
        store: StoreId,
        options: StoreOptions,
        recovered: Recovered,
    ) -> Self {
        let open_in = |directory: &Arc<Directory>| {
            VolumeKind::ALL.map(|kind| {
                let is_it = |v: &&Arc<Volume>| v.kind() == kind && Arc::ptr_eq(&v.directory, directory);
                Mutex::new(recovered.open.iter().rev().find(is_it).cloned())
            })
        };
        let checkpointed = directories.iter().map(|directory| {
            let is_there = |volume: &&Arc<Volume>| Arc::ptr_eq(&volume.directory, directory);
            let volumes = recovered.volumes.values().filter(is_there);
            let covered = volumes.filter_map(|volume| recovered.covered.get(&volume.header.number).copied());
            (directory.slot, covered.collect())
        });
        Self {
            checkpointed: Mutex::new(checkpointed.collect()),
            open: directories.iter().map(open_in).collect(),
            directories,
            store,
            options,
            all: RwLock::new(recovered.volumes),
            sequence: recovered.sequence,
        }
    }

    /// Whether large records stay in the page cache. Copies too: to write one file both ways is what file systems are worst at.
    pub(super) fn caches_writes(&self) -> bool {
        self.options.cache_writes
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<Volume>> {
        self.all.read().get(&number).cloned()
    }

    /// Serves a volume under another number.
    #[cfg(test)]
    pub(super) fn alias(&self, number: u32, volume: &Arc<Volume>) {
        self.all.write().insert(number, Arc::clone(volume));
    }

    pub(super) fn count(&self) -> usize {
        self.all.read().len()
    }

    /// All volumes, in the order of their numbers.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.all.read().values().cloned().collect()
    }

    /// Size at which a volume is sealed.
    pub(super) fn volume_size(&self) -> u64 {
        self.options.volume_size
    }

    /// Whether a volume is the one of its kind that takes records.
    pub(super) fn is_open(&self, volume: &Arc<Volume>) -> bool {
        self.open[volume.directory.slot][volume.kind() as usize]
            .lock()
            .as_ref()
            .is_some_and(|open| Arc::ptr_eq(open, volume))
    }

    /// Forgets a volume whose file is no longer one of the store's. Whoever reads from it goes on.
    pub(super) fn forget(&self, number: u32) {
        self.all.write().remove(&number);
    }

    /// What there is to say of each directory that is there.
    pub(super) fn directories(&self) -> Vec<DirectoryInfo> {
        let mut volumes = vec![0; self.directories.len()];
        for volume in self.all.read().values() {
            volumes[volume.directory.slot] += 1;
        }
        self.directories.iter().map(|directory| directory.info(volumes[directory.slot])).collect()
    }

    /// Free and all bytes of the directories that take writes; where none does, of all.
    pub(super) fn room(&self) -> Result<(u64, u64), ReadError> {
        let mut seen = BTreeMap::new();
        let mut refused = None;
        let all_failed = self.directories.iter().all(|directory| directory.is_failed());
        for directory in self.directories.iter().filter(|d| all_failed || !d.is_failed()) {
            match directory.look_at_space() {
                Ok(Space { file_system, free, total }) => drop(seen.insert(file_system, (free, total))),
                Err(source) => refused = Some(ReadError::Io { path: directory.path().to_path_buf(), source }),
            }
        }
        match refused {
            Some(error) if seen.is_empty() => Err(error),
            _ => Ok(seen.into_values().fold((0, 0), |(a, b), (free, total)| (a + free, b + total))),
        }
    }

    /// Places a record in an open volume of its kind, starting another volume where that one is full. See
    /// [`Volume::place`].
    ///
    /// It goes near what it belongs to, otherwise to the directory with the least to do for its room; and where that
    /// one is full or fails, to the next.
    pub(super) fn place(
        &self,
        need: Need,
        write: &mut dyn FnMut(&Volume, &Geometry, u64) -> io::Result<()>,
    ) -> Result<Slot, WriteError> {
        let near = need.near.and_then(|number| self.get(number)).map(|volume| volume.directory.slot);
        let mut refused: Vec<(usize, WriteError)> = Vec::new();
        while let Some(directory) = self.choose(near, need.stays, &refused) {
            match self.place_in(directory, need, write) {
                Ok(slot) => return Ok(slot),
                Err(error) => refused.push((directory.slot, error)),
            }
        }
        // What the best of them said.
        Err(refused.into_iter().next().map_or_else(|| self.gave_up(near), |(_, error)| error))
    }

    /// The best directory that takes writes and has not refused yet.
    fn choose(
        &self,
        near: Option<usize>,
        stays: bool,
        refused: &[(usize, WriteError)],
    ) -> Option<&Arc<Directory>> {
        let takes = |directory: &&Arc<Directory>| {
            !directory.is_failed() && refused.iter().all(|(slot, _)| *slot != directory.slot)
        };
        let near = near.map(|slot| &self.directories[slot]).filter(takes);
        if stays {
            return near;
        }
        near.or_else(|| {
            self.directories.iter().filter(takes).reduce(|a, b| if b.is_better_than(a) { b } else { a })
        })
    }

    fn gave_up(&self, near: Option<usize>) -> WriteError {
        let first = &self.directories[near.unwrap_or(0)];
        WriteError::GaveUp { path: first.path().to_path_buf(), volumes: first.failures() }
    }

    fn place_in(
        &self,
        directory: &Arc<Directory>,
        need: Need,
        write: &mut dyn FnMut(&Volume, &Geometry, u64) -> io::Result<()>,
    ) -> Result<Slot, WriteError> {
        loop {
            let volume = self.open_volume(directory, need.kind)?;
            match volume.place(need.length, need.purpose, write) {
                Ok(slot) => return Ok(slot),
                Err(Refusal::TakeAnother) => self.retire(&volume),
                Err(Refusal::Io(error)) => return Err(self.write_failed(&volume, error)),
            }
        }
    }

    /// Returns once what was written to the volume is as durable as was asked for.
    pub(super) fn commit(&self, volume: &Arc<Volume>) -> Result<(), WriteError> {
        match volume.commit() {
            Ok(()) => {
                // A commit that waits for no sync says nothing of the disk.
                if self.options.durability == Durability::Always {
                    volume.directory.succeeded();
                }
                Ok(())
            }
            Err(error) => Err(self.disk_failed(volume, error)),
        }
    }

    /// Returns once what was written to the volume is on stable storage, however durable writes were asked to be.
    pub(super) fn sync(&self, volume: &Arc<Volume>) -> Result<(), WriteError> {
        volume.sync().map_err(|error| self.disk_failed(volume, error))?;
        volume.directory.succeeded();
        Ok(())
    }

    /// Syncs all volumes that were written to and that no commit has waited for. One that fails is sealed.
    pub(super) fn catch_up(&self) {
        let volumes: Vec<_> = self.all.read().values().cloned().collect();
        for volume in volumes {
            match volume.catch_up() {
                Ok(true) => volume.directory.succeeded(),
                Ok(false) => {}
                Err(error) => drop(self.disk_failed(&volume, error)),
            }
        }
    }

    /// What a failed write to a volume means. A full disk is no fault of the volume; everything else is.
    pub(super) fn write_failed(&self, volume: &Arc<Volume>, error: io::Error) -> WriteError {
        if is_full(&error) {
            return WriteError::io(volume.path.clone(), Arc::new(error));
        }
        volume.give_up();
        self.disk_failed(volume, Arc::new(error))
    }

    fn disk_failed(&self, volume: &Arc<Volume>, error: Arc<io::Error>) -> WriteError {
        // Only the first of those whom one failure hits counts it.
        if self.replace(volume) {
            self.count_failure(volume, &error);
        }
        WriteError::io(volume.path.clone(), error)
    }

    fn count_failure(&self, volume: &Volume, error: &io::Error) {
        tracing::error!(
            volume = %volume.path.display(),
            %error,
            "the disk failed: the volume is sealed, its unacknowledged writes fail, others go to a new volume"
        );
        volume.directory.volume_failed(error);
    }

    /// Seals a volume that has no room.
    pub(super) fn retire(&self, volume: &Arc<Volume>) {
        self.replace(volume);
        volume.retire();
    }

    /// Lets the next write start another volume; whether this one was still the open one.
    fn replace(&self, volume: &Arc<Volume>) -> bool {
        let mut open = self.open[volume.directory.slot][volume.kind() as usize].lock();
        let was_open = open.as_ref().is_some_and(|v| Arc::ptr_eq(v, volume));
        if was_open {
            *open = None;
        }
        was_open
    }

    fn open_volume(&self, directory: &Arc<Directory>, kind: VolumeKind) -> Result<Arc<Volume>, WriteError> {
        let mut open = self.open[directory.slot][kind as usize].lock();
        if let Some(volume) = &*open {
            return Ok(Arc::clone(volume));
        }
        let volume = self.create(directory, kind)?;
        self.all.write().insert(volume.header.number, Arc::clone(&volume));
        *open = Some(Arc::clone(&volume));
        Ok(volume)
    }

    fn create(&self, directory: &Arc<Directory>, kind: VolumeKind) -> Result<Arc<Volume>, WriteError> {
        let mut identity = [0; 16];
        getrandom::fill(&mut identity).expect("the operating system supplies random bytes");
        let failed = |name: &str, error| WriteError::io(directory.path().join(name), Arc::new(error));
        let number = directory.next_number().map_err(|error| failed("", error))?;
        let header = VolumeHeader { kind, number, identity, store: self.store, created: now() };
        let name = file_name(number);
        let disk = &directory.disk;
        let make = || {
            let file = disk.create(&name)?;
            file.write_at(&header.encode(), 0)?;
            file.sync_data()?;
            // Before a record is acknowledged the name of its volume must survive a power cut.
            disk.sync()?;
            Ok(file)
        };
        let file = make().map_err(|error| {
            // Nothing is in it, and its number is not used again: a leftover is found and skipped at the next start.
            let _ = disk.remove(&name);
            if !is_full(&error) && !is_shortage(&error) {
                directory.volume_failed(&error);
            }
            failed(&name, error)
        })?;
        let sequence = Arc::clone(&self.sequence);
        Ok(Arc::new(Volume::new(header, file, false, &self.options, sequence, directory)))
    }

    /// What a checkpoint of a directory can cover, in the order of the volumes' numbers.
    fn covered(&self, directory: &Arc<Directory>) -> Vec<Covered> {
        let all = self.all.read();
        let volumes = all.values().filter(|volume| Arc::ptr_eq(&volume.directory, directory));
        volumes.filter_map(|volume| volume.covered()).collect()
    }

    /// Writes checkpoints of the index where the volumes have changed since the last ones.
    pub(super) fn checkpoint(&self, index: &Index) -> Result<(), WriteError> {
        // One at a time, and the one that waited finds its work done.
        let mut last = self.checkpointed.lock();
        let mut result = Ok(());
        for directory in self.directories.iter().filter(|directory| !directory.is_failed()) {
            let covered = self.covered(directory);
            if last.get(&directory.slot).is_some_and(|last| *last == covered) {
                continue;
            }
            let highest = self.sequence.load(Ordering::Relaxed) - 1;
            match checkpoint::write(&*directory.disk, self.store, &covered, highest, index) {
                Ok(()) => drop(last.insert(directory.slot, covered)),
                Err(error) => result = Err(WriteError::io(directory.path().to_path_buf(), Arc::new(error))),
            }
        }
        result
    }

    /// Whether a volume was sealed that no checkpoint covers.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let last = self.checkpointed.lock();
        self.directories.iter().filter(|directory| !directory.is_failed()).any(|directory| {
            let last = last.get(&directory.slot).map(Vec::as_slice).unwrap_or_default();
            self.covered(directory).iter().any(|covered| covered.sealed && !last.contains(covered))
        })
    }

    /// Marks the ends of the open volumes, so that the next start need not verify them.
    pub(super) fn close(&self) {
        for open in self.open.iter().flatten() {
            if let Some(volume) = open.lock().take() {
                volume.close();
            }
        }
    }
}

/// Whether the system, not the disk, has too little of something just now.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
