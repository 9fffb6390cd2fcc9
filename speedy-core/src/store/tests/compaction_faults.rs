//! Every operation of a compaction is the one at which the power goes off, the disk fails or is full.

use std::collections::BTreeMap;

use super::super::disk::simulated::{Call, FailedSync};
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u64, usize),
    Delete(u64),
    Damage(u64),
    Compact,
    Checkpoint,
    Heal(u64, usize),
    Restart,
}

/// Dead and live chunks of both kinds, damaged ones of both, tombstones; compacted, healed, restarted, compacted again.
const SCENARIO: [Step; 31] = [
    Step::Put(1, 100),
    Step::Put(2, 262_144),
    Step::Put(3, 70_000),
    Step::Put(4, 3000),
    Step::Put(5, 262_145),
    Step::Put(6, 270_000),
    Step::Delete(1),
    Step::Delete(50),
    Step::Delete(5),
    // These fill the volumes that the others are in.
    Step::Put(7, 700_000),
    Step::Put(8, 250_000),
    Step::Put(9, 250_000),
    Step::Put(10, 250_000),
    Step::Put(11, 250_000),
    Step::Delete(9),
    Step::Damage(4),
    Step::Damage(6),
    // So that an old checkpoint, a new one and none are found with what a compaction leaves.
    Step::Checkpoint,
    Step::Compact,
    Step::Put(12, 262_200),
    Step::Heal(6, 270_000),
    Step::Checkpoint,
    Step::Restart,
    Step::Heal(4, 3000),
    Step::Delete(12),
    Step::Delete(7),
    Step::Put(13, 900_000),
    Step::Checkpoint,
    Step::Compact,
    Step::Restart,
    Step::Compact,
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Live(usize),
    /// Live, and with a flipped bit.
    Damaged(usize),
    Deleted,
}

type Acknowledged = BTreeMap<u64, State>;

fn try_open(disk: &SimulatedDisk) -> Option<ChunkStore> {
    ChunkStore::open_on(Box::new(disk.clone()), small_volumes()).ok()
}

/// Makes a step; whether it was acknowledged. `None` if the store does not open any more.
fn make(
    disk: &SimulatedDisk,
    store: ChunkStore,
    step: Step,
    known: &mut Acknowledged,
) -> Option<(ChunkStore, bool)> {
    let done = match step {
        Step::Put(number, length) => {
            let done = put(&store, number, &content(number, length)).is_ok();
            done.then(|| known.insert(number, State::Live(length))).is_some()
        }
        Step::Heal(number, length) => {
            let done = heal(&store, number, &content(number, length)).is_ok();
            done.then(|| known.insert(number, State::Live(length))).is_some()
        }
        Step::Delete(number) => {
            let done = store.delete(id(number), GroupVersion::new(3)).is_ok();
            done.then(|| known.insert(number, State::Deleted)).is_some()
        }
        Step::Damage(number) => {
            if let Some(&State::Live(length)) = known.get(&number) {
                damage(disk, &store, number);
                known.insert(number, State::Damaged(length));
            }
            true
        }
        Step::Checkpoint => store.checkpoint().is_ok(),
        Step::Compact => compact(&store).is_ok_and(|report| report.left.is_empty()),
        Step::Restart => {
            drop(store);
            return try_open(disk).map(|store| (store, true));
        }
    };
    Some((store, done))
}

/// Runs the scenario up to the first step that fails; answers what was acknowledged, and that step.
fn run(disk: &SimulatedDisk) -> (Acknowledged, Option<Step>) {
    let mut known = Acknowledged::new();
    let Some(mut store) = try_open(disk) else { return (known, None) };
    for step in SCENARIO {
        match make(disk, store, step, &mut known) {
            Some((next, true)) => store = next,
            _ => return (known, Some(step)),
        }
    }
    (known, None)
}

/// All that was acknowledged is there, and whatever else is there is whole.
fn check(store: &ChunkStore, known: &Acknowledged, failed: Option<Step>) {
    for (&number, &state) in known {
        let deletes = matches!(failed, Some(Step::Delete(n)) if n == number);
        match (state, get(store, number)) {
            (State::Live(length) | State::Damaged(length), Ok(bytes)) => {
                assert_eq!(bytes, content(number, length))
            }
            (State::Deleted, Err(ReadError::Deleted(_))) => {}
            (State::Damaged(_), Err(ReadError::Damaged { .. } | ReadError::NotFound(_))) => {}
            (State::Live(_) | State::Damaged(_), Err(ReadError::Deleted(_))) if deletes => {}
            (state, found) => panic!("chunk {number}: {state:?} was acknowledged, found {found:?}"),
        }
    }
    for number in ids(store) {
        match get(store, number) {
            Ok(bytes) => assert_eq!(bytes, content(number, bytes.len())),
            Err(error) => assert!(matches!(known.get(&number), Some(State::Damaged(_))), "{error}"),
        }
    }
}

/// Heals what is damaged, compacts twice, and checks after each and after a power cut.
fn recover_and_check(disk: &SimulatedDisk, mut known: Acknowledged, failed: Option<Step>, seed: u64) {
    let store = open(disk);
    check(&store, &known, failed);
    let seen = ids(&store);
    for round in 0..2 {
        for (&number, state) in &mut known {
            if let State::Damaged(length) = *state
                && !matches!(get(&store, number), Err(ReadError::Deleted(_)))
            {
                heal(&store, number, &content(number, length)).unwrap();
                *state = State::Live(length);
            }
        }
        let report = compact(&store).unwrap();
        assert!(report.left.is_empty() && (round == 0 || report.damaged == 0), "{report:?}");
        check(&store, &known, failed);
    }
    let disk = disk.after_power_cut(seed);
    let store = open(&disk);
    check(&store, &known, failed);
    for number in seen {
        let deleted = known.get(&number) == Some(&State::Deleted);
        assert!(deleted || get(&store, number).is_ok(), "chunk {number} was served once and is gone");
    }
}

#[test]
fn every_power_off_around_a_compaction_keeps_what_was_acknowledged() {
    let disk = SimulatedDisk::new();
    let (all, failed) = run(&disk);
    assert!(failed.is_none(), "{failed:?}");
    let total = disk.changes();
    check(&open(&disk), &all, None);
    // Those before are much like those of the scenario without compaction. Closing the store has taken a few calls.
    let first = prepared().0.changes() - 10;
    assert!(total - first > 100, "{} crash points from the first compaction on", total - first);
    for crash in first..total {
        let disk = SimulatedDisk::new();
        disk.power_off_after(crash);
        let (known, failed) = run(&disk);
        let images = [
            disk.after_kill(),
            disk.after_power_cut(SimulatedDisk::NOTHING_SURVIVES),
            disk.after_power_cut(crash),
        ];
        for (image, disk) in images.iter().enumerate() {
            recover_and_check(disk, known.clone(), failed, crash * 4 + image as u64);
        }
    }
}

/// The disk before the first compaction of the scenario, its store closed.
fn prepared() -> (SimulatedDisk, Acknowledged) {
    let disk = SimulatedDisk::new();
    let (mut store, mut known) = (open(&disk), Acknowledged::new());
    for step in SCENARIO.into_iter().take_while(|step| !matches!(step, Step::Compact)) {
        let (next, done) = make(&disk, store, step, &mut known).unwrap();
        assert!(done);
        store = next;
    }
    drop(store);
    (disk, known)
}

#[test]
fn every_failure_of_the_disk_in_a_compaction_costs_time_only() {
    let (prepared, known) = prepared();
    let disk = prepared.after_kill();
    let store = open(&disk);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let kinds = Arc::clone(&calls);
    disk.fail_if(move |kind, _| {
        kinds.lock().push(kind);
        None
    });
    compact(&store).unwrap();
    let calls = std::mem::take(&mut *calls.lock());
    assert!(calls.len() > 60, "{} calls", calls.len());
    let is_of_room = |kind: Call| matches!(kind, Call::Create | Call::Write | Call::Preallocate);
    for (error, lasts) in [(EIO, false), (EIO, true), (ENOSPC, false), (ENOSPC, true)] {
        for (call, &kind) in (0..).zip(&calls) {
            // A full disk refuses only what takes room; and reads are many and alike.
            if error == ENOSPC && !is_of_room(kind) || kind == Call::Read && lasts && call % 4 != 0 {
                continue;
            }
            let (disk, known) = (prepared.after_kill(), known.clone());
            let store = open(&disk);
            let mut at = 0;
            disk.failed_sync_keeps([FailedSync::Nothing, FailedSync::EverySecondSector][call as usize % 2]);
            disk.fail_if(move |kind, _| {
                at += 1;
                let hit = if lasts { at > call } else { at == call + 1 };
                (hit && (error == EIO || is_of_room(kind))).then_some(error)
            });
            // It may say so, or have got around it.
            let _ = compact(&store);
            disk.heal();
            check(&store, &known, None);
            match call % 3 {
                0 => recover_and_check(&disk.after_power_cut(call), known, None, call),
                1 => recover_and_check(&disk.after_kill(), known, None, call),
                // The same process goes on as well.
                _ => {
                    compact(&store).unwrap();
                    check(&store, &known, None);
                    put(&store, 100, &content(100, 5000)).unwrap();
                    recover_and_check(&disk.after_power_cut(call + 1), known, None, call);
                }
            }
        }
    }
}

#[test]
fn a_volume_whose_removal_was_cut_off_does_not_come_back_after_the_next_start() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 300_000)).unwrap();
    // A tombstone that gets to the disk, although its sync fails: nobody was told that the chunk is deleted.
    let mut syncs = 0;
    disk.failed_sync_keeps(FailedSync::Everything);
    disk.fail_if(move |call, name| {
        syncs += u32::from(call == Call::SyncData && name == "00000002.volume");
        (syncs == 2).then_some(EIO)
    });
    store.delete(id(1), GroupVersion::new(3)).unwrap_err();
    // The process ends between the removal of its volume and the sync of the directory.
    disk.fail_if(|call, _| (call == Call::SyncNames).then_some(EIO));
    compact(&store).unwrap_err();
    let disk = disk.after_kill();
    let store = open(&disk);
    put(&store, 1, &content(1, 300_000)).unwrap();
    for seed in 0..8 {
        assert_eq!(
            get(&open(&disk.after_power_cut(seed)), 1).unwrap(),
            content(1, 300_000),
            "power cut {seed}"
        );
    }
}
