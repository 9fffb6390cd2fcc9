//! Random operations against a model of a few lines, over compactions, damage, heals, restarts, kills, power cuts and
//! single failures.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::disk::simulated::{Call, FailedSync};
use super::*;

#[derive(Clone, Debug)]
enum Operation {
    /// Bytes of one of a few contents and lengths.
    Put(u64, usize, u64),
    Delete(u64),
    /// Flips a bit in a chunk.
    Damage(u64),
    /// The bytes of a put, as a heal.
    Heal(u64, usize, u64),
    /// Compacts volumes with so many percent of dead bytes.
    Compact(u8),
    /// Verifies everything.
    Scrub,
    /// Begins a write and leaves it in the air.
    Leave(u64, usize),
    Read(u64),
    Restart,
    Kill,
    PowerCut(u64),
    Checkpoint,
    /// Takes the checkpoints away.
    ForgetCheckpoints,
    /// The call that changes the disk so many calls from now fails once, with this error number.
    Fail(u64, i32, FailedSync),
}

fn operation() -> impl Strategy<Value = Operation> {
    let id = 0..12u64;
    let length = prop_oneof![Just(1usize), Just(1000), Just(66_000), Just(270_000)];
    let error = prop_oneof![Just(5), Just(28)];
    let keeps = prop_oneof![
        Just(FailedSync::Nothing),
        Just(FailedSync::EverySecondSector),
        Just(FailedSync::Everything)
    ];
    prop_oneof![
        8 => (id.clone(), length.clone(), 0..3u64).prop_map(|(id, length, kind)| Operation::Put(id, length, kind)),
        2 => id.clone().prop_map(Operation::Delete),
        1 => id.clone().prop_map(Operation::Damage),
        3 => (id.clone(), length.clone(), 0..2u64).prop_map(|(id, length, kind)| Operation::Heal(id, length, kind)),
        3 => prop_oneof![Just(0), Just(50)].prop_map(Operation::Compact),
        2 => Just(Operation::Scrub),
        1 => (id.clone(), length).prop_map(|(id, length)| Operation::Leave(id, length)),
        3 => id.prop_map(Operation::Read),
        1 => Just(Operation::Restart),
        1 => Just(Operation::Kill),
        1 => any::<u64>().prop_map(Operation::PowerCut),
        2 => Just(Operation::Checkpoint),
        1 => Just(Operation::ForgetCheckpoints),
        2 => (0..6u64, error, keeps).prop_map(|(calls, error, keeps)| Operation::Fail(calls, error, keeps)),
    ]
}

/// What is known of an id.
#[derive(Clone, Default, Debug)]
struct Known {
    live: Option<Vec<u8>>,
    /// A bit of the live bytes was flipped.
    damaged: bool,
    deleted: bool,
    /// Writes that failed: each may turn up after a restart, whole.
    maybe: Vec<Vec<u8>>,
    /// A delete failed: it may turn out to have been made.
    maybe_deleted: bool,
}

struct Model {
    disk: SimulatedDisk,
    store: Option<ChunkStore>,
    left: Vec<ChunkWriter>,
    known: BTreeMap<u64, Known>,
    /// Whether bits of the store were flipped, ever.
    is_damaged: bool,
}

impl Model {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let store = Some(open(&disk));
        Self { disk, store, left: Vec::new(), known: BTreeMap::new(), is_damaged: false }
    }

    fn store(&self) -> &ChunkStore {
        self.store.as_ref().unwrap()
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            // One that fails leaves the one before.
            Operation::Checkpoint => drop(self.store().checkpoint()),
            Operation::ForgetCheckpoints => checkpoint::forget(&self.disk),
            Operation::Put(number, length, kind) => self.put(number, &content(number * 8 + kind, length)),
            Operation::Delete(number) => {
                let deleted = self.store().delete(id(number), GroupVersion::new(3)).is_ok();
                let known = self.known.entry(number).or_default();
                if deleted {
                    *known = Known { deleted: true, ..Known::default() };
                } else {
                    known.maybe_deleted = true;
                }
            }
            Operation::Damage(number) => {
                if let Some(known) = self.known.get_mut(&number).filter(|k| k.live.is_some() && !k.damaged) {
                    known.damaged = true;
                    self.is_damaged = true;
                    damage(&self.disk, self.store.as_ref().unwrap(), number);
                }
            }
            Operation::Heal(number, length, kind) => self.heal(number, &content(number * 8 + kind, length)),
            Operation::Compact(percent) => {
                match self.store().compact(&CompactionOptions::default().dead_percent(percent)) {
                    Ok(report) => assert_eq!(report.left, []),
                    Err(CompactionError::Write(_) | CompactionError::Io { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Operation::Scrub => {
                let report = self.store().scrub(&ScrubOptions::default()).unwrap();
                let damaged = self.known.values().filter(|known| known.damaged).count();
                assert_eq!(report.damaged, damaged as u64, "exactly what is damaged is found");
            }
            Operation::Leave(number, length) => {
                if let Ok(mut writer) = self.store().begin(new_chunk(number, length)) {
                    let _ = writer.write(&content(number + 1000, length)[..length / 2]);
                    self.left.push(writer);
                }
            }
            Operation::Read(number) => self.read(number),
            Operation::Restart => self.reopen(|disk| disk.clone(), true),
            Operation::Kill => self.reopen(SimulatedDisk::after_kill, false),
            Operation::PowerCut(seed) => self.reopen(|disk| disk.after_power_cut(seed), false),
            Operation::Fail(mut calls, error, keeps) => {
                self.disk.failed_sync_keeps(keeps);
                self.disk.fail_if(move |call, _| {
                    if call == Call::Read {
                        return None;
                    }
                    let hit = calls == 0;
                    calls = calls.wrapping_sub(1);
                    hit.then_some(error)
                });
            }
        }
    }

    fn put(&mut self, number: u64, bytes: &[u8]) {
        let write = if number.is_multiple_of(2) { put } else { put_whole };
        let result = write(self.store(), number, bytes);
        let known = self.known.entry(number).or_default();
        match result {
            Ok(_) => {
                assert!(
                    !known.deleted && !known.damaged && known.live.as_ref().is_none_or(|live| live == bytes)
                );
                known.live = Some(bytes.to_vec());
                known.maybe.clear();
            }
            Err(WriteError::Damaged { .. }) => assert!(known.damaged),
            Err(WriteError::Deleted(_)) => assert!(known.deleted || known.maybe_deleted),
            Err(WriteError::Conflict(_)) => {
                assert!(known.live.iter().chain(&known.maybe).any(|other| other != bytes));
            }
            Err(WriteError::Disk { .. } | WriteError::Full { .. } | WriteError::GaveUp { .. }) => {
                known.maybe.push(bytes.to_vec());
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn heal(&mut self, number: u64, bytes: &[u8]) {
        let result = heal(self.store(), number, bytes);
        let known = self.known.entry(number).or_default();
        match result {
            Ok(_) => {
                // Of what is in quarantine only the length is known.
                let fits = |live: &Vec<u8>| live == bytes || known.damaged && live.len() == bytes.len();
                assert!(!known.deleted && known.live.as_ref().is_none_or(fits));
                *known = Known {
                    live: Some(bytes.to_vec()),
                    maybe_deleted: known.maybe_deleted,
                    ..Known::default()
                };
            }
            Err(WriteError::Deleted(_)) => assert!(known.deleted || known.maybe_deleted),
            Err(WriteError::Conflict(_)) => {
                assert!(known.live.iter().chain(&known.maybe).any(|other| other != bytes));
            }
            Err(WriteError::Disk { .. } | WriteError::Full { .. } | WriteError::GaveUp { .. }) => {
                known.maybe.push(bytes.to_vec());
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&self, number: u64) {
        let known = self.known.get(&number).cloned().unwrap_or_default();
        match get(self.store(), number) {
            Ok(bytes) => assert!(Some(bytes) == known.live && !known.damaged),
            Err(ReadError::Damaged { .. }) => assert!(known.damaged),
            Err(ReadError::NotFound(_)) => assert!(known.live.is_none() && !known.deleted),
            Err(ReadError::Deleted(_)) => assert!(known.deleted),
            Err(error) => panic!("{error}"),
        }
    }

    /// Ends the process one way or another, and starts the next one.
    fn reopen(&mut self, crash: impl FnOnce(&SimulatedDisk) -> SimulatedDisk, cleanly: bool) {
        let (store, left) = (self.store.take(), std::mem::take(&mut self.left));
        if cleanly {
            drop((store, left));
            self.disk = crash(&self.disk);
        } else {
            self.disk = crash(&self.disk);
            drop((store, left));
        }
        self.disk.heal();
        // On a copy, for what it reads from the disk leaves the cache, where a failed sync may have left other bytes.
        let peeked = self.disk.after_kill();
        let on_disk = files(&peeked.after_power_cut(7));
        let seen = {
            let store = peek(&peeked).unwrap();
            let report = store.check(&CheckOptions::default()).unwrap();
            assert_eq!(report.contradictions, []);
            (ids(&store), store.usage().unwrap().tombstones, report.damaged_chunks)
        };
        assert!(files(&peeked.after_power_cut(7)) == on_disk, "a look has changed something");
        let store = open_what_is_left(&self.disk);
        assert!(self.is_damaged || store.recovery().lost.is_empty(), "{:?}", store.recovery().lost);
        let damaged = store.check(&CheckOptions::default()).unwrap().damaged_chunks;
        assert_eq!(seen, (ids(&store), store.usage().unwrap().tombstones, damaged));
        for (&number, known) in &mut self.known {
            match get(&store, number) {
                Ok(bytes) => {
                    assert!(!known.deleted, "chunk {number} came back");
                    let expected = known.live.as_ref() == Some(&bytes);
                    // A damaged chunk may come back: what it was copied from, or a heal that failed.
                    let is_open = known.live.is_none() || known.damaged;
                    assert!(expected || is_open && known.maybe.contains(&bytes));
                    *known = Known { live: Some(bytes), ..Known::default() };
                }
                Err(ReadError::Deleted(_)) => {
                    assert!(known.deleted || known.maybe_deleted, "chunk {number} is gone");
                    *known = Known { deleted: true, ..Known::default() };
                }
                Err(ReadError::NotFound(_)) => {
                    // A damaged chunk that no mark vouches for can't be told from a torn write.
                    let may_be_gone = known.live.is_none() || known.damaged;
                    assert!(!known.deleted && may_be_gone, "chunk {number} is lost");
                    *known = Known::default();
                }
                Err(ReadError::Damaged { .. }) => assert!(known.damaged, "chunk {number} is damaged"),
                Err(error) => panic!("{error}"),
            }
        }
        let live: Vec<u64> =
            self.known.iter().filter(|(_, k)| k.live.is_some() && !k.damaged).map(|(&n, _)| n).collect();
        let listed: Vec<u64> = ids(&store).into_iter().filter(|n| !self.known[n].damaged).collect();
        assert_eq!(listed, live);
        self.store = Some(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn the_store_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..60)) {
        let mut model = Model::new();
        for operation in &operations {
            model.apply(operation);
        }
        model.reopen(|disk| disk.after_power_cut(99), false);
        for number in 0..12 {
            model.read(number);
        }
    }
}
