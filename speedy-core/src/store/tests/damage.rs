//! Bits that flip and sectors that turn to zeros: nothing wrong is returned, nothing undamaged is lost.

use super::*;
use crate::store::format::{FIRST_RECORD, FORMAT_VERSION};

const FIRST: &str = "00000001.volume";

/// A store of three chunks in one volume, closed; and its disk.
fn three_chunks(length: usize) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 1..=3 {
        put(&store, number, &content(number, length)).unwrap();
    }
    drop(store);
    disk
}

/// Opens a damaged store; answers how many of its chunks can still be read, each with the right bytes.
fn survivors(disk: &SimulatedDisk, length: usize) -> usize {
    let store = open(disk);
    let whole = |&number: &u64| match get(&store, number) {
        Ok(bytes) => {
            assert_eq!(bytes, content(number, length));
            true
        }
        Err(ReadError::NotFound(_) | ReadError::Damaged { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    (1..=3).filter(whole).count()
}

#[test]
fn any_flipped_bit_costs_one_chunk_at_most() {
    for (length, step) in [(90, 1), (300_000, 997)] {
        let disk = three_chunks(length);
        let volume = disk.content(FIRST);
        // The two header pages are mostly padding.
        let head = (0..128).chain(4096..4096 + 128);
        let records = (FIRST_RECORD as usize..volume.len()).step_by(step);
        for position in head.step_by(step).chain(records) {
            let disk = disk.after_kill();
            disk.damage(FIRST, |bytes| bytes[position] ^= 1 << (position % 8));
            let found = survivors(&disk, length);
            let at_least = if position < FIRST_RECORD as usize { 3 } else { 2 };
            assert!(found >= at_least, "byte {position}: {found} of 3 chunks are left");
            // What could not be parsed is still there for inspection.
            let kept = disk.content(FIRST)[position];
            assert_eq!(kept, volume[position] ^ 1 << (position % 8));
        }
    }
}

#[test]
fn a_sector_of_zeros_costs_what_was_in_it() {
    for length in [2000, 300_000] {
        let disk = three_chunks(length);
        let size = disk.content(FIRST).len();
        // Every sector of small chunks, and a sample of those of large ones.
        for sector in (0..size / 512).step_by(if length == 2000 { 1 } else { 7 }) {
            let disk = disk.after_kill();
            disk.damage(FIRST, |bytes| bytes[sector * 512..][..512].fill(0));
            let at_least = match sector * 512 {
                0..8192 => 3,
                // Small chunks share the sectors at their ends.
                _ if length == 2000 => 1,
                _ => 2,
            };
            assert!(survivors(&disk, length) >= at_least, "sector {sector}");
        }
    }
}

#[test]
fn damage_after_a_crash_is_no_worse() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for number in 1..=3 {
        put(&store, number, &content(number, 2000)).unwrap();
    }
    let crashed = disk.after_power_cut(1);
    for position in (FIRST_RECORD as usize..FIRST_RECORD as usize + 6300).step_by(13) {
        let disk = crashed.after_kill();
        disk.damage(FIRST, |bytes| bytes[position] ^= 4);
        // Twice: what the first start decided, the second finds again.
        assert!(survivors(&disk, 2000) >= 2, "byte {position}");
        let (first, disk) = (ids(&open(&disk.after_kill())), disk.after_kill());
        assert!(
            first.iter().all(|&number| get(&open(&disk.after_kill()), number).is_ok()),
            "byte {position}"
        );
        drop(open(&disk));
        let again = open(&disk.after_power_cut(2));
        assert_eq!(ids(&again), first);
        assert!(first.iter().all(|&number| get(&again, number).is_ok()), "byte {position}");
    }
}

#[test]
fn chunks_that_imitate_records_are_never_taken_for_records() {
    let disk = three_chunks(90);
    // A chunk that holds all of the volume, records with the right identity included, at every alignment.
    let mut imitation = disk.content(FIRST)[FIRST_RECORD as usize..].to_vec();
    imitation.extend_from_slice(&imitation.clone());
    let store = open(&disk);
    store.delete(id(2), GroupVersion::new(3)).unwrap();
    put(&store, 4, &imitation).unwrap();
    put(&store, 5, b"behind").unwrap();
    drop(store);
    let clean = disk.content(FIRST);
    let at = clean.windows(imitation.len()).position(|window| window == imitation).unwrap();
    // Without its header the chunk is a region to search for the next one.
    disk.damage(FIRST, |bytes| bytes[at - 40] ^= 1);
    assert_eq!(ids(&open(&disk.after_kill())), [1, 3, 5], "the checkpoint knows where it was");
    checkpoint::forget(&disk);
    let store = open(&disk);
    assert_eq!(ids(&store), [1, 3, 5]);
    assert_eq!(store.recovery().damaged_regions, 1);
    assert!(matches!(get(&store, 2), Err(ReadError::Deleted(_))));
}

#[test]
fn a_damaged_chunk_is_named_and_not_overwritten_by_a_second_try() {
    let disk = three_chunks(300_000);
    disk.damage(FIRST, |bytes| bytes[FIRST_RECORD as usize + 4096 + 70_000] ^= 1);
    let store = open(&disk);
    let error = get(&store, 1).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { .. }));
    assert!(error.to_string().contains("block at offset 65536"), "{error}");
    let first_block = store.read(id(1), 0..10).unwrap().next_run().unwrap().unwrap();
    assert_eq!(first_block.data, content(1, 300_000)[..65_536], "undamaged blocks can be read");
    let error = put(&store, 1, &content(1, 300_000)).unwrap_err();
    assert!(matches!(error, WriteError::Damaged { .. }), "{error}");
    put(&store, 2, &content(2, 300_000)).unwrap();
}

#[test]
fn a_volume_without_a_header_costs_only_its_own_chunks() {
    let disk = three_chunks(90);
    let store = open(&disk);
    put(&store, 4, &content(4, 300_000)).unwrap();
    drop(store);
    disk.damage(FIRST, |bytes| {
        bytes[20] ^= 1;
        bytes[4096 + 20] ^= 1;
    });
    let store = open_what_is_left(&disk);
    assert_eq!(ids(&store), [4]);
    assert_eq!(store.recovery().lost, [], "it is there, and told");
    let [skipped] = &store.recovery().skipped[..] else { panic!("one is skipped") };
    assert!(skipped.path.ends_with(FIRST) && skipped.reason == SkipReason::Damaged);
    put(&store, 5, b"a new volume").unwrap();
}

#[test]
fn volumes_of_other_stores_and_copies_are_left_alone() {
    let disk = three_chunks(90);
    let own = disk.content(FIRST);
    let foreign = three_chunks(90).content(FIRST);
    for (name, bytes) in [("00000007.volume", own), ("00000008.volume", foreign)] {
        let file = super::super::disk::Disk::create(&disk, name).unwrap();
        file.write_at(&bytes, 0).unwrap();
    }
    let store = open(&disk);
    assert_eq!(ids(&store), [1, 2, 3]);
    assert_eq!(store.recovery().skipped.len(), 2);
    put(&store, 10, &content(1, 300_000)).unwrap();
    assert!(disk.content("00000009.volume").len() > 300_000, "its number is not used again");
}

/// Puts a head with another format version in place of both copies.
fn raise_version(bytes: &mut [u8]) {
    for page in [0, 4096] {
        bytes[page + 8..page + 12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let crc = crate::checksum::crc32c(&bytes[page..page + 124]);
        bytes[page + 124..page + 128].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    for name in ["STORE", FIRST] {
        let disk = three_chunks(90);
        disk.damage(name, |bytes| raise_version(bytes));
        let error = ChunkStore::open_on(Box::new(disk.clone()), small_volumes()).unwrap_err();
        assert!(matches!(&error, OpenError::NewerFormat { path, found, .. }
            if path.ends_with(name) && *found == FORMAT_VERSION + 1));
        assert!(error.to_string().contains("format version 2"), "{error}");
    }
}

#[test]
fn the_identity_survives_one_bad_copy_and_is_never_made_up() {
    let disk = three_chunks(90);
    let node = open(&disk).node_id();
    disk.damage("STORE", |bytes| bytes[..4096].fill(0));
    assert_eq!(open(&disk).node_id(), node);
    disk.damage("STORE", |bytes| bytes[4096 + 30] ^= 1);
    let refused =
        |disk: &SimulatedDisk| ChunkStore::open_on(Box::new(disk.clone()), small_volumes()).unwrap_err();
    assert!(matches!(refused(&disk), OpenError::Identity { reason: "it is damaged", .. }));
    super::super::disk::Disk::remove(&disk, "STORE").unwrap();
    assert!(matches!(refused(&disk), OpenError::Identity { reason: "it is missing", .. }));
}
