//! The room of what is deleted comes back, and nothing else changes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::super::disk::Disk;
use super::*;

const FIRST: &str = "00000001.volume";

fn delete(store: &ChunkStore, number: u64) {
    store.delete(id(number), GroupVersion::new(3)).unwrap();
}

fn volumes(disk: &SimulatedDisk) -> Vec<String> {
    disk.names().unwrap().into_iter().filter(|name| name.ends_with(".volume")).collect()
}

/// Three volumes' worth of chunks of one length, all but every fifth deleted.
fn mostly_deleted(store: &ChunkStore, length: usize) -> Vec<u64> {
    let count = (3 << 20) / length as u64;
    for number in 0..count {
        put(store, number, &content(number, length)).unwrap();
    }
    let (left, gone): (Vec<u64>, Vec<u64>) = (0..count).partition(|number| number % 5 == 0);
    for number in gone {
        delete(store, number);
    }
    left
}

#[test]
fn what_counts_is_kept_with_all_that_is_known_of_it_and_the_rest_goes() {
    for length in [3000, 100_000, 300_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let left = mostly_deleted(&store, length);
        let (before, usage, names) =
            (store.list(None, 1000).unwrap(), store.usage().unwrap(), volumes(&disk).len());
        let report = store.compact(&CompactionOptions::default()).unwrap();
        assert!(report.removed >= 2 && report.left.is_empty() && report.damaged == 0, "{report:?}");
        assert!(volumes(&disk).len() < names);
        let mut disk = disk;
        for round in 0..3 {
            let store = open(&disk);
            assert_eq!(store.list(None, 1000).unwrap(), before, "owner, version, time and checksum stay");
            for &number in &left {
                assert_eq!(get(&store, number).unwrap(), content(number, length));
            }
            assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))));
            let now = store.usage().unwrap();
            assert_eq!(
                (now.chunks, now.bytes, now.tombstones),
                (usage.chunks, usage.bytes, usage.tombstones)
            );
            drop(store);
            disk = disk.after_power_cut(round);
        }
    }
}

#[test]
fn tombstones_outlive_the_volumes_that_they_were_in() {
    let disk = SimulatedDisk::new();
    for round in 0..4 {
        let store = open(&disk);
        for number in 0..20 {
            put(&store, round * 100 + number, &content(number, 60_000)).unwrap();
            delete(&store, round * 100 + number);
        }
        // Ids that nobody ever wrote are spent too.
        delete(&store, round * 100 + 50);
        compact(&store).unwrap();
    }
    let store = open(&disk.after_power_cut(3));
    for number in (0..4).flat_map(|round| (0..20).chain([50]).map(move |n| round * 100 + n)) {
        assert!(matches!(put(&store, number, b"again"), Err(WriteError::Deleted(_))), "{number}");
    }
    let used: u64 = volumes(&disk).iter().map(|name| disk.content(name).len() as u64).sum();
    assert!(used < 2 << 20, "{used} bytes for 84 tombstones");
}

#[test]
fn the_open_volume_is_compacted_once_it_is_worth_it_and_not_before() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 100_000)).unwrap();
    put(&store, 2, &content(2, 1000)).unwrap();
    delete(&store, 1);
    assert_eq!(store.compact(&CompactionOptions::default()).unwrap(), CompactionReport::default());
    for number in 3..6 {
        put(&store, number, &content(number, 100_000)).unwrap();
        delete(&store, number);
    }
    let report = store.compact(&CompactionOptions::default()).unwrap();
    assert_eq!((report.removed, report.copied), (1, 5));
    assert_eq!(volumes(&disk), ["00000002.volume"]);
    assert_eq!(get(&store, 2).unwrap(), content(2, 1000));
}

#[test]
fn a_full_volume_is_left_alone() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 0..12 {
        put(&store, number, &content(number, 300_000)).unwrap();
    }
    let before = volumes(&disk);
    let report = store.compact(&CompactionOptions::default()).unwrap();
    assert_eq!(report, CompactionReport::default());
    assert_eq!(volumes(&disk), before);
}

#[test]
fn a_damaged_chunk_is_carried_to_quarantine_and_can_be_healed() {
    for length in [3000, 300_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let left = mostly_deleted(&store, length);
        let bad = left[0];
        damage(&disk, &store, bad);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        store.on_damage(move |id, _| hears.lock().push(id));
        let report = store.compact(&CompactionOptions::default()).unwrap();
        assert_eq!((report.damaged, report.quarantined), (1, 1));
        assert_eq!(*heard.lock(), [id(bad)]);
        let kept = "00000001.quarantine";
        let files = store.quarantine().unwrap();
        assert!(files.len() == 1 && files[0].path.ends_with(kept) && files[0].volume == 1, "{files:?}");
        // What is left of it: the record of the damaged chunk, at the place where it was.
        let bytes = disk.content(kept);
        let used = bytes.iter().filter(|&&byte| byte != 0).count();
        assert!(used > length - length / 50 && used < length + 1000, "{used} of {} bytes", bytes.len());

        for disk in [disk.clone(), disk.after_kill(), disk.after_power_cut(4)] {
            let reopened = disk.after_power_cut(8);
            for store in [&store, &open(&reopened)] {
                for result in [get(store, bad).map(drop), store.stat(id(bad)).map(drop)] {
                    let Err(ReadError::Damaged { reason, .. }) = result else {
                        panic!("it is in quarantine")
                    };
                    assert!(reason.contains(kept), "{reason}");
                }
                assert!(!ids(store).contains(&bad));
                for length in [length, length + 1] {
                    let refused = put(store, bad, &content(bad, length)).unwrap_err();
                    assert!(matches!(refused, WriteError::Damaged { .. }), "{refused}");
                }
                for &number in &left[1..] {
                    assert_eq!(get(store, number).unwrap(), content(number, length));
                }
            }
            let store = open(&reopened);
            heal(&store, bad, &content(bad, length)).unwrap();
            assert_eq!(get(&store, bad).unwrap(), content(bad, length));
            assert_eq!(compact(&store).unwrap().damaged, 0);
            let store = open(&reopened.after_power_cut(5));
            assert_eq!(get(&store, bad).unwrap(), content(bad, length));
            assert_eq!(ids(&store), left);
        }
        // Deleting it is as good as healing it.
        delete(&store, bad);
        assert_eq!(store.damaged(), []);
        assert!(matches!(get(&open(&disk.after_power_cut(6)), bad), Err(ReadError::Deleted(_))));
    }
}

#[test]
fn a_note_of_quarantine_moves_like_a_tombstone() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let left = mostly_deleted(&store, 300_000);
    damage(&disk, &store, left[0]);
    compact(&store).unwrap();
    drop(store);
    for _ in 0..3 {
        let store = open(&disk);
        for number in 100..116 {
            put(&store, number * 2 + store.highest_id().unwrap().get(), &content(number, 60_000)).unwrap();
        }
        for number in ids(&store).into_iter().filter(|&number| number >= 100) {
            delete(&store, number);
        }
        compact(&store).unwrap();
    }
    let store = open(&disk);
    let Err(ReadError::Damaged { reason, .. }) = get(&store, left[0]) else { panic!("it is in quarantine") };
    assert!(reason.contains("00000001.quarantine"), "{reason}");
    assert_eq!(disk.names().unwrap().iter().filter(|name| name.ends_with(".quarantine")).count(), 1);
}

#[test]
fn the_number_of_a_volume_in_quarantine_is_not_used_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, &content(1, 600_000)).unwrap();
    put(&store, 2, &content(2, 600_000)).unwrap();
    damage(&disk, &store, 1);
    compact(&store).unwrap();
    drop(store);
    disk.rename("00000001.quarantine", "00000077.quarantine").unwrap();
    let store = open(&disk);
    put(&store, 3, &content(3, 900_000)).unwrap();
    put(&store, 4, &content(4, 900_000)).unwrap();
    assert!(volumes(&disk).contains(&"00000078.volume".to_string()), "{:?}", volumes(&disk));
}

#[test]
fn bytes_that_can_not_be_parsed_are_never_destroyed() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 0..30 {
        put(&store, number, &content(number, 100_000)).unwrap();
    }
    for number in 0..30 {
        delete(&store, number);
    }
    drop(store);
    // The header of a dead record in the middle: nobody can say what it is.
    let record = 8192 + 5 * (80 + 100_000 + 24);
    disk.flip(FIRST, record + 20);
    let store = open(&disk);
    let report = compact(&store).unwrap();
    assert_eq!(report.quarantined, 1);
    let kept = disk.content("00000001.quarantine");
    assert_eq!(kept[record + 80..][..100_000], content(5, 100_000));
    let rest = kept[record + 100_200..].iter().filter(|&&byte| byte != 0).count();
    assert!(rest < 100, "what was parsed and dead is given back, all but the mark");
}

#[test]
fn readers_go_on_with_a_volume_that_is_gone_or_in_quarantine() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 0..3 {
        put(&store, number, &content(number, 300_000)).unwrap();
    }
    put(&store, 3, &content(3, 600_000)).unwrap();
    damage(&disk, &store, 1);
    let readers: Vec<_> = [0, 2].map(|number| (number, store.read(id(number), 0..300_000).unwrap())).into();
    assert_eq!(compact(&store).unwrap().quarantined, 1);
    for (number, mut reader) in readers {
        let mut bytes = Vec::new();
        while let Some(run) = reader.next_run().unwrap() {
            bytes.extend_from_slice(&run.data);
        }
        assert_eq!(bytes, content(number, 300_000));
    }
    let kept = disk.content("00000001.quarantine");
    assert!(kept[8192..300_000].iter().all(|&byte| byte == 0), "given back once nobody reads it");
}

#[test]
fn one_compaction_at_a_time_and_one_that_is_cancelled_leaves_all_there() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let left = mostly_deleted(&store, 60_000);
    let control = Control::new();
    let (cancels, calls) = (control.clone(), Arc::new(AtomicU64::new(0)));
    let counts = Arc::clone(&calls);
    let control = control.on_progress(move |progress| {
        assert!(progress.volumes_done <= progress.volumes);
        if counts.fetch_add(1, Ordering::Relaxed) == 1 {
            cancels.cancel();
        }
    });
    let report = store.compact(&CompactionOptions::default().control(control)).unwrap();
    assert!(report.cancelled);
    for &number in &left {
        assert_eq!(get(&store, number).unwrap(), content(number, 60_000));
    }
    let busy = Arc::new(AtomicBool::new(false));
    let store = Arc::new(store);
    let (other, saw) = (Arc::clone(&store), Arc::clone(&busy));
    let control = Control::new().on_progress(move |_| {
        saw.fetch_or(matches!(compact(&other), Err(CompactionError::Busy)), Ordering::Relaxed);
    });
    assert!(!store.compact(&CompactionOptions::default().control(control)).unwrap().cancelled);
    assert!(busy.load(Ordering::Relaxed));
    for options in [CompactionOptions::default().dead_percent(101), CompactionOptions::default().rate(0)] {
        assert!(matches!(store.compact(&options), Err(CompactionError::Option(_))));
    }
}

/// Bytes that the files of a directory take on the disk.
fn room(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn on_a_real_disk_the_room_comes_back_beside_readers_and_writers() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::default().volume_size(2 << 20).preallocation(256 << 10);
    let store = ChunkStore::open(dir.path(), options.clone()).unwrap();
    let length = |number: u64| if number.is_multiple_of(3) { 280_000 } else { 9_000 + number as usize };
    let (done, next) = (AtomicBool::new(false), AtomicU64::new(1000));
    for number in 0..150 {
        put(&store, number, &content(number, length(number))).unwrap();
    }
    let full = room(dir.path());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..120 {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        put(&store, number, &content(number, length(number))).unwrap();
                        if !number.is_multiple_of(10) {
                            delete(&store, number);
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2u64 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut number = reader;
                while !done.load(Ordering::Relaxed) {
                    number = (number + 7) % 150;
                    match get(store, number) {
                        Ok(bytes) => assert_eq!(bytes, content(number, length(number))),
                        Err(ReadError::Deleted(_)) => assert!(!number.is_multiple_of(10)),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for number in (0..150u64).filter(|number| !number.is_multiple_of(10)) {
            delete(&store, number);
            if number.is_multiple_of(12) {
                store.compact(&CompactionOptions::default().dead_percent(20)).unwrap();
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let report = store.compact(&CompactionOptions::default().dead_percent(1)).unwrap();
    assert!(report.left.is_empty() && report.damaged == 0, "{report:?}");
    let live = store.usage().unwrap().bytes;
    let now = room(dir.path());
    assert!(now < live + (3 << 20), "{now} bytes for {live}; {full} before");
    drop(store);
    let store = ChunkStore::open(dir.path(), options).unwrap();
    for number in (0..150).chain(1000..1240) {
        match get(&store, number) {
            Ok(bytes) => assert!(number % 10 == 0 && bytes == content(number, length(number))),
            Err(ReadError::Deleted(_)) => assert!(number % 10 != 0),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.quarantine().unwrap(), []);
}
