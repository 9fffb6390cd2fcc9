//! A disk in memory that forgets what was not synced, and fails when told to.
//!
//! What it models: a sector of 512 bytes is written whole or not at all; which of the dirty ones survive a power cut
//! is chance, as is the length of a file and whether an unsynced name is there; a failed sync leaves pages clean
//! whose bytes never reached the disk. Several disks can hang on one power supply; each can be unmounted, and have an end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, Mapping, ReadOnlyDisk, Site, Space};
use crate::store::OpenError;

const SECTOR: usize = 512;

/// A call that changes the disk, or may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Call {
    Create,
    Rename,
    Remove,
    SyncNames,
    Read,
    Write,
    SyncData,
    Preallocate,
    Truncate,
}

type Fault = Box<dyn FnMut(Call, &str) -> Option<i32> + Send>;

/// Clones are the same disk.
#[derive(Clone)]
pub(in crate::store) struct SimulatedDisk {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    power: Arc<Mutex<Power>>,
}

struct State {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Inode>,
    fault: Option<Fault>,
    failed_sync: FailedSync,
    is_mounted: bool,
    /// Bytes that all files together can have.
    capacity: u64,
    /// Whether a file can be given room before it is written.
    preallocates: bool,
    /// Reads so far that were not to wait.
    cached_reads: u64,
}

/// What disks in one case share.
#[derive(Default)]
struct Power {
    /// Calls that changed something, so far.
    changes: u64,
    off_at: Option<u64>,
}

/// What a sync that fails has put on the disk before. Either way the pages are clean afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::store) enum FailedSync {
    #[default]
    Nothing,
    EverySecondSector,
    Everything,
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl SimulatedDisk {
    pub(in crate::store) fn new() -> Self {
        Self::named("simulated", Arc::default())
    }

    /// So many empty disks, `/data/1` and so on, on one power supply.
    pub(in crate::store) fn rack(disks: usize) -> Vec<Self> {
        let power = Arc::default();
        (1..=disks).map(|number| Self::named(format!("/data/{number}"), Arc::clone(&power))).collect()
    }

    fn named(path: impl Into<PathBuf>, power: Arc<Mutex<Power>>) -> Self {
        let state = State {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: Vec::new(),
            fault: None,
            failed_sync: FailedSync::default(),
            is_mounted: true,
            capacity: 1 << 40,
            preallocates: true,
            cached_reads: 0,
        };
        Self { path: path.into(), state: Arc::new(Mutex::new(state)), power }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread has panicked")
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().expect("no thread has panicked")
    }

    /// How many calls have changed the disk, and the others on its power supply.
    pub(in crate::store) fn changes(&self) -> u64 {
        self.power().changes
    }

    /// Every call after the first `changes` changes fails, on all disks of this power supply.
    pub(in crate::store) fn power_off_after(&self, changes: u64) {
        self.power().off_at = Some(changes);
    }

    /// The disk at another path.
    pub(in crate::store) fn moved_to(&self, path: &str) -> Self {
        Self { path: path.into(), ..self.clone() }
    }

    /// What is seen at the disk's path: the disk, or the empty directory on which it is not mounted.
    pub(in crate::store) fn mount(&self, mounted: bool) {
        self.lock().is_mounted = mounted;
    }

    /// Sets the bytes that all files together can have.
    pub(in crate::store) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Bytes that all files together have.
    pub(in crate::store) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// From now on no file can be given room before it is written.
    pub(in crate::store) fn cannot_preallocate(&self) {
        self.lock().preallocates = false;
    }

    /// Asks `fault` before each call; an error number makes it fail with that.
    pub(in crate::store) fn fail_if(&self, fault: impl FnMut(Call, &str) -> Option<i32> + Send + 'static) {
        self.lock().fault = Some(Box::new(fault));
    }

    /// What a sync that fails leaves on the disk.
    pub(in crate::store) fn failed_sync_keeps(&self, failed_sync: FailedSync) {
        self.lock().failed_sync = failed_sync;
    }

    pub(in crate::store) fn heal(&self) {
        self.lock().fault = None;
    }

    /// The disk as a new process finds it after this one was killed: the page cache is still there.
    pub(in crate::store) fn after_kill(&self) -> Self {
        let state = self.lock();
        let disk = Self::named(self.path.clone(), Arc::default());
        let State { names, durable_names, files, is_mounted, capacity, preallocates, .. } = &*state;
        {
            let mut copy = disk.lock();
            copy.names.clone_from(names);
            copy.durable_names.clone_from(durable_names);
            copy.files.clone_from(files);
            (copy.is_mounted, copy.capacity, copy.preallocates) = (*is_mounted, *capacity, *preallocates);
        }
        disk
    }

    /// The seed of a power cut after which nothing is left of what was not synced.
    pub(in crate::store) const NOTHING_SURVIVES: u64 = u64::MAX;

    /// The disk as it may be after a power cut. The seed decides which of the unsynced changes survived.
    pub(in crate::store) fn after_power_cut(&self, seed: u64) -> Self {
        let disk = self.after_kill();
        // Mixed, for neighbouring small seeds would begin with the same coins.
        let mut random = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1;
        let mut coin = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            seed != Self::NOTHING_SURVIVES && random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63 == 1
        };
        let mut state = disk.lock();
        let State { names, durable_names, files, .. } = &mut *state;
        let mut survivors = BTreeMap::new();
        for (name, &file) in names.iter() {
            let survives = durable_names.get(name) == Some(&file) || coin();
            let file = if survives { Some(&file) } else { durable_names.get(name) };
            survivors.extend(file.map(|&file| (name.clone(), file)));
        }
        for (name, &file) in durable_names.iter() {
            if !names.contains_key(name) && coin() {
                survivors.insert(name.clone(), file);
            }
        }
        *names = survivors.clone();
        *durable_names = survivors;
        for file in files {
            let len = if coin() { file.current.len() } else { file.durable.len() };
            file.durable.resize(len, 0);
            for sector in std::mem::take(&mut file.dirty) {
                if coin() {
                    file.store(sector);
                }
            }
            file.current.clone_from(&file.durable);
        }
        drop(state);
        disk
    }

    /// Changes bytes behind the engine's back, and puts the file as it is on the disk.
    pub(in crate::store) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let file = state.names[name];
        let inode = &mut state.files[file];
        change(&mut inode.current);
        inode.durable.clone_from(&inode.current);
        inode.dirty.clear();
    }

    /// Flips a bit behind the engine's back, in the page cache as on the disk.
    pub(in crate::store) fn flip(&self, name: &str, position: usize) {
        let mut state = self.lock();
        let file = state.names[name];
        let Inode { current, durable, .. } = &mut state.files[file];
        current[position] ^= 1;
        durable[position] ^= 1;
    }

    /// What is in a file.
    pub(in crate::store) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        state.files[state.names[name]].current.clone()
    }

    fn call(&self, call: Call, name: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        let mut power = self.power();
        if power.off_at.is_some_and(|at| power.changes >= at) {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(error) = state.fault.as_mut().and_then(|fault| fault(call, name)) {
            if call == Call::SyncData {
                // The kernel marks the pages clean; what it had not written never gets to the disk.
                let (file, keeps) = (state.names[name], state.failed_sync);
                let inode = &mut state.files[file];
                if keeps != FailedSync::Nothing {
                    inode.durable.resize(inode.current.len(), 0);
                }
                for sector in std::mem::take(&mut inode.dirty) {
                    match keeps {
                        FailedSync::Everything => inode.store(sector),
                        FailedSync::EverySecondSector if sector % 2 == 0 => inode.store(sector),
                        _ => {}
                    }
                }
            }
            return Err(io::Error::from_raw_os_error(error));
        }
        if call != Call::Read {
            power.changes += 1;
        }
        Ok(state)
    }

    fn file(&self, name: &str, file: usize) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile { disk: self.clone(), name: name.into(), file })
    }
}

impl Inode {
    fn store(&mut self, sector: usize) {
        let start = (sector * SECTOR).min(self.current.len());
        let end = (start + SECTOR).min(self.current.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.current[start..end]);
        }
    }
}

impl State {
    /// Files that have no name any more take no room.
    fn used(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].current.len() as u64).sum()
    }

    /// Whether a file can grow to `end` bytes.
    fn has_room(&self, file: usize, end: u64) -> bool {
        let growth = end.saturating_sub(self.files[file].current.len() as u64);
        growth == 0 || self.used() + growth <= self.capacity
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedDisk({})", self.path.display())
    }
}

impl Site for SimulatedDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_same(&self, other: &Path) -> bool {
        self.path == other
    }

    fn look(&self) -> io::Result<Vec<String>> {
        if self.lock().is_mounted { self.names() } else { Ok(Vec::new()) }
    }

    fn take(&self) -> Result<Box<dyn Disk>, OpenError> {
        assert!(
            self.lock().is_mounted,
            "{self:?} is not mounted: what is written there hides under the disk"
        );
        Ok(Box::new(self.clone()))
    }

    fn peek(&self) -> Result<Box<dyn Disk>, OpenError> {
        Ok(ReadOnlyDisk::boxed(Box::new(self.clone())))
    }
}

impl Disk for SimulatedDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.call(Call::Read, "")?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call(Call::Create, name)?;
        let file = state.files.len();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.push(Inode::default());
        state.names.insert(name.into(), file);
        drop(state);
        Ok(self.file(name, file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.call(Call::Read, name)?.names.get(name).copied();
        Ok(self.file(name, file.ok_or(io::ErrorKind::NotFound)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.call(Call::Rename, from)?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::Remove, name)?.names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.call(Call::SyncNames, "")?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.lock();
        let file_system = Arc::as_ptr(&self.state).addr() as u64;
        Ok(Space { file_system, free: state.capacity.saturating_sub(state.used()), total: state.capacity })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    name: String,
    file: usize,
}

impl SimulatedFile {
    fn change<T>(&self, call: Call, change: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut state = self.disk.call(call, &self.name)?;
        Ok(change(&mut state.files[self.file]))
    }

    /// Like `change`, of a file that grows to `end` bytes where it is shorter.
    fn grow<T>(&self, call: Call, end: u64, change: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut state = self.disk.call(call, &self.name)?;
        if !state.has_room(self.file, end) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(change(&mut state.files[self.file]))
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.change(Call::Read, |file| file.current.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.change(Call::Read, |file| {
            let rest = file.current.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            len
        })
    }

    /// Every third time the page cache has not got it.
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let reads = {
            let mut state = self.disk.lock();
            state.cached_reads += 1;
            state.cached_reads
        };
        if reads.is_multiple_of(3) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buf, offset)
    }

    fn read_into(&self, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
        buf.resize(len, 0);
        let read = self.read_at(buf, offset)?;
        buf.truncate(read);
        Ok(())
    }

    fn map(&self) -> io::Result<Mapping> {
        let content = self.change(Call::Read, |file| file.current.clone())?;
        Ok(Box::new(content))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.grow(Call::Write, offset + bytes.len() as u64, |file| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            file.current.resize(file.current.len().max(end), 0);
            file.current[start..end].copy_from_slice(bytes);
            file.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        })
    }

    fn write_direct(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let page = crate::store::format::PAGE;
        let aligned = |n: u64| assert!(n.is_multiple_of(page), "direct I/O off its page");
        aligned(offset);
        parts.iter().for_each(|part| {
            aligned(part.len() as u64);
            aligned(part.as_ptr().addr() as u64);
        });
        self.write_at(&parts.concat(), offset)
    }

    fn write_cached(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_at(&parts.concat(), offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Call::SyncData, |file| {
            file.durable.resize(file.current.len(), 0);
            for sector in std::mem::take(&mut file.dirty) {
                file.store(sector);
            }
        })
    }

    fn preallocate(&self, _start: u64, end: u64) -> io::Result<bool> {
        if !self.disk.lock().preallocates {
            return Ok(false);
        }
        self.grow(Call::Preallocate, end, |file| {
            file.current.resize(file.current.len().max(end as usize), 0);
            true
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.change(Call::Truncate, |file| file.current.resize(len as usize, 0))
    }

    fn release(&self, offset: u64, len: u64) {
        let zeros = vec![0; len as usize];
        let _ = self.write_at(&zeros, offset);
    }

    fn forget_cached(&self, offset: u64) {
        let _ = self.change(Call::Read, |file| {
            for sector in offset as usize / SECTOR..file.current.len().div_ceil(SECTOR) {
                let start = sector * SECTOR;
                let end = (start + SECTOR).min(file.current.len());
                if !file.dirty.contains(&sector) {
                    let durable = file.durable.get(start..end.min(file.durable.len())).unwrap_or_default();
                    file.current[start..start + durable.len()].copy_from_slice(durable);
                    file.current[start + durable.len()..end].fill(0);
                }
            }
        });
    }
}
