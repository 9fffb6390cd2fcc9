use std::collections::{BTreeMap, BTreeSet};

use super::super::disk::Disk;
use super::super::disk::simulated::SimulatedDisk;
use super::super::*;
use super::{Input, content, open, put, read};

/// What the bytes say is done to a store: writes, deletes, checkpoints, compactions, scrubs, kills and power cuts, and
/// damage to its files.
///
/// While nothing was damaged, all that was acknowledged is there, whole, and nothing else is. Whatever was
/// damaged: a store that opens serves no bytes but those that were once written under that id.
pub fn recovery(data: &[u8]) {
    let mut input = Input(data);
    let mut run = Run::new();
    while let Some(what) = input.byte() {
        if !run.step(what, &mut input) {
            return;
        }
    }
    run.reboot(|disk| disk.after_kill());
}

struct Run {
    disk: SimulatedDisk,
    store: Option<ChunkStore>,
    /// What was acknowledged, and not deleted since.
    live: BTreeMap<u64, usize>,
    deleted: BTreeSet<u64>,
    is_damaged: bool,
}

impl Run {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let store = Some(open(&disk).expect("an empty disk becomes a store"));
        Self { disk, store, live: BTreeMap::new(), deleted: BTreeSet::new(), is_damaged: false }
    }

    /// Whether there is still a store.
    fn step(&mut self, what: u8, input: &mut Input<'_>) -> bool {
        match what % 16 {
            0..=2 => self.put(u64::from(input.byte().unwrap_or(0) % 16), input.number() % 3000 + 1),
            // A large one.
            3 => self.put(u64::from(input.byte().unwrap_or(0) % 16), (256 << 10) + input.number()),
            4 => self.delete(u64::from(input.byte().unwrap_or(0) % 16)),
            5 => return self.reboot(|disk| disk.after_kill()),
            6 => {
                let seed = input.number() as u64;
                return self.reboot(|disk| disk.after_power_cut(seed));
            }
            7 => {
                self.store = None;
                return self.reboot(|disk| disk.after_kill());
            }
            8 => {
                let (at, by) = (input.number(), input.byte().unwrap_or(1) | 1);
                self.damage(input, |file| {
                    let at = at * 4 % file.len();
                    file[at] ^= by;
                });
            }
            9 => {
                let at = input.number();
                self.damage(input, |file| {
                    let sector = at * 512 % file.len() / 512 * 512;
                    let end = (sector + 512).min(file.len());
                    file[sector..end].fill(0);
                });
            }
            10 => {
                let at = input.number();
                self.damage(input, |file| file.truncate(at * 16 % file.len()));
            }
            11 => drop(self.store().checkpoint()),
            12 => {
                let percent = input.byte().unwrap_or(0) % 101;
                let done = self.store().compact(&CompactionOptions::default().dead_percent(percent));
                assert!(self.is_damaged || done.is_ok_and(|report| report.left.is_empty()));
            }
            13 => {
                let done = self.store().scrub(&ScrubOptions::default()).expect("nobody else scrubs");
                assert!(self.is_damaged || done.damaged == 0);
            }
            14 => self.look(),
            _ => {
                // The end of the file anew: what a broken tool or file system appends.
                let (from, len) = (input.number() * 8, input.number() % 512);
                self.damage(input, |file| {
                    let copy: Vec<u8> = file.iter().cycle().skip(from).take(len * 8).copied().collect();
                    file.extend(copy);
                });
            }
        }
        true
    }

    fn put(&mut self, id: u64, length: usize) {
        let store = self.store();
        match put(store, id, length) {
            Ok(_) => {
                assert!(self.is_damaged || !self.deleted.contains(&id), "a deleted id was accepted");
                self.live.insert(id, length);
            }
            Err(WriteError::Deleted(_)) => assert!(self.is_damaged || self.deleted.contains(&id)),
            Err(WriteError::Conflict(_)) => assert!(self.is_damaged || self.live.contains_key(&id)),
            Err(error) => assert!(self.is_damaged, "{error}"),
        }
    }

    fn store(&self) -> &ChunkStore {
        self.store.as_ref().expect("a store is open between the steps")
    }

    /// Looks at what is there, and changes nothing.
    fn look(&self) {
        let Ok(store) = super::open_to_read(&self.disk.after_kill()) else {
            assert!(self.is_damaged);
            return;
        };
        let report = store.check(&CheckOptions::default());
        assert!(self.is_damaged || report.is_ok_and(|report| report.is_sound()));
        store.dump(true, |_| std::ops::ControlFlow::Continue(())).expect("the disk works");
    }

    fn delete(&mut self, id: u64) {
        let store = self.store();
        if let Err(error) = store.delete(ChunkId::new(id), GroupVersion::INITIAL) {
            assert!(self.is_damaged, "{error}");
            return;
        }
        self.live.remove(&id);
        self.deleted.insert(id);
    }

    /// Changes a file behind the back of a store that is closed, and opens it again.
    fn damage(&mut self, input: &mut Input<'_>, change: impl FnOnce(&mut Vec<u8>)) {
        let names = Disk::names(&self.disk).expect("the power is on");
        // The superblock is what a store can't be opened without; it says so by an error, which ends the run.
        let name = &names[input.number() % names.len()];
        if !self.disk.content(name).is_empty() {
            self.disk.damage(name, change);
            self.is_damaged = true;
        }
    }

    fn reboot(&mut self, end: impl FnOnce(&SimulatedDisk) -> SimulatedDisk) -> bool {
        let disk = end(&self.disk);
        // Its last words go to a disk that nobody reads any more.
        self.store = None;
        self.disk = disk;
        match open(&self.disk) {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                assert!(self.is_damaged, "{error}");
                return false;
            }
        }
        self.check();
        true
    }

    fn check(&self) {
        let store = self.store.as_ref().expect("it was just opened");
        let page = store.list(None, 1000).expect("the disk works");
        for info in &page.chunks {
            let id = info.id.get();
            let expected = content(id, info.length as usize);
            match read(store, info) {
                Ok(bytes) => assert_eq!(bytes, expected, "chunk {id} has bytes that nobody wrote"),
                Err(error) => assert!(self.is_damaged, "{error}"),
            }
        }
        if !self.is_damaged {
            let found: BTreeMap<u64, usize> =
                page.chunks.iter().map(|info| (info.id.get(), info.length as usize)).collect();
            assert_eq!(found, self.live);
        }
    }
}
