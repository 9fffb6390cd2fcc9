use std::sync::Arc;
use std::task::Poll;
use std::thread;

use super::*;
use crate::checksum::{BLOCK_SIZE, crc32c};

/// Around every boundary of the format: a block, the line between packed and aligned, a run.
const LENGTHS: [usize; 11] =
    [1, 7, 8, 4096, 65_535, 65_536, 65_537, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 900_001];

#[test]
fn chunks_of_every_shape_come_back_now_and_after_a_restart() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for (number, &length) in LENGTHS.iter().enumerate() {
        let bytes = content(number as u64, length);
        let info = put(&store, number as u64, &bytes).unwrap();
        assert_eq!((info.length, info.checksum), (length as u64, crc32c(&bytes)));
    }
    let before = store.list(None, 100).unwrap();
    let identity = (store.store_id(), store.node_id());
    drop(store);
    let store = open(&disk);
    assert_eq!(identity, (store.store_id(), store.node_id()));
    assert_eq!(store.recovery().verified_bytes, 0, "a store that was closed is not verified again");
    assert_eq!(store.list(None, 100).unwrap(), before);
    for (number, &length) in LENGTHS.iter().enumerate() {
        assert_eq!(get(&store, number as u64).unwrap(), content(number as u64, length));
        let info = store.stat(id(number as u64)).unwrap();
        assert_eq!(info.owner.offset, number as u64 * 1000);
        assert_eq!(info.version, GroupVersion::new(3));
    }
    let usage = store.usage().unwrap();
    assert_eq!(usage.chunks, LENGTHS.len() as u64);
    assert_eq!(usage.bytes, LENGTHS.iter().sum::<usize>() as u64);
    assert!(usage.volumes > 2, "several volumes were filled");
}

#[test]
fn frames_of_any_size_make_the_same_chunk() {
    let store = open(&SimulatedDisk::new());
    for (number, frame) in [1000, 16 << 10, 128 << 10, (128 << 10) + 1, 1 << 20].into_iter().enumerate() {
        let bytes = content(99, 700_000);
        let mut writer = store.begin(new_chunk(number as u64, bytes.len())).unwrap();
        for frame in bytes.chunks(frame) {
            writer.write(frame).unwrap();
        }
        assert_eq!(writer.checksum(), crc32c(&bytes));
        writer.commit().unwrap();
        assert_eq!(get(&store, number as u64).unwrap(), bytes);
    }
}

#[test]
fn a_range_comes_as_the_blocks_that_hold_it() {
    let store = open(&SimulatedDisk::new());
    let bytes = content(1, 900_001);
    put(&store, 1, &bytes).unwrap();
    let block = BLOCK_SIZE as u64;
    for range in [0..1, 65_535..65_537, 5 * block..6 * block, 300_000..900_001, 900_000..900_001] {
        let mut reader = store.read(id(1), range.clone()).unwrap();
        let mut at = range.start / block * block;
        while let Some(run) = reader.next_run().unwrap() {
            assert_eq!(run.offset, at);
            assert_eq!(run.data, bytes[at as usize..at as usize + run.data.len()]);
            let sums: Vec<u32> = run.data.chunks(BLOCK_SIZE).map(crc32c).collect();
            assert_eq!(run.checksums, sums);
            at += run.data.len() as u64;
        }
        assert_eq!(at, range.end.div_ceil(block).saturating_mul(block).min(900_001));
    }
    for (start, end) in [(0, 0), (5, 4), (0, 900_002), (900_001, 900_002)] {
        assert!(matches!(
            store.read(id(1), start..end),
            Err(ReadError::InvalidRange { length: 900_001, .. })
        ));
    }
    assert!(matches!(store.read(id(2), 0..1), Err(ReadError::NotFound(_))));
}

#[test]
fn only_a_commit_of_all_announced_bytes_stores_a_chunk() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for length in [100, 600_000] {
        let bytes = content(1, length);
        let mut short = store.begin(new_chunk(1, length)).unwrap();
        short.write(&bytes[1..]).unwrap();
        assert!(matches!(short.commit(), Err(WriteError::WrongLength { .. })));
        let mut long = store.begin(new_chunk(1, length)).unwrap();
        long.write(&bytes).unwrap();
        assert!(matches!(long.write(b"x"), Err(WriteError::WrongLength { .. })));
        assert!(matches!(long.commit(), Err(WriteError::WrongLength { .. })));
        let mut dropped = store.begin(new_chunk(1, length)).unwrap();
        dropped.write(&bytes).unwrap();
        dropped.abort();
        assert!(matches!(get(&store, 1), Err(ReadError::NotFound(_))));
    }
    for length in [0, (64 << 20) + 1] {
        assert!(matches!(store.begin(new_chunk(1, length)), Err(WriteError::InvalidLength(_))));
    }
    put(&store, 2, b"after").unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(ids(&store), [2]);
    assert_eq!(store.recovery().unfinished, 3, "three large writes were abandoned");
}

#[test]
fn the_same_bytes_succeed_again_and_others_are_refused() {
    let disk = SimulatedDisk::new();
    let mut store = open(&disk);
    for length in [100, 600_000] {
        let bytes = content(length as u64, length);
        let first = put(&store, length as u64, &bytes).unwrap();
        assert_eq!(put(&store, length as u64, &bytes).unwrap(), first);
        drop(store);
        store = open(&disk);
        assert_eq!(put(&store, length as u64, &bytes).unwrap(), first);
        let mut other = bytes.clone();
        other[length - 1] ^= 1;
        assert!(matches!(put(&store, length as u64, &other), Err(WriteError::Conflict(_))));
        assert!(matches!(put(&store, length as u64, &other[1..]), Err(WriteError::Conflict(_))));
        assert_eq!(get(&store, length as u64).unwrap(), bytes);
    }
}

#[test]
fn of_two_writers_in_flight_the_first_to_commit_decides() {
    let store = open(&SimulatedDisk::new());
    for (number, length) in [(1, 100), (2, 600_000)] {
        let (bytes, other) = (content(1, length), content(2, length));
        let begin = |bytes: &[u8]| {
            let mut writer = store.begin(new_chunk(number, length)).unwrap();
            writer.write(bytes).unwrap();
            writer
        };
        let (first, same, different) = (begin(&bytes), begin(&bytes), begin(&other));
        let info = first.commit().unwrap();
        assert_eq!(same.commit().unwrap(), info);
        assert!(matches!(different.commit(), Err(WriteError::Conflict(_))));
        let late = begin(&bytes);
        store.delete(id(number), GroupVersion::new(3)).unwrap();
        assert!(matches!(late.commit(), Err(WriteError::Deleted(_))));
    }
}

#[test]
fn a_deleted_id_is_spent_for_ever() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put(&store, 1, b"one").unwrap();
    put(&store, 2, &content(2, 600_000)).unwrap();
    let mut reader = store.read(id(2), 0..600_000).unwrap();
    let mut in_flight = store.begin(new_chunk(9, 3)).unwrap();
    in_flight.write(b"abc").unwrap();
    for number in [1, 2, 9] {
        store.delete(id(number), GroupVersion::new(4)).unwrap();
        store.delete(id(number), GroupVersion::new(4)).unwrap();
    }
    assert!(matches!(in_flight.commit(), Err(WriteError::Deleted(_))));
    let mut read = 0;
    while let Some(run) = reader.next_run().unwrap() {
        read += run.data.len();
    }
    assert_eq!(read, 600_000, "a reader that has begun goes on");
    let check = |store: &ChunkStore| {
        for number in [1, 2, 9] {
            assert!(matches!(get(store, number), Err(ReadError::Deleted(_))));
            assert!(matches!(put(store, number, b"one"), Err(WriteError::Deleted(_))));
        }
        assert_eq!(ids(store), [] as [u64; 0]);
        assert_eq!(store.highest_id(), Some(id(9)));
        let usage = store.usage().unwrap();
        assert_eq!((usage.chunks, usage.bytes, usage.tombstones), (0, 0, 3));
    };
    check(&store);
    drop(store);
    check(&open(&disk));
}

#[test]
fn lists_come_in_pages_and_in_order() {
    let store = open(&SimulatedDisk::new());
    for number in [5, 3, 200, 17, 4, 90, 1] {
        put(&store, number, b"x").unwrap();
    }
    store.delete(id(17), GroupVersion::new(3)).unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(after, 2).unwrap();
        assert!(page.chunks.len() <= 2);
        seen.extend(page.chunks.iter().map(|chunk| chunk.id.get()));
        after = page.chunks.last().map(|chunk| chunk.id);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [1, 3, 4, 5, 90, 200]);
}

#[test]
fn many_threads_write_read_and_delete_at_once() {
    let disk = SimulatedDisk::new();
    let store = Arc::new(open(&disk));
    let length = |number: u64| 1 + (number as usize * 7919) % 300_000;
    thread::scope(|scope| {
        for thread in 0..8 {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for step in 0..20 {
                    // Neighbours share half of their ids.
                    let number = (thread / 2) * 100 + step;
                    let bytes = content(number, length(number));
                    match put(&store, number, &bytes) {
                        Ok(_) => {}
                        Err(WriteError::Deleted(_)) => continue,
                        Err(error) => panic!("{error}"),
                    }
                    match get(&store, number) {
                        Ok(read) => assert_eq!(read, bytes),
                        Err(error) => assert!(matches!(error, ReadError::Deleted(_)), "{error}"),
                    }
                    if step % 5 == 0 {
                        store.delete(id(number), GroupVersion::new(3)).unwrap();
                    }
                }
            });
        }
    });
    let expected: Vec<u64> =
        (0..4).flat_map(|thread| (0..20).filter(|s| s % 5 != 0).map(move |s| thread * 100 + s)).collect();
    assert_eq!(ids(&store), expected);
    drop(store);
    let store = open(&disk);
    assert_eq!(ids(&store), expected);
    for number in expected {
        assert_eq!(get(&store, number).unwrap(), content(number, length(number)));
    }
}

#[test]
fn writes_that_stay_in_the_page_cache_are_there_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = || StoreOptions::default().cache_writes(true);
    let store = ChunkStore::open(dir.path(), options()).unwrap();
    for (number, &length) in (0..).zip(&LENGTHS) {
        put(&store, number, &content(number, length)).unwrap();
    }
    // A small one is always in the page cache: where it comes without waiting, the file system can say so.
    let comes = |number, length| {
        let Poll::Ready(mut reader) = store.try_read(id(number), 0..length).unwrap() else { return false };
        while reader.remaining() > 0 {
            if reader.try_next_run().unwrap().is_pending() {
                return false;
            }
        }
        true
    };
    let can_say = comes(0, 1);
    for (number, &length) in (0..).zip(&LENGTHS) {
        assert_eq!(comes(number, length as u64), can_say, "chunk of {length} bytes");
    }
    drop(store);
    let store = ChunkStore::open(dir.path(), options()).unwrap();
    for (number, &length) in (0..).zip(&LENGTHS) {
        assert_eq!(get(&store, number).unwrap(), content(number, length));
    }
}

#[test]
fn a_directory_is_opened_by_one_and_refused_with_a_remedy_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/store");
    let store = ChunkStore::open(&path, StoreOptions::default()).unwrap();
    put(&store, 1, b"real").unwrap();
    let locked = ChunkStore::open(&path, StoreOptions::default()).unwrap_err();
    assert!(
        locked.to_string().contains(&format!("in use by another process ({})", std::process::id())),
        "{locked}"
    );
    drop(store);
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    std::fs::write(path.join("1.volume"), "not ours").unwrap();
    let store = ChunkStore::open(&path, StoreOptions::default()).unwrap();
    assert_eq!(get(&store, 1).unwrap(), b"real");
    assert_eq!(std::fs::read(path.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(std::fs::read(path.join("1.volume")).unwrap(), b"not ours");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = ChunkStore::open(&file, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
    let bad = StoreOptions::default().volume_size(5);
    assert!(matches!(ChunkStore::open(dir.path(), bad), Err(OpenError::Option(_))));
}

#[test]
fn a_volume_that_was_closed_is_written_on() {
    let disk = SimulatedDisk::new();
    for number in 0..5 {
        let store = open(&disk);
        put(&store, number, b"a little").unwrap();
        drop(store);
        // Opened and closed without a write: nothing changes.
        let before = disk.content("00000001.volume");
        drop(open(&disk));
        assert_eq!(disk.content("00000001.volume"), before);
    }
    let store = open(&disk);
    assert_eq!(store.usage().unwrap().volumes, 1);
    assert_eq!(ids(&store), [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_read_without_waiting_is_what_is_read() {
    let store = open(&SimulatedDisk::new());
    let lengths = [1, 5_000, BLOCK_SIZE, BLOCK_SIZE + 1, 300_000, 900_000];
    let (mut waits, mut came) = (0, 0);
    for (number, length) in (0..).zip(lengths) {
        let bytes = content(number, length);
        put(&store, number, &bytes).unwrap();
        for range in [0..length as u64, length as u64 / 2..length as u64] {
            // The simulated page cache has two things of three.
            let mut reader = loop {
                match store.try_read(id(number), range.clone()).unwrap() {
                    Poll::Ready(reader) => break reader,
                    Poll::Pending => waits += 1,
                }
            };
            let mut at = range.start / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
            while reader.remaining() > 0 {
                let run = match reader.try_next_run().unwrap() {
                    Poll::Ready(run) => run,
                    Poll::Pending => {
                        waits += 1;
                        reader.next_run().unwrap()
                    }
                };
                let run = run.expect("there is more to come");
                assert_eq!(run.offset, at);
                assert_eq!(run.data, bytes[at as usize..][..run.data.len()]);
                at += run.data.len() as u64;
                came += 1;
            }
            assert_eq!(at, length as u64);
            assert!(matches!(reader.try_next_run(), Ok(Poll::Ready(None))));
        }
    }
    assert!(waits > 5 && came > 12, "{waits} waits, {came} runs");
    assert_eq!(
        store.try_read(id(99), 0..1).unwrap_err().to_string(),
        get(&store, 99).unwrap_err().to_string()
    );
}
