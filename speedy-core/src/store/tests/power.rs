//! The power goes off at every call that changes the disk, one after the other, and whatever was not synced is there
//! or not by chance.

use std::collections::BTreeMap;

use super::*;

/// What the scenario does to an id.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u64, usize),
    /// All of it at once, from memory that direct I/O takes.
    PutWhole(u64, usize),
    Delete(u64),
    /// A large write that is given up half-way.
    Abandon(u64, usize),
    Restart,
}

/// Packed and aligned chunks over several volumes of each kind, tombstones, a second try, a clean restart.
const SCENARIO: [Step; 20] = [
    Step::Put(1, 100),
    Step::Put(2, 300_000),
    Step::Put(3, 70_000),
    Step::Abandon(4, 270_000),
    Step::Put(2, 300_000),
    Step::Delete(1),
    Step::Delete(50),
    Step::Put(5, 280_000),
    Step::PutWhole(14, 290_000),
    Step::Put(6, 290_000),
    Step::Put(7, 262_144),
    Step::Restart,
    Step::Put(8, 250_000),
    Step::Put(9, 250_000),
    Step::Put(10, 250_000),
    Step::Put(11, 250_000),
    Step::Delete(5),
    Step::Put(12, 4096),
    Step::Put(13, 300_000),
    Step::PutWhole(15, 262_144),
];

/// What was acknowledged of an id: its length, or `None` once it is deleted.
type Acknowledged = BTreeMap<u64, Option<usize>>;

/// Runs the scenario until something fails; answers what was acknowledged and the step that failed.
fn run(disk: &SimulatedDisk) -> (Acknowledged, Option<Step>) {
    let mut acknowledged = Acknowledged::new();
    let try_open = || ChunkStore::open_on(Box::new(disk.clone()), small_volumes());
    let Ok(mut store) = try_open() else { return (acknowledged, None) };
    for step in SCENARIO {
        let result = match step {
            Step::Put(number, length) => put(&store, number, &content(number, length))
                .map(|_| acknowledged.insert(number, Some(length))),
            Step::PutWhole(number, length) => put_whole(&store, number, &content(number, length))
                .map(|_| acknowledged.insert(number, Some(length))),
            Step::Delete(number) => {
                store.delete(id(number), GroupVersion::new(3)).map(|()| acknowledged.insert(number, None))
            }
            Step::Abandon(number, length) => store.begin(new_chunk(number, length)).and_then(|mut writer| {
                writer.write(&content(number, length)[..length / 2])?;
                Ok(None)
            }),
            Step::Restart => {
                drop(store);
                store = match try_open() {
                    Ok(store) => store,
                    Err(_) => return (acknowledged, Some(step)),
                };
                Ok(None)
            }
        };
        if result.is_err() {
            return (acknowledged, Some(step));
        }
    }
    (acknowledged, None)
}

/// All that was acknowledged is there, and whatever else is there is whole.
fn check(store: &ChunkStore, acknowledged: &Acknowledged, failed: Option<Step>) {
    for (&number, &length) in acknowledged {
        let deletes = matches!(failed, Some(Step::Delete(n)) if n == number);
        match (length, get(store, number)) {
            (Some(length), Ok(bytes)) => assert_eq!(bytes, content(number, length)),
            (None, Err(ReadError::Deleted(_))) => {}
            (Some(_), Err(ReadError::Deleted(_))) if deletes => {}
            (length, result) => panic!("chunk {number}: acknowledged {length:?}, found {result:?}"),
        }
    }
    for number in ids(store) {
        let bytes = get(store, number).unwrap();
        assert_eq!(bytes, content(number, bytes.len()));
    }
}

#[test]
fn every_power_off_keeps_what_was_acknowledged_and_serves_nothing_torn() {
    let disk = SimulatedDisk::new();
    let (all, failed) = run(&disk);
    assert!(failed.is_none());
    let total = disk.changes();
    check(&open(&disk), &all, None);
    assert!(total > 80, "the scenario has {total} crash points");
    for crash in 0..total {
        let disk = SimulatedDisk::new();
        disk.power_off_after(crash);
        let (before, failed) = run(&disk);
        for seed in 0..3 {
            // The last one is a killed process: the page cache is still there.
            let mut acknowledged = before.clone();
            let disk = if seed < 2 { disk.after_power_cut(crash * 2 + seed) } else { disk.after_kill() };
            let store = open(&disk);
            check(&store, &acknowledged, failed);
            let seen = ids(&store);
            // What failed can be tried again, and is as durable as anything then.
            match failed {
                Some(Step::Put(number, length) | Step::PutWhole(number, length)) => {
                    put(&store, number, &content(number, length)).unwrap();
                    acknowledged.insert(number, Some(length));
                }
                Some(Step::Delete(number)) => {
                    store.delete(id(number), GroupVersion::new(3)).unwrap();
                    acknowledged.insert(number, None);
                }
                _ => {}
            }
            let disk = disk.after_power_cut(crash + 17);
            let store = open(&disk);
            check(&store, &acknowledged, failed);
            for number in seen {
                let deleted = acknowledged.get(&number) == Some(&None);
                assert!(deleted || get(&store, number).is_ok(), "chunk {number} was served once and is gone");
            }
        }
    }
}
