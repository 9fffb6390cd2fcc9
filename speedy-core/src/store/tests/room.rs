//! A disk with an end: new chunks leave the reserve, deletes may take of it, and all goes on when there is room.

use super::super::disk::simulated::Call;
use super::*;

const CAPACITY: u64 = 6 << 20;
const RESERVE: u64 = 1 << 20;
/// By how much a volume's file grows ahead.
const STEP: u64 = 64 << 10;

fn options() -> StoreOptions {
    small_volumes().reserve(RESERVE)
}

fn small_disk(preallocates: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.set_capacity(CAPACITY);
    if !preallocates {
        disk.cannot_preallocate();
    }
    disk
}

fn open_with(disk: &SimulatedDisk, options: StoreOptions) -> ChunkStore {
    ChunkStore::open_on(Box::new(disk.clone()), options).unwrap()
}

fn free(disk: &SimulatedDisk) -> u64 {
    CAPACITY - disk.used()
}

/// Writes chunks of this length until there is no room; answers how many there are.
fn fill(store: &ChunkStore, from: u64, length: usize) -> u64 {
    for number in from.. {
        match put(store, number, &content(number, length)) {
            Ok(_) => {}
            Err(WriteError::Full { .. }) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("every disk has an end")
}

#[test]
fn new_chunks_leave_the_reserve_and_deletes_take_of_it() {
    for preallocates in [true, false] {
        for length in [3000, 30_000, 300_000] {
            let disk = small_disk(preallocates);
            let store = open_with(&disk, options());
            let count = fill(&store, 0, length);
            assert!(count * length as u64 > CAPACITY / 2, "{count} chunks of {length}");
            // Where the room can't be set aside, a step that was granted to one volume goes to another.
            let at_least = if preallocates { RESERVE - 2 * 8192 } else { RESERVE - 2 * STEP - 2 * 8192 };
            assert!(free(&disk) >= at_least, "{} bytes are free", free(&disk));
            let error = put(&store, count, &content(1, length)).unwrap_err();
            assert!(error.to_string().contains("1048576 are kept for deletes"), "{error}");
            // Deletes of what is here and of what is not take what they need, and no more.
            let before = free(&disk);
            for number in (0..count).chain(5000..7000) {
                store.delete(id(number), GroupVersion::new(3)).unwrap();
            }
            let taken = before.saturating_sub(free(&disk));
            let needed = (count + 2000) * 80;
            assert!(taken <= needed + STEP + 8192, "{taken} bytes were taken where {needed} are needed");
            assert_eq!(fill(&store, 9000, length), 9000, "what deletes may take, chunks may not");
            disk.set_capacity(2 * CAPACITY);
            put(&store, 9000, &content(9000, length)).unwrap();
            drop(store);
            let store = open_with(&disk, options());
            assert_eq!(ids(&store), [9000]);
            assert_eq!(store.recovery().verified_bytes, 0);
        }
    }
}

#[test]
fn on_a_full_disk_reads_and_deletes_go_on_and_writes_when_there_is_room() {
    let disk = small_disk(true);
    let store = open_with(&disk, options());
    let count = fill(&store, 0, 30_000);
    // Somebody else takes the rest, all but a little.
    disk.set_capacity(disk.used() + 100_000);
    for number in 0..count {
        assert_eq!(get(&store, number).unwrap(), content(number, 30_000));
    }
    store.delete(id(0), GroupVersion::new(3)).unwrap();
    assert_eq!(fill(&store, 5000, 30_000), 5000);
    // And the little.
    disk.set_capacity(disk.used());
    for number in 1..3000 {
        if let Err(error) = store.delete(id(number), GroupVersion::new(3)) {
            assert!(matches!(error, WriteError::Full { .. }), "{error}");
        }
    }
    for disk in [disk.after_kill(), disk.after_power_cut(1)] {
        let store = open_with(&disk, options());
        assert!(matches!(put(&store, 5000, b"more"), Err(WriteError::Full { .. })));
        disk.set_capacity(2 * CAPACITY);
        put(&store, 5000, b"more").unwrap();
        store.delete(id(2999), GroupVersion::new(3)).unwrap();
    }
}

#[test]
fn without_a_reserve_chunks_take_all_there_is() {
    let disk = small_disk(true);
    let store = open_with(&disk, small_volumes().reserve(0));
    fill(&store, 0, 1000);
    assert!(free(&disk) < 8192 + 2000, "{} bytes are free", free(&disk));
}

#[test]
fn the_reserve_is_a_volume_or_two_percent() {
    let options = StoreOptions::default();
    assert_eq!(options.reserve_of(1 << 40), 2 << 30);
    assert_eq!(options.reserve_of(50 << 30), 1 << 30);
    assert_eq!(options.clone().reserve(7).reserve_of(1 << 40), 7);
}

#[test]
fn the_room_is_looked_at_once_a_step_not_once_a_record() {
    let disk = SimulatedDisk::new();
    let store = open_with(&disk, options());
    put(&store, 0, b"the volume is made").unwrap();
    let mut steps = 0;
    let preallocations = Arc::new(crate::sync::AtomicU32::new(0));
    let counted = Arc::clone(&preallocations);
    disk.fail_if(move |call, _| {
        counted.fetch_add(u32::from(call == Call::Preallocate), Ordering::Relaxed);
        None
    });
    for number in 1..=64 {
        put(&store, number, &content(number, 4000)).unwrap();
        steps = number * 4112 / STEP;
    }
    assert!(u64::from(preallocations.load(Ordering::Relaxed)) <= steps + 1);
}

#[test]
fn a_full_disk_among_several_leaves_the_writes_to_the_others() {
    let disks = SimulatedDisk::rack(2);
    let store = super::directories::open_all(&disks);
    disks[0].set_capacity(3 << 20);
    disks[1].set_capacity(disks[1].used() + (6 << 20));
    for number in 0..200 {
        put(&store, number, &content(number, 30_000)).unwrap();
    }
    let store_is_full = fill(&store, 200, 30_000);
    assert!(disks.iter().all(|disk| disk.used() > 1 << 20));
    for number in 0..store_is_full {
        assert_eq!(get(&store, number).unwrap(), content(number, 30_000));
    }
    disks[0].set_capacity(30 << 20);
    put(&store, store_is_full, &content(1, 30_000)).unwrap();
}

#[test]
fn a_full_disk_is_compacted_from_its_reserve_until_writes_go_on() {
    for (length, preallocates) in [(3000, true), (30_000, true), (300_000, true), (30_000, false)] {
        let disk = small_disk(preallocates);
        let store = open_with(&disk, options());
        let count = fill(&store, 0, length);
        let mut left = Vec::new();
        for number in 0..count {
            if number % 4 == 0 {
                left.push(number);
            } else {
                store.delete(id(number), GroupVersion::new(3)).unwrap();
            }
        }
        assert!(matches!(put(&store, 9000, &content(1, length)), Err(WriteError::Full { .. })));
        let report = store.compact(&CompactionOptions::default()).unwrap();
        assert!(report.removed >= 2 && report.left.is_empty(), "{report:?}");
        assert!(free(&disk) > CAPACITY / 3, "{} of {CAPACITY} bytes are free", free(&disk));
        assert!(fill(&store, 9000, length) - 9000 > count / 3);
        for &number in &left {
            assert_eq!(get(&store, number).unwrap(), content(number, length));
        }
        drop(store);
        let store = open_with(&disk.after_power_cut(1), options());
        for &number in &left {
            assert_eq!(get(&store, number).unwrap(), content(number, length));
        }
    }
}
