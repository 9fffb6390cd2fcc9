//! A checkpoint costs time when it is wrong, never data: whatever becomes of it, the store opens as without one.

use proptest::prelude::*;

use super::super::disk::Disk;
use super::*;
use crate::checksum::crc32c;

const FILE: &str = "CHECKPOINT";
const PREVIOUS: &str = "CHECKPOINT.old";

/// Takes all checkpoints away.
pub(super) fn forget(disk: &SimulatedDisk) {
    for name in [FILE, PREVIOUS, "CHECKPOINT.new"] {
        let _ = disk.remove(name);
    }
}

fn replace(disk: &SimulatedDisk, name: &str, content: &[u8]) {
    let _ = disk.remove(name);
    disk.create(name).unwrap().write_at(content, 0).unwrap();
}

/// All that callers can see of a store.
#[derive(PartialEq, Debug)]
struct Seen {
    chunks: Vec<ChunkInfo>,
    content: Vec<Result<Vec<u8>, String>>,
    deleted: Vec<bool>,
    usage: (u64, u64, u64),
    highest: Option<ChunkId>,
    unfinished: u64,
    damaged: u64,
}

fn see(store: &ChunkStore) -> Seen {
    let chunks = store.list(None, 10_000).unwrap().chunks;
    let usage = store.usage().unwrap();
    Seen {
        content: (0..60).map(|number| get(store, number).map_err(|error| error.to_string())).collect(),
        deleted: (0..60).map(|n| matches!(store.stat(id(n)), Err(ReadError::Deleted(_)))).collect(),
        chunks,
        usage: (usage.chunks, usage.bytes, usage.tombstones),
        highest: store.highest_id(),
        unfinished: store.recovery().unfinished,
        damaged: store.recovery().damaged_regions + store.recovery().torn,
    }
}

/// Opens the store as it is and without checkpoints; both must be the same. Answers how much came from checkpoints.
fn compare(disk: &SimulatedDisk) -> u64 {
    let (with, without) = (disk.after_kill(), disk.after_kill());
    forget(&without);
    let (with, without) = (open_what_is_left(&with), open(&without));
    assert_eq!(without.recovery().from_checkpoints, 0);
    assert_eq!(see(&with), see(&without));
    let report = with.recovery();
    assert!(report.lost.is_empty() || report.from_checkpoints == 0, "where one is lost all are walked");
    report.from_checkpoints
}

/// A store that was closed, with sealed and open volumes of both kinds, tombstones and an abandoned write.
fn closed_store() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 0..20 {
        put(&store, number, &content(number, if number % 3 == 0 { 300_000 } else { 70_000 })).unwrap();
    }
    let mut abandoned = store.begin(new_chunk(50, 400_000)).unwrap();
    abandoned.write(&content(50, 100_000)).unwrap();
    drop(abandoned);
    for number in [1, 3, 40] {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    drop(store);
    disk
}

#[test]
fn a_clean_start_reads_no_records() {
    let disk = closed_store();
    assert_eq!(compare(&disk), 21);
    let store = open(&disk);
    assert_eq!(store.recovery().unfinished, 1);
    put(&store, 30, b"more").unwrap();
    drop(store);
    assert_eq!(compare(&disk), 22);
}

#[test]
fn a_store_that_was_only_read_leaves_its_checkpoint_as_it_is() {
    let disk = closed_store();
    let before = disk.content(FILE);
    drop(open(&disk));
    assert_eq!(disk.content(FILE), before);
    assert!(!Disk::names(&disk).unwrap().iter().any(|name| name == PREVIOUS));
}

#[test]
fn damage_anywhere_in_a_checkpoint_costs_only_time() {
    let disk = closed_store();
    let whole = disk.content(FILE);
    let footer = whole.len() - 60;
    // Both heads, all of the table and the rows, the footer.
    let positions = (0..130).step_by(3).chain((4096..4230).step_by(5)).chain((8192..whole.len()).step_by(7));
    for position in positions.chain(footer..whole.len()) {
        let disk = disk.after_kill();
        disk.damage(FILE, |bytes| bytes[position] ^= 1 << (position % 8));
        let used = compare(&disk);
        assert!(position < 8192 || used == 0, "damage at {position} of {} went unnoticed", whole.len());
    }
    for sector in (0..whole.len()).step_by(512) {
        let disk = disk.after_kill();
        disk.damage(FILE, |bytes| bytes[sector..].iter_mut().take(512).for_each(|b| *b = 0));
        compare(&disk);
    }
    for length in (0..whole.len()).step_by(101).chain([whole.len() - 1]) {
        let disk = disk.after_kill();
        disk.damage(FILE, |bytes| bytes.truncate(length));
        assert_eq!(compare(&disk), 0, "cut off at {length}");
    }
    disk.damage(FILE, |bytes| bytes.push(0));
    assert_eq!(compare(&disk), 0, "a byte too long");
}

#[test]
fn the_checkpoint_before_stands_in_for_a_damaged_one() {
    let disk = closed_store();
    let store = open(&disk);
    put(&store, 30, &content(30, 5000)).unwrap();
    store.delete(id(2), GroupVersion::new(3)).unwrap();
    drop(store);
    disk.damage(FILE, |bytes| bytes[8500] ^= 1);
    // All that the older one has, and the rest from the volumes.
    assert_eq!(compare(&disk), 21);
}

#[test]
fn an_old_checkpoint_brings_nothing_back() {
    let disk = closed_store();
    let old = disk.content(FILE);
    let store = open(&disk);
    for number in [0, 2, 4] {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    for number in 30..45 {
        let _ = put(&store, number, &content(number, 200_000));
    }
    drop(store);
    for name in [FILE, PREVIOUS] {
        replace(&disk, name, &old);
    }
    assert_eq!(compare(&disk), 21);
    assert!(matches!(get(&open(&disk), 2), Err(ReadError::Deleted(_))));
}

#[test]
fn a_checkpoint_of_another_store_or_a_newer_release_is_not_used() {
    let (disk, other) = (closed_store(), closed_store());
    replace(&disk, FILE, &other.content(FILE));
    assert_eq!(compare(&disk), 0);

    let disk = closed_store();
    disk.damage(FILE, |bytes| {
        for head in [0, 4096] {
            bytes[head + 8] = 2;
            let crc = crc32c(&bytes[head..head + 124]);
            bytes[head + 124..head + 128].copy_from_slice(&crc.to_le_bytes());
        }
    });
    assert_eq!(compare(&disk), 0);
}

#[test]
fn a_volume_that_is_gone_takes_its_entries_with_it() {
    let disk = closed_store();
    let names = Disk::names(&disk).unwrap();
    let volume = names.iter().find(|name| name.ends_with(".volume")).unwrap();
    disk.remove(volume).unwrap();
    assert_eq!(compare(&disk), 0);
    // Another file of that name, as after a mistaken copy, is not taken for the one that was there.
    let donor = closed_store();
    replace(&disk, volume, &donor.content(volume));
    compare(&disk);
}

#[test]
fn a_power_cut_while_a_checkpoint_is_written_costs_only_time() {
    let scenario = |disk: &SimulatedDisk| {
        let Ok(store) = ChunkStore::open_on(Box::new(disk.clone()), small_volumes()) else { return };
        for number in 0..6 {
            if put(&store, number, &content(number, 250_000)).is_err() {
                return;
            }
        }
        // Twice, with a change between: the second moves the first aside.
        let _ = store.checkpoint();
        let _ = store.delete(id(2), GroupVersion::new(3));
        let _ = put(&store, 7, &content(7, 900_000));
        let _ = store.checkpoint();
    };
    let disk = SimulatedDisk::new();
    scenario(&disk);
    let total = disk.changes();
    assert!(total > 40, "{total}");
    let mut used = 0;
    for crash in 0..total {
        let disk = SimulatedDisk::new();
        disk.power_off_after(crash);
        scenario(&disk);
        for seed in 0..4 {
            used += compare(&disk.after_power_cut(crash * 4 + seed));
        }
    }
    assert!(used > 0, "no start has used a checkpoint");
}

#[test]
fn a_checkpoint_falls_due_when_a_volume_is_full() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 200_000)).unwrap();
    assert!(!store.checkpoint_is_due());
    for number in 2..9 {
        put(&store, number, &content(number, 200_000)).unwrap();
    }
    assert!(store.checkpoint_is_due());
    store.checkpoint().unwrap();
    assert!(!store.checkpoint_is_due());
    // After a kill the full volume is not read again; the one that was written to is.
    let used = compare(&disk);
    assert!((1..8).contains(&used), "{used}");
}

#[test]
fn writes_and_deletes_beside_a_checkpoint_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = || small_volumes().durability(Durability::Always);
    let store = ChunkStore::open(dir.path(), options()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.checkpoint().unwrap();
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..60 {
                        let number = n * 4 + writer;
                        put(store, number, &content(number, 20_000)).unwrap();
                        if n % 5 == 0 {
                            store.delete(id(number), GroupVersion::new(3)).unwrap();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let copy = tempfile::tempdir().unwrap();
    // As a kill leaves it.
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let again = ChunkStore::open(copy.path(), options()).unwrap();
    assert!(again.recovery().from_checkpoints > 0);
    let expected: Vec<u64> = (0..240).filter(|number| number / 4 % 5 != 0).collect();
    assert_eq!(ids(&again), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_checkpoint_at_any_time_gives_what_the_volumes_give(
        steps in prop::collection::vec((0..10_u8, 0..30_u64, any::<u64>()), 1..40)
    ) {
        let mut disk = SimulatedDisk::new();
        let mut store = Some(open(&disk));
        let mut old = Vec::new();
        for (what, number, seed) in steps {
            let open_store = store.as_ref().unwrap();
            match what {
                0..4 => drop(put(open_store, number, &content(number, 40_000 + number as usize * 20_000))),
                4 => open_store.delete(id(number), GroupVersion::new(3)).unwrap(),
                5 => open_store.checkpoint().unwrap(),
                6 => {
                    drop(store.take());
                    old.extend(Disk::names(&disk).unwrap().iter().any(|n| n == FILE).then(|| disk.content(FILE)));
                    store = Some(open(&disk));
                }
                7 => {
                    disk = disk.after_power_cut(seed);
                    store = Some(open(&disk));
                }
                8 => disk = { let disk = disk.after_kill(); store = Some(open(&disk)); disk },
                _ => {
                    // One from before, in place of the newest.
                    if let Some(content) = old.get(seed as usize % old.len().max(1)) {
                        replace(&disk, FILE, content);
                    }
                }
            }
            compare(&disk);
        }
        drop(store);
        compare(&disk);
    }
}
