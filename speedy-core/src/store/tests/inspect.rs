//! Looking at a store changes nothing, and tells the truth.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::disk::Disk;
use super::super::format::FIRST_RECORD;
use super::*;

fn check(store: &ChunkStore) -> CheckReport {
    store.check(&CheckOptions::default()).unwrap()
}

/// A store of several volumes of both kinds, with dead records and an abandoned write, closed.
fn closed() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 1..=12 {
        put(&store, number, &content(number, if number % 2 == 0 { 300_000 } else { 20_000 })).unwrap();
    }
    for number in [2, 5, 40] {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    let mut writer = store.begin(new_chunk(50, 300_000)).unwrap();
    writer.write(&content(50, 200_000)).unwrap();
    drop(writer);
    drop(store);
    disk
}

#[test]
fn a_store_that_is_only_read_serves_everything_and_changes_nothing() {
    let left_running = {
        let disk = closed();
        let store = open(&disk);
        put(&store, 60, &content(60, 3000)).unwrap();
        put(&store, 61, &content(61, 300_000)).unwrap();
        disk.after_kill()
    };
    for disk in [closed(), left_running] {
        let before = files(&disk);
        let store = peek(&disk).unwrap();
        assert_eq!(get(&store, 1).unwrap(), content(1, 20_000));
        assert_eq!(get(&store, 4).unwrap(), content(4, 300_000));
        assert!(matches!(get(&store, 2), Err(ReadError::Deleted(_))));
        let report = check(&store);
        assert!(report.is_sound(), "{report:?}");
        store.dump(true, |_| ControlFlow::Continue(())).unwrap();
        for length in [10, 300_000] {
            assert!(matches!(put(&store, 70, &content(70, length)), Err(WriteError::ReadOnly)));
            assert!(matches!(heal(&store, 1, &content(1, length)), Err(WriteError::ReadOnly)));
        }
        assert!(matches!(store.delete(id(1), GroupVersion::new(3)), Err(WriteError::ReadOnly)));
        assert!(matches!(store.checkpoint(), Err(WriteError::ReadOnly)));
        assert!(matches!(compact(&store), Err(CompactionError::Write(WriteError::ReadOnly))));
        assert!(matches!(store.scrub(&ScrubOptions::default()), Err(ScrubError::ReadOnly)));
        drop(store);
        assert!(files(&disk) == before);
    }
    let empty = SimulatedDisk::new();
    assert!(matches!(peek(&empty), Err(OpenError::NoStore { .. })));
    assert_eq!(files(&empty), []);
}

#[test]
fn a_check_counts_what_there_is_and_names_what_is_damaged() {
    let disk = closed();
    let report = check(&peek(&disk).unwrap());
    assert_eq!((report.records, report.damaged_chunks, report.unfinished), (10 + 3, 0, 1));
    assert_eq!(report.volumes, peek(&disk).unwrap().volumes().unwrap().len() as u64);
    let store = open(&disk);
    damage(&disk, &store, 4);
    damage(&disk, &store, 7);
    for store in [store, peek(&disk).unwrap()] {
        let report = check(&store);
        let named: Vec<u64> = report.damaged.iter().map(|(id, _)| id.get()).collect();
        assert_eq!((named, report.damaged_chunks, report.is_sound()), (vec![4, 7], 2, false));
        assert_eq!(report.contradictions, []);
        assert_eq!(store.damaged().len(), 2);
    }
}

#[test]
fn a_damaged_tombstone_region_head_and_checkpoint_are_told() {
    let tombstone = closed();
    let store = peek(&tombstone).unwrap();
    let entry = store.shared.index.get(id(40)).unwrap();
    tombstone.flip(&volumes::file_name(entry.volume), entry.offset() as usize + 30);
    let report = check(&store);
    assert_eq!((&report.damaged_tombstones[..], report.damaged_regions), (&[id(40)][..], 1));
    assert!(!report.is_sound() && report.contradictions.is_empty());

    let head = closed();
    head.damage("00000001.volume", |bytes| bytes[..FIRST_RECORD as usize].fill(7));
    let report = check(&peek(&head).unwrap());
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(report.skipped[0].reason, SkipReason::Damaged);
    assert!(!report.is_sound());

    // Costs time and no data.
    let checkpoint = closed();
    checkpoint.flip("CHECKPOINT", 8500);
    let report = check(&peek(&checkpoint).unwrap());
    let [(path, reason)] = &report.unused_checkpoints[..] else { panic!("{report:?}") };
    assert!(path.ends_with("CHECKPOINT") && !reason.is_empty());
    assert!(report.is_sound());
}

/// The highest sequence of a record that is in the index.
fn highest_sequence(store: &ChunkStore) -> u64 {
    let entries = store.shared.index.page(None, 1000).0.into_iter();
    let sequence = |(_, entry): (_, Entry)| {
        let volume = store.shared.volumes.get(entry.volume).unwrap();
        volume.read_header(entry.offset()).unwrap().unwrap().0.sequence
    };
    entries.map(sequence).max().unwrap()
}

#[test]
fn a_volume_that_is_gone_or_cut_off_is_told_with_what_is_lost() {
    let names = closed().names().unwrap();
    let numbers: Vec<u32> = names.iter().filter_map(|name| volumes::number_of(name)).collect();
    assert!(numbers.len() > 2, "{numbers:?}");
    let mut lost_tombstones = 0;
    for (&number, is_cut_off) in numbers.iter().flat_map(|number| [(number, false), (number, true)]) {
        let (disk, name) = (closed(), volumes::file_name(number));
        let (entries, sequence) = {
            let store = peek(&disk).unwrap();
            (store.shared.index.entries_of(number), highest_sequence(&store))
        };
        let half = disk.content(&name).len() / 2;
        if is_cut_off {
            disk.damage(&name, |bytes| bytes.truncate(half));
        } else {
            disk.remove(&name).unwrap();
        }
        // Of a chunk in which the file ends now nothing is left either.
        let is_lost = |entry: &Entry| !is_cut_off || entry.offset() + entry.record_bytes() > half as u64;
        let count = |is_chunk: bool| {
            let those = entries.iter().filter(|(_, entry)| entry.is_chunk() == is_chunk && is_lost(entry));
            those.count() as u64
        };
        let all = LostVolume { path: disk.path().join(&name), chunks: count(true), tombstones: count(false) };
        lost_tombstones += all.tombstones;
        let expected = if all.chunks + all.tombstones > 0 { vec![all] } else { Vec::new() };

        let store = peek(&disk).unwrap();
        assert_eq!(store.recovery().lost, expected, "cut off: {is_cut_off}");
        let report = check(&store);
        assert_eq!(report.lost, expected);
        assert!(expected.is_empty() || !report.is_sound());
        drop(store);

        let store = open_what_is_left(&disk);
        assert_eq!(store.recovery().lost, expected);
        for new in 60..64 {
            put(&store, new, &content(new, 300_000)).unwrap();
            put(&store, new + 10, &content(new, 2000)).unwrap();
        }
        // It may be put back, so nothing new is where it was, and no number of a record is given out twice.
        let written = store.shared.index.entries_of(number);
        assert!(written.iter().all(|(id, _)| id.get() < 60), "{name} was written to: {written:?}");
        assert!(highest_sequence(&store) >= sequence + 8);
        drop(store);
        assert_eq!(open(&disk).recovery().lost, [], "told once: the checkpoint is a new one");
    }
    assert!(lost_tombstones > 0);
}

#[test]
fn a_checkpoint_that_contradicts_the_volumes_is_told() {
    let disk = closed();
    let store = open(&disk);
    // One that has forgotten a chunk, and its checksums are right.
    let covered: Vec<_> = store.shared.volumes.all().iter().filter_map(|volume| volume.covered()).collect();
    let forgetful = Index::default();
    let (rows, _) = store.shared.index.page(None, 1000);
    for &(row, entry) in rows.iter().filter(|(row, _)| *row != id(6)) {
        forgetful.insert(row, entry);
    }
    super::super::checkpoint::write(&disk, store.store_id(), &covered, 1000, &forgetful).unwrap();
    std::mem::forget(store);
    let store = peek(&disk).unwrap();
    assert!(matches!(get(&store, 6), Err(ReadError::NotFound(_))));
    let report = check(&store);
    assert_eq!((&report.contradictions[..], report.is_sound()), (&[id(6)][..], false));
}

#[test]
fn a_check_ends_when_it_is_told_to() {
    let store = peek(&closed()).unwrap();
    let control = Control::new();
    let ends = control.clone();
    let hears = control.on_progress(move |progress| {
        if progress.bytes_done > 0 {
            ends.cancel();
        }
    });
    let report = store.check(&CheckOptions::default().control(hears)).unwrap();
    assert!(report.cancelled && report.records == 1, "{report:?}");
}

#[test]
fn a_dump_shows_every_record_and_what_it_counts_for() {
    let disk = closed();
    let store = open(&disk);
    damage(&disk, &store, 4);
    let mut states: BTreeMap<(u64, u8), RecordState> = BTreeMap::new();
    let (mut marks, mut ends) = (0, BTreeMap::new());
    store
        .dump(true, |info| {
            let end = ends.insert(info.volume, info.offset + info.size);
            assert_eq!(info.offset, end.unwrap_or(FIRST_RECORD), "nothing is left out");
            match info.record {
                RecordOf::Chunk { id, length, owner, .. } => {
                    assert_eq!(owner.offset, id.get() * 1000);
                    assert!(length == 20_000 || length == 300_000);
                    states.insert((id.get(), 0), info.state);
                }
                RecordOf::Tombstone { id, .. } => drop(states.insert((id.get(), 1), info.state)),
                RecordOf::Mark { .. } => marks += 1,
                ref other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(marks >= 2, "every volume ends with one");
    let expected = (1..=12).map(|number| match number {
        2 | 5 => ((number, 0), RecordState::Dead),
        4 => ((number, 0), RecordState::Damaged),
        _ => ((number, 0), RecordState::Live),
    });
    let tombstones = [2, 5, 40].map(|number| ((number, 1), RecordState::Live));
    let expected = expected.chain(tombstones).chain([((50, 0), RecordState::Unfinished)]);
    assert_eq!(states, expected.collect());
    // The bytes of a chunk are looked at only where that is asked for.
    let mut damaged = 0;
    store
        .dump(false, |info| {
            damaged += u32::from(info.state == RecordState::Damaged);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(damaged, 0);
    let mut seen = 0;
    store
        .dump(false, |_| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn the_volumes_add_up_to_the_store() {
    let store = open(&closed());
    let volumes = store.volumes().unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(volumes.iter().map(|volume| volume.chunks).sum::<u64>(), usage.chunks);
    assert_eq!(volumes.iter().map(|volume| volume.chunk_bytes).sum::<u64>(), usage.bytes);
    assert_eq!(volumes.iter().map(|volume| volume.tombstones).sum::<u64>(), usage.tombstones);
    assert!(volumes.iter().any(|volume| volume.is_aligned && volume.dead_bytes >= 300_000));
    assert!(volumes.iter().any(|volume| volume.is_open) && volumes.iter().any(|volume| !volume.is_open));
}

#[test]
fn readers_share_a_directory_and_keep_writers_away() {
    let dir = tempfile::tempdir().unwrap();
    let read_only = || ChunkStore::open(dir.path(), small_volumes().read_only());
    assert!(matches!(read_only(), Err(OpenError::NoStore { .. })));
    assert!(matches!(
        ChunkStore::open(dir.path().join("missing"), small_volumes().read_only()),
        Err(OpenError::NoStore { .. })
    ));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    let store = ChunkStore::open(dir.path(), small_volumes()).unwrap();
    put(&store, 1, &content(1, 3000)).unwrap();
    let Err(OpenError::Locked { holder, .. }) = read_only() else { panic!("a writer has it") };
    assert_eq!(holder, Some(std::process::id()));
    drop(store);
    let (first, second) = (read_only().unwrap(), read_only().unwrap());
    assert_eq!((get(&first, 1).unwrap(), get(&second, 1).unwrap()), (content(1, 3000), content(1, 3000)));
    assert!(matches!(ChunkStore::open(dir.path(), small_volumes()), Err(OpenError::Locked { .. })));
    drop((first, second));
    ChunkStore::open(dir.path(), small_volumes()).unwrap();
    // A copy need not have the lock's file.
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert!(check(&read_only().unwrap()).is_sound());
    assert!(!dir.path().join("LOCK").exists());
}
