//! Commits that do not wait for the disk: what a power cut may take, and what it must not.

use std::sync::Arc;
use std::time::Instant;

use super::super::disk::simulated::{Call, FailedSync};
use super::*;
use crate::sync::{AtomicU32, AtomicU64};

const EIO: i32 = 5;

/// An interval that no test lives to see: the tests say when there is a round of syncs.
fn by_hand() -> StoreOptions {
    lazy(Durability::Interval(Duration::from_secs(3600)))
}

fn lazy(durability: Durability) -> StoreOptions {
    small_volumes().durability(durability)
}

fn open_with(disk: &SimulatedDisk, options: StoreOptions) -> ChunkStore {
    ChunkStore::open_on(Box::new(disk.clone()), options).unwrap()
}

fn length(number: u64) -> usize {
    if number.is_multiple_of(4) { 300_000 } else { 5000 + number as usize }
}

fn put_one(store: &ChunkStore, number: u64) -> Result<(), WriteError> {
    put(store, number, &content(number, length(number))).map(drop)
}

/// All of these are there, and whatever else is there is whole.
fn check(store: &ChunkStore, numbers: impl IntoIterator<Item = u64>) {
    let found = ids(store);
    for &number in &found {
        assert_eq!(get(store, number).unwrap(), content(number, length(number)), "chunk {number} is torn");
    }
    for number in numbers {
        assert!(found.contains(&number), "chunk {number} is lost");
    }
}

/// Writes and deletes, with a round of syncs now and then, until the power goes off. Answers what was acknowledged
/// before the last round that came to its end: chunks, and deletes; and all deletes that were tried.
fn run(disk: &SimulatedDisk, options: StoreOptions) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let (mut synced, mut synced_deletes, mut deletes) = (0, 0, Vec::new());
    let done = |synced: u64, deleted: usize, deletes: &Vec<u64>| {
        let gone = &deletes[..deleted];
        ((0..synced).filter(|n| !deletes.contains(n)).collect(), gone.to_vec(), deletes.clone())
    };
    let Ok(store) = ChunkStore::open_on(Box::new(disk.clone()), options) else {
        return done(0, 0, &deletes);
    };
    for number in 0..30 {
        if put_one(&store, number).is_err() {
            break;
        }
        if number % 7 == 5 {
            deletes.push(number - 3);
            if store.delete(id(number - 3), GroupVersion::new(3)).is_err() {
                break;
            }
        }
        if number % 10 == 9 {
            store.shared.volumes.catch_up();
            // Without power the round came to no end.
            if store.shared.volumes.directories[0].failed_syncs.load(Ordering::Relaxed) > 0
                || put_one(&store, 1000 + number).is_err()
            {
                break;
            }
            (synced, synced_deletes) = (number + 1, deletes.len());
        }
    }
    // The process does not come to close it.
    disk.power_off_after(0);
    drop(store);
    done(synced, synced_deletes, &deletes)
}

#[test]
fn a_power_cut_takes_only_what_came_after_the_last_round_of_syncs_and_tears_nothing() {
    let disk = SimulatedDisk::new();
    let (synced, deleted, _) = run(&disk, by_hand());
    assert!(synced.len() > 20 && deleted.len() > 2);
    let total = disk.changes();
    for crash in 0..total {
        for seed in 0..2 {
            let disk = SimulatedDisk::new();
            disk.power_off_after(crash);
            let (synced, deleted, tried) = run(&disk, by_hand());
            let disk = disk.after_power_cut(crash * 2 + seed);
            let store = open_with(&disk, by_hand());
            check(&store, synced);
            for number in deleted {
                assert!(
                    matches!(get(&store, number), Err(ReadError::Deleted(_))),
                    "chunk {number} came back"
                );
            }
            for number in 0..30 {
                let is_deleted = matches!(get(&store, number), Err(ReadError::Deleted(_)));
                assert!(!is_deleted || tried.contains(&number));
            }
            // What was served once is served after another power cut, and writes go on.
            let seen = ids(&store);
            let _ = put_one(&store, 2000);
            check(&open_with(&disk.after_power_cut(crash + 5), by_hand()), seen);
        }
    }
}

#[test]
fn without_any_sync_a_power_cut_tears_nothing_and_a_kill_takes_nothing() {
    let disk = SimulatedDisk::new();
    let store = open_with(&disk, lazy(Durability::Never));
    let syncs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&syncs);
    disk.fail_if(move |call, _| {
        counted.fetch_add(u32::from(call == Call::SyncData), Ordering::Relaxed);
        None
    });
    for number in 0..30 {
        put_one(&store, number).unwrap();
    }
    // A volume is synced when it is made and when it is full, and then once more for its mark.
    let most = 3 * store.usage().unwrap().volumes as u32;
    assert!(syncs.load(Ordering::Relaxed) <= most);
    check(&open_with(&disk.after_kill(), by_hand()), 0..30);
    let mut found = 0;
    for seed in 0..50 {
        let store = open_with(&disk.after_power_cut(seed), by_hand());
        check(&store, []);
        found += ids(&store).len();
    }
    assert!(found < 30 * 50, "a disk that forgets nothing proves nothing");
    drop(store);
    for seed in 0..10 {
        let store = open_with(&disk.after_power_cut(seed), lazy(Durability::Never));
        assert_eq!(store.recovery().verified_bytes, 0, "closing syncs, and marks the end");
        check(&store, 0..30);
    }
}

#[test]
fn the_thread_of_the_store_syncs_every_interval_and_ends_with_it() {
    let disk = SimulatedDisk::new();
    let store = open_with(&disk, lazy(Durability::Interval(Duration::from_millis(2))));
    for number in 0..12 {
        put_one(&store, number).unwrap();
        let begun = Instant::now();
        while !(0..4).all(|seed| get(&open(&disk.after_power_cut(seed)), number).is_ok()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "chunk {number} is not synced");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let volumes = Arc::downgrade(&store.shared.volumes);
    drop(store);
    assert!(volumes.upgrade().is_none(), "nothing holds the store's directory any more");
    check(&open(&disk.after_power_cut(9)), 0..12);
}

#[test]
fn a_round_that_fails_seals_the_volume_is_counted_and_never_asked_again() {
    for keeps in [FailedSync::Nothing, FailedSync::EverySecondSector] {
        let disk = SimulatedDisk::new();
        let store = open_with(&disk, by_hand());
        for number in 1..4 {
            put_one(&store, number).unwrap();
        }
        store.shared.volumes.catch_up();
        for number in 5..8 {
            put_one(&store, number).unwrap();
        }
        disk.failed_sync_keeps(keeps);
        let mut failures = 1;
        disk.fail_if(move |call, _| {
            let fails = call == Call::SyncData && failures > 0;
            failures -= u32::from(fails);
            fails.then_some(EIO)
        });
        store.shared.volumes.catch_up();
        assert_eq!(store.directories()[0].failed_syncs, 1);
        for number in 9..12 {
            put_one(&store, number).unwrap();
        }
        store.shared.volumes.catch_up();
        assert_eq!(store.usage().unwrap().volumes, 2, "the writes go to another volume");
        check(&open_with(&disk.after_power_cut(1), by_hand()), (1..4).chain(9..12));
        drop(store);
        let store = open_with(&disk.after_power_cut(2), by_hand());
        check(&store, (1..4).chain(9..12));
        assert!(store.recovery().verified_bytes > 0, "no mark vouches for a volume whose sync failed");
    }
}

#[test]
fn a_full_volume_whose_sync_fails_gets_no_mark() {
    for durability in [Durability::Never, Durability::Interval(Duration::from_secs(3600))] {
        let disk = SimulatedDisk::new();
        let store = open_with(&disk, lazy(durability));
        put(&store, 0, &content(0, 200_000)).unwrap();
        let failures = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&failures);
        disk.fail_if(move |call, name| {
            let fails = call == Call::SyncData && name == "00000001.volume";
            counted.fetch_add(u64::from(fails), Ordering::Relaxed);
            fails.then_some(EIO)
        });
        for number in 1..8 {
            put(&store, number, &content(number, 200_000)).unwrap();
        }
        store.shared.volumes.catch_up();
        assert_eq!(failures.load(Ordering::Relaxed), 1);
        assert_eq!(store.directories()[0].failed_syncs, 1);
        drop(store);
        disk.heal();
        let store = open(&disk.after_power_cut(3));
        for number in ids(&store) {
            assert_eq!(get(&store, number).unwrap(), content(number, 200_000));
        }
        let in_first =
            (0..8).filter(|&number| matches!(get(&store, number), Err(ReadError::NotFound(_)))).count();
        assert!(in_first > 0, "what was not synced is gone, and no mark says that it is there");
    }
}

#[test]
fn an_interval_has_bounds() {
    for interval in [Duration::ZERO, Duration::from_secs(3601)] {
        let disk = Box::new(SimulatedDisk::new());
        let error = ChunkStore::open_on(disk, lazy(Durability::Interval(interval))).unwrap_err();
        assert!(error.to_string().contains("it must be 1 ms to 1 hour"), "{error}");
    }
}
