//! What is damaged is found before it is needed, told once, and healed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::disk::Disk;
use super::super::disk::simulated::Call;
use super::super::format::FIRST_RECORD;
use super::*;

fn scrub(store: &ChunkStore) -> ScrubReport {
    store.scrub(&ScrubOptions::default()).unwrap()
}

/// Four chunks of both kinds and a tombstone.
fn filled() -> (SimulatedDisk, ChunkStore) {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for (number, length) in [(1, 500), (2, 70_000), (3, 300_000), (4, 280_000)] {
        put(&store, number, &content(number, length)).unwrap();
    }
    store.delete(id(9), GroupVersion::new(3)).unwrap();
    (disk, store)
}

#[test]
fn every_byte_that_counts_is_verified() {
    let (disk, store) = filled();
    let report = scrub(&store);
    assert_eq!((report.records, report.damaged, report.cancelled), (5, 0, false));
    assert_eq!(store.damaged(), []);
    let volumes: Vec<String> = disk.names().unwrap().into_iter().filter(|n| n.ends_with(".volume")).collect();
    let mut found = 0;
    for name in volumes {
        for position in (FIRST_RECORD as usize..disk.content(&name).len()).step_by(3001) {
            let before = scrub(&store).damaged;
            assert_eq!(before, 0);
            disk.flip(&name, position);
            let report = scrub(&store);
            // Padding and preallocated room belong to no record.
            let bad: Vec<u64> = (1..=4).filter(|&number| get(&store, number).is_err()).collect();
            assert_eq!(report.damaged, bad.len() as u64, "byte {position} of {name}");
            found += report.damaged;
            disk.flip(&name, position);
        }
    }
    assert!(found > 150, "{found} flipped bits were found");
}

#[test]
fn damage_is_told_once_and_listed_until_it_is_healed_or_deleted() {
    let (disk, store) = filled();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    store.on_damage(move |id, reason| hears.lock().push((id, reason.to_owned())));
    damage(&disk, &store, 2);
    damage(&disk, &store, 3);
    // A read finds it as well.
    get(&store, 3).unwrap_err();
    assert_eq!(heard.lock().len(), 1);
    for _ in 0..2 {
        assert_eq!(scrub(&store).damaged, 2);
        let listed = store.damaged();
        assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(2), id(3)]);
        assert!(listed[1].1.contains("checksum mismatch in the block at offset 131072"), "{listed:?}");
        assert_eq!(heard.lock().len(), 2);
    }
    heal(&store, 2, &content(2, 70_000)).unwrap();
    assert_eq!(store.damaged().len(), 1);
    store.delete(id(3), GroupVersion::new(3)).unwrap();
    assert_eq!(store.damaged(), []);
    assert_eq!(scrub(&store).damaged, 0);
}

#[test]
fn an_unreadable_sector_is_damage_and_what_is_in_quarantine_too() {
    let (disk, store) = filled();
    disk.fail_if(|call, name| (call == Call::Read && name == "00000002.volume").then_some(5));
    assert_eq!(scrub(&store).damaged, 2);
    disk.heal();
    assert_eq!(scrub(&store).damaged, 0);
    damage(&disk, &store, 1);
    drop(store);
    let store = open(&disk);
    put(&store, 5, &content(5, 250_000)).unwrap();
    store.delete(id(5), GroupVersion::new(3)).unwrap();
    put(&store, 6, &content(6, 250_000)).unwrap();
    store.delete(id(6), GroupVersion::new(3)).unwrap();
    assert_eq!(compact(&store).unwrap().damaged, 1);
    let store = open(&disk);
    assert_eq!(store.damaged(), []);
    assert_eq!(scrub(&store).damaged, 1);
    assert!(store.damaged()[0].1.contains("00000001.quarantine"), "{:?}", store.damaged());
    heal(&store, 1, &content(1, 500)).unwrap();
    assert_eq!((scrub(&store).damaged, store.damaged()), (0, vec![]));
}

#[test]
fn a_damaged_tombstone_is_written_again_before_a_restart_forgets_it() {
    for compacts in [false, true] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        for number in 1..6 {
            put(&store, number, &content(number, 250_000)).unwrap();
        }
        store.delete(id(1), GroupVersion::new(3)).unwrap();
        let tombstone = store.shared.index.get(id(1)).unwrap();
        disk.flip(&volumes::file_name(tombstone.volume), tombstone.offset() as usize + 9);
        if compacts {
            // So that its volume takes no more records.
            for number in 6..10 {
                put(&store, number, &content(number, 250_000)).unwrap();
            }
            compact(&store).unwrap();
        } else {
            assert_eq!((scrub(&store).rewritten, scrub(&store).rewritten), (1, 0));
        }
        let store = open(&disk.after_power_cut(1));
        assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))));
    }
}

#[test]
fn a_pass_that_was_cut_off_goes_on_after_a_restart() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 0..10 {
        put(&store, number, &content(number, 300_000)).unwrap();
    }
    assert_eq!(store.last_scrub(), None);
    let control = Control::new();
    let cancels = control.clone();
    let control = control.on_progress(move |progress| {
        if progress.volumes_done == 2 {
            cancels.cancel();
        }
    });
    let first = store.scrub(&ScrubOptions::default().control(control)).unwrap();
    assert!(first.cancelled && first.records >= 4 && first.records < 10, "{first:?}");
    assert_eq!(store.last_scrub(), None);
    drop(store);
    let disk = disk.after_power_cut(SimulatedDisk::NOTHING_SURVIVES);
    let store = open(&disk);
    let second = scrub(&store);
    assert_eq!(first.records + second.records, 10, "no record is read twice");
    let pass = store.last_scrub().unwrap();
    assert_eq!((pass.records, pass.damaged), (10, 0));
    assert!(pass.started <= pass.completed);
    assert_eq!(open(&disk.after_power_cut(3)).last_scrub(), Some(pass));
    // The file is derived: without it nothing is lost but the place.
    for damage in [
        (|bytes| bytes.clear()) as fn(&mut Vec<u8>),
        |bytes| bytes.fill(0),
        |bytes| {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        },
    ] {
        let disk = disk.after_kill();
        disk.damage("SCRUB", damage);
        let store = open(&disk);
        assert_eq!(store.last_scrub(), None);
        assert_eq!(scrub(&store).records, 10);
    }
    disk.fail_if(|call, name| (call == Call::Create && name == "SCRUB.new").then_some(28));
    assert_eq!(scrub(&open(&disk)).records, 10, "a full disk does not stop a scrub");
}

#[test]
fn what_is_deleted_or_moved_meanwhile_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::default().volume_size(1 << 20).preallocation(0);
    let store = ChunkStore::open(dir.path(), options).unwrap();
    let until = Instant::now() + Duration::from_millis(600);
    let passes = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                assert_eq!(scrub(&store).damaged, 0);
                passes.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while Instant::now() < until {
                compact(&store).unwrap();
            }
        });
        let mut number = 0;
        while Instant::now() < until {
            number += 1;
            put(&store, number, &content(number, 20_000)).unwrap();
            if number > 20 {
                store.delete(id(number - 20), GroupVersion::new(3)).unwrap();
            }
        }
    });
    assert!(passes.load(Ordering::Relaxed) > 1);
    assert_eq!(store.damaged(), []);
}

#[test]
fn a_heal_changes_nothing_that_is_whole_and_takes_no_other_bytes() {
    for length in [700, 70_000, 300_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        put(&store, 1, &content(1, length)).unwrap();
        let before = store.shared.index.get(id(1));
        let info = store.stat(id(1)).unwrap();
        assert_eq!(heal(&store, 1, &content(1, length)).unwrap(), info);
        assert_eq!(store.shared.index.get(id(1)), before);
        let conflicts = |number: u64, length| {
            assert!(matches!(heal(&store, 1, &content(number, length)), Err(WriteError::Conflict(_))));
        };
        conflicts(2, length);
        conflicts(1, length + 1);
        damage(&disk, &store, 1);
        // The footer still knows what the bytes were.
        conflicts(2, length);
        conflicts(1, length - 1);
        let mut early = store.heal(new_chunk(1, length)).unwrap();
        early.write(&content(1, length)).unwrap();
        heal(&store, 1, &content(1, length)).unwrap();
        assert_eq!(early.commit().unwrap(), store.stat(id(1)).unwrap(), "the second of two finds it whole");
        assert_ne!(store.shared.index.get(id(1)), before);
        heal(&store, 5, &content(5, length)).unwrap();
        store.delete(id(5), GroupVersion::new(3)).unwrap();
        assert!(matches!(heal(&store, 5, &content(5, length)), Err(WriteError::Deleted(_))));
        for (image, disk) in [disk.after_kill(), disk.after_power_cut(1)].into_iter().enumerate() {
            let store = open(&disk);
            assert_eq!(get(&store, 1).unwrap(), content(1, length), "image {image}");
            assert_eq!(ids(&store), [1]);
        }
    }
}

#[test]
fn a_heal_in_progress_is_not_outranked_by_a_compaction() {
    for length in [700, 300_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        put(&store, 1, &content(1, length)).unwrap();
        for number in 10..16 {
            put(&store, number, &content(number, if length < 1000 { 200_000 } else { 300_000 })).unwrap();
        }
        damage(&disk, &store, 1);
        let mut healing = store.heal(new_chunk(1, length)).unwrap();
        healing.write(&content(1, length)).unwrap();
        let report = compact(&store).unwrap();
        assert!(report.left.len() == 1 && report.left[0].1.contains("healed"), "{report:?}");
        healing.commit().unwrap();
        assert!(compact(&store).unwrap().left.is_empty());
        for disk in [disk.after_kill(), disk.after_power_cut(1)] {
            assert_eq!(get(&open(&disk), 1).unwrap(), content(1, length));
        }
    }
}

#[test]
fn maintenance_compacts_and_scrubs_and_stops_at_once() {
    let disk = SimulatedDisk::new();
    let store = std::sync::Arc::new(open(&disk));
    for number in 0..40 {
        put(&store, number, &content(number, 60_000)).unwrap();
        if number != 5 {
            store.delete(id(number), GroupVersion::new(3)).unwrap();
        }
    }
    let options = MaintenanceOptions::default().check_every(Duration::from_millis(5));
    let maintenance = Maintenance::start(std::sync::Arc::clone(&store), options.clone());
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status = maintenance.status();
        if status.volumes_removed >= 2 && status.last_scrub.is_some() {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        thread::sleep(Duration::from_millis(5));
    };
    assert!(
        status.bytes_freed > 1 << 20 && status.damaged == 0 && status.compactions_failed == 0,
        "{status:?}"
    );
    drop(maintenance);
    assert_eq!(get(&store, 5).unwrap(), content(5, 60_000));
    // One that is in the middle of slow work stops too.
    for number in 100..120 {
        put(&store, number, &content(number, 200_000)).unwrap();
    }
    let slow = options.scrub_rate(1).compaction_rate(1);
    let maintenance = Maintenance::start(std::sync::Arc::clone(&store), slow);
    while maintenance.status().scrub.is_none() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    drop(maintenance);
    assert!(begun.elapsed() < Duration::from_secs(10));
}
