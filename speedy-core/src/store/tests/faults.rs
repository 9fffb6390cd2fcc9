//! A disk that is full, or fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::super::disk::simulated::{Call, FailedSync};
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const FIRST: &str = "00000001.volume";

#[test]
fn a_failed_sync_seals_the_volume_fails_its_writes_and_no_others() {
    for length in [3000, 280_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        put(&store, 1, &content(1, length)).unwrap();
        let mut in_flight = store.begin(new_chunk(4, length)).unwrap();
        in_flight.write(&content(4, length)[..length / 2]).unwrap();
        let failures = AtomicU32::new(1);
        disk.fail_if(move |call, name| {
            let hit = call == Call::SyncData && name == FIRST;
            (hit && failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok())
                .then_some(EIO)
        });
        let error = put(&store, 2, &content(2, length)).unwrap_err();
        assert!(matches!(&error, WriteError::Disk { path, .. } if path.ends_with(FIRST)), "{error}");
        assert!(matches!(get(&store, 2), Err(ReadError::NotFound(_))));
        in_flight.write(&content(4, length)[length / 2..]).unwrap();
        if length > 256 << 10 {
            assert!(in_flight.commit().is_err(), "a record that is in the failed volume fails");
        } else {
            in_flight.commit().unwrap();
        }
        for number in [2, 3, 4] {
            put(&store, number, &content(number, length)).unwrap();
        }
        assert_eq!(store.usage().unwrap().volumes, 2);
        for disk in [disk.after_kill(), disk.after_power_cut(1), disk.after_kill().after_power_cut(2)] {
            disk.heal();
            let store = open(&disk);
            for number in 1..=4 {
                assert_eq!(get(&store, number).unwrap(), content(number, length));
            }
        }
    }
}

#[test]
fn an_id_whose_write_failed_takes_no_other_bytes_before_the_next_start_has_seen_what_is_there() {
    for length in [3000, 280_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        put(&store, 9, &content(9, length)).unwrap();
        disk.failed_sync_keeps(FailedSync::Everything);
        let mut failures = 1;
        disk.fail_if(move |call, _| {
            let fails = call == Call::SyncData && failures > 0;
            failures -= i32::from(fails);
            fails.then_some(EIO)
        });
        let tried = content(1, length);
        assert!(matches!(put(&store, 1, &tried), Err(WriteError::Disk { .. })));
        // Were they taken, damage to them would bring back what failed.
        for other in [content(2, length), content(1, length - 1)] {
            let refused = put(&store, 1, &other).unwrap_err();
            assert!(matches!(refused, WriteError::Conflict(_)), "{refused}");
        }
        put(&store, 1, &tried).unwrap();
        for disk in [disk.after_kill(), disk.after_power_cut(1)] {
            assert_eq!(get(&open(&disk), 1).unwrap(), tried);
        }
    }
}

#[test]
fn a_long_chunk_that_is_written_while_it_is_summed_fails_like_any_other() {
    let bytes = content(1, 300_000);
    // The header and most of the body, then the rest and the footer.
    for failing in 1..=2 {
        for error in [EIO, ENOSPC] {
            let disk = SimulatedDisk::new();
            let store = open(&disk);
            put_whole(&store, 9, &content(9, 300_000)).unwrap();
            let mut writes = 0;
            disk.fail_if(move |call, name| {
                writes += i32::from(call == Call::Write && name == FIRST);
                (call == Call::Write && name == FIRST && writes == failing).then_some(error)
            });
            let failed = put_whole(&store, 1, &bytes).unwrap_err();
            assert!(matches!(failed, WriteError::Disk { .. } | WriteError::Full { .. }), "{failed}");
            assert!(matches!(get(&store, 1), Err(ReadError::NotFound(_))));
            disk.heal();
            put_whole(&store, 1, &bytes).unwrap();
            for disk in [disk.after_kill(), disk.after_power_cut(1)] {
                let store = open(&disk);
                assert_eq!(get(&store, 1).unwrap(), bytes);
                assert_eq!(get(&store, 9).unwrap(), content(9, 300_000));
            }
        }
    }
}

#[test]
fn what_only_the_page_cache_holds_after_a_failed_sync_is_not_served_by_the_next_process() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 3000)).unwrap();
    disk.fail_if(|call, _| (call == Call::SyncData).then_some(EIO));
    assert!(put(&store, 2, &content(2, 3000)).is_err());
    let restarted = disk.after_kill();
    let store = open(&restarted);
    assert_eq!(ids(&store), [1]);
    // A second try is a new record, not a comparison with pages that never got to the disk.
    put(&store, 2, &content(2, 3000)).unwrap();
    assert_eq!(get(&open(&restarted.after_power_cut(3)), 2).unwrap(), content(2, 3000));
}

#[test]
fn a_full_disk_fails_writes_only_and_only_while_it_is_full() {
    for full in [Call::Preallocate, Call::Write, Call::Create] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        if full != Call::Create {
            put(&store, 1, &content(1, 60_000)).unwrap();
            put(&store, 2, &content(2, 300_000)).unwrap();
        }
        let mut begun = store.begin(new_chunk(3, 300_000)).unwrap();
        disk.fail_if(move |call, _| (call == full).then_some(ENOSPC));
        let written = begun.write(&content(3, 300_000)).and_then(|()| begun.commit());
        if full == Call::Write {
            assert!(matches!(written, Err(WriteError::Full { .. })));
        } else {
            written.unwrap();
        }
        for (number, length) in [(4, 60_000), (5, 300_000), (6, 900_000)] {
            let result = put(&store, number, &content(number, length));
            if full != Call::Create || number == 4 {
                assert!(matches!(result, Err(WriteError::Full { .. })), "{full:?} {number} {result:?}");
            }
        }
        if full != Call::Create {
            assert_eq!(get(&store, 2).unwrap(), content(2, 300_000));
        }
        disk.heal();
        for (number, length) in [(3, 300_000), (4, 60_000), (5, 300_000), (6, 900_000)] {
            put(&store, number, &content(number, length)).unwrap();
            assert_eq!(get(&store, number).unwrap(), content(number, length));
        }
        let before = ids(&store);
        for disk in [disk.after_power_cut(1), disk.after_kill()] {
            assert_eq!(ids(&open(&disk)), before);
        }
    }
}

#[test]
fn a_disk_that_fails_for_good_is_not_filled_with_volumes() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 500)).unwrap();
    // Volumes can be made, and nothing can be stored in them.
    let mut made = HashSet::from([FIRST.to_string()]);
    disk.fail_if(move |call, name| (call == Call::SyncData && !made.insert(name.into())).then_some(EIO));
    let mut last = None;
    for number in 2..40 {
        last = put(&store, number, b"lost").err();
    }
    let last = last.unwrap();
    assert!(matches!(last, WriteError::GaveUp { volumes: 8, .. }), "{last}");
    assert!(store.usage().unwrap().volumes <= 9);
    assert_eq!(get(&store, 1).unwrap(), content(1, 500));
    let disk = disk.after_kill();
    let store = open(&disk);
    put(&store, 2, b"found").unwrap();
    assert_eq!(ids(&store), [1, 2]);
}

#[test]
fn a_delete_that_failed_spends_the_id_until_it_is_repeated() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, b"one").unwrap();
    let syncs = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&syncs);
    disk.fail_if(move |call, _| {
        (call == Call::SyncData && fails.swap(false, Ordering::SeqCst)).then_some(EIO)
    });
    assert!(matches!(store.delete(id(1), GroupVersion::new(3)), Err(WriteError::Disk { .. })));
    assert_eq!(get(&store, 1).unwrap(), b"one");
    assert!(matches!(put(&store, 1, b"one"), Err(WriteError::Deleted(_))));
    store.delete(id(1), GroupVersion::new(3)).unwrap();
    assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))));
    assert_eq!(ids(&open(&disk.after_power_cut(5))), [] as [u64; 0]);
}

#[test]
fn an_unreadable_sector_costs_its_chunk_and_no_other() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 1..=3 {
        put(&store, number, &content(number, 300_000)).unwrap();
    }
    let fail = Arc::new(AtomicBool::new(true));
    disk.fail_if(move |call, _| (call == Call::Read && fail.swap(false, Ordering::SeqCst)).then_some(EIO));
    assert!(matches!(get(&store, 1), Err(ReadError::Io { .. })));
    for number in 1..=3 {
        assert_eq!(get(&store, number).unwrap(), content(number, 300_000));
    }
}

#[test]
fn a_record_that_is_served_after_a_kill_survives_a_power_cut_beside_a_torn_one() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 3000)).unwrap();
    put(&store, 2, &content(2, 3000)).unwrap();
    // The second is whole and in the page cache only: the process is killed in the middle of its sync.
    disk.power_off_after(disk.changes() + 1);
    assert!(put(&store, 3, &content(3, 3000)).is_err());
    let killed = disk.after_kill();
    // The first is damaged, so the volume gets no mark.
    killed.flip(FIRST, 8192 + 1000);
    let store = open(&killed);
    assert_eq!(ids(&store), [2, 3]);
    assert_eq!(store.recovery().torn, 1);
    for seed in 0..8 {
        assert_eq!(ids(&open(&killed.after_power_cut(seed))), [2, 3]);
    }
}
