//! All volumes of a store, and which of them take records.

use std::collections::BTreeMap;
use std::io;

use super::disk::Disk;
use super::format::{Geometry, Head, VolumeHeader, VolumeKind};
use super::volume::{Refusal, Slot, Volume, is_full};
use super::{StoreOptions, WriteError, now};
use crate::id::StoreId;
use crate::sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering, RwLock};

/// So many volumes in a row may fail before the store takes no more writes: a disk that fails every sync must not
/// be filled with the beginnings of volumes.
const FAILURES_IN_A_ROW: u32 = 8;

/// The volumes of a store.
#[derive(Debug)]
pub(super) struct Volumes {
    pub(super) disk: Box<dyn Disk>,
    store: StoreId,
    options: StoreOptions,
    all: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// The volume of each kind that takes records. Made at the first write, so that a store that is only read
    /// stays as it is.
    open: [Mutex<Option<Arc<Volume>>>; VolumeKind::ALL.len()],
    next_number: AtomicU32,
    /// Number of the next record.
    sequence: Arc<AtomicU64>,
    failed_in_a_row: AtomicU32,
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

/// The volumes that recovery has found.
pub(super) struct Recovered {
    pub(super) volumes: BTreeMap<u32, Arc<Volume>>,
    /// Those closed cleanly and with room left, to be written on.
    pub(super) open: Vec<Arc<Volume>>,
    /// The highest number of any volume's file, whether or not it could be read.
    pub(super) highest_number: u32,
    pub(super) sequence: Arc<AtomicU64>,
}

impl Volumes {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        store: StoreId,
        options: StoreOptions,
        recovered: Recovered,
    ) -> Self {
        let open = VolumeKind::ALL
            .map(|kind| Mutex::new(recovered.open.iter().rev().find(|v| v.kind() == kind).cloned()));
        Self {
            disk,
            store,
            options,
            all: RwLock::new(recovered.volumes),
            open,
            next_number: AtomicU32::new(recovered.highest_number + 1),
            sequence: recovered.sequence,
            failed_in_a_row: AtomicU32::new(0),
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<Volume>> {
        self.all.read().get(&number).cloned()
    }

    pub(super) fn count(&self) -> usize {
        self.all.read().len()
    }

    /// Places a record in the open volume of its kind, starting another volume where that one is full. See
    /// [`Volume::place`].
    pub(super) fn place(
        &self,
        kind: VolumeKind,
        length: u64,
        write: &mut dyn FnMut(&Volume, &Geometry, u64) -> io::Result<()>,
    ) -> Result<Slot, WriteError> {
        loop {
            let volume = self.open_volume(kind)?;
            match volume.place(length, write) {
                Ok(slot) => return Ok(slot),
                Err(Refusal::TakeAnother) => self.retire(&volume),
                Err(Refusal::Io(error)) => return Err(self.write_failed(&volume, error)),
            }
        }
    }

    /// Returns once what was written to the volume is on stable storage.
    pub(super) fn commit(&self, volume: &Arc<Volume>) -> Result<(), WriteError> {
        match volume.commit() {
            Ok(()) => {
                self.failed_in_a_row.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.disk_failed(volume, error)),
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
        self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            volume = %volume.path.display(),
            %error,
            "the disk failed: the volume is sealed, its unacknowledged writes fail, others go to a new volume"
        );
    }

    /// Seals a volume that has no room.
    fn retire(&self, volume: &Arc<Volume>) {
        self.replace(volume);
        volume.retire();
    }

    /// Lets the next write start another volume; whether this one was still the open one.
    fn replace(&self, volume: &Arc<Volume>) -> bool {
        let mut open = self.open[volume.kind() as usize].lock();
        let was_open = open.as_ref().is_some_and(|v| Arc::ptr_eq(v, volume));
        if was_open {
            *open = None;
        }
        was_open
    }

    fn open_volume(&self, kind: VolumeKind) -> Result<Arc<Volume>, WriteError> {
        let failures = self.failed_in_a_row.load(Ordering::Relaxed);
        if failures >= FAILURES_IN_A_ROW {
            return Err(WriteError::GaveUp { path: self.disk.path().to_path_buf(), volumes: failures });
        }
        let mut open = self.open[kind as usize].lock();
        if let Some(volume) = &*open {
            return Ok(Arc::clone(volume));
        }
        let volume = self.create(kind)?;
        self.all.write().insert(volume.header.number, Arc::clone(&volume));
        *open = Some(Arc::clone(&volume));
        Ok(volume)
    }

    fn create(&self, kind: VolumeKind) -> Result<Arc<Volume>, WriteError> {
        let mut identity = [0; 16];
        getrandom::fill(&mut identity).expect("the operating system supplies random bytes");
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let header = VolumeHeader { kind, number, identity, store: self.store, created: now() };
        let name = file_name(number);
        let path = self.disk.path().join(&name);
        let failed = |error| WriteError::io(path.clone(), Arc::new(error));
        let file = self.disk.create(&name).map_err(failed)?;
        let prepare = || {
            file.write_at(&header.encode(), 0)?;
            file.sync_data()?;
            // Before a record is acknowledged the name of its volume must survive a power cut.
            self.disk.sync()
        };
        if let Err(error) = prepare() {
            // Nothing is in it, and its number is not used again: a leftover is found and skipped at the next start.
            let _ = self.disk.remove(&name);
            if !is_full(&error) {
                self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            return Err(failed(error));
        }
        let sequence = Arc::clone(&self.sequence);
        Ok(Arc::new(Volume::new(header, path, file, false, &self.options, sequence)))
    }

    /// Marks the ends of the open volumes, so that the next start need not verify them.
    pub(super) fn close(&self) {
        for open in &self.open {
            if let Some(volume) = open.lock().take() {
                volume.close();
            }
        }
    }
}
