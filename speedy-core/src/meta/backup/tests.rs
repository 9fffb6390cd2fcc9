use proptest::prelude::*;

use super::*;
use crate::meta::{Entry, TransactionId, Version};

fn entry(key: &str, value: Vec<u8>, version: u64) -> Entry {
    Entry { key: key.to_owned().into(), value: value.into(), version: Version(version) }
}

fn info(entries: u64, transactions: u64) -> BackupInfo {
    BackupInfo {
        identity: [7; 16],
        taken: Timestamp(1_790_000_000_000),
        versions: 1000,
        clock: Timestamp(1_790_000_005_000),
        entries,
        transactions,
        bytes: 0,
    }
}

/// A backup of these rows, with a block after every `every`th.
fn write(entries: &[Entry], transactions: &[(u32, [u8; 16], u64)], every: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let head = info(entries.len() as u64, transactions.len() as u64);
    let mut writer = BackupWriter::new(&mut out, head).unwrap();
    for (number, entry) in (1..).zip(entries) {
        writer.entry(entry);
        if number % every == 0 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    for (spell, id, version) in transactions {
        writer.transaction(*spell, TransactionId(*id), Version(*version));
    }
    let written = writer.end().unwrap();
    assert_eq!(written.bytes, out.len() as u64);
    out
}

fn sample() -> Vec<u8> {
    let entries: Vec<Entry> = (0..20)
        .map(|number| entry(&format!("key {number:02}"), vec![number; 50], u64::from(number)))
        .collect();
    write(&entries, &[(3, [1; 16], 5), (3, [2; 16], 6), (4, [0; 16], 7)], 6)
}

fn check(bytes: &[u8]) -> Result<BackupInfo, BackupError> {
    check_backup(bytes, &mut |_, _| {})
}

#[test]
fn what_was_written_is_read() {
    let entries =
        [entry("a", vec![1; 10], 1), entry("b", Vec::new(), 1000), entry("c", vec![3; 128 << 10], 2)];
    let bytes = write(&entries, &[(9, [4; 16], 8)], 2);
    let mut reader = BackupReader::new(&bytes[..]).unwrap();
    let (mut found, mut ids) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next().unwrap() {
        match block {
            Block::Entries(entries) => found.extend(entries),
            Block::Transactions(transactions) => ids.extend(transactions),
        }
    }
    assert_eq!(found, entries);
    assert_eq!(ids, [(9, TransactionId([4; 16]), Version(8))]);
    assert_eq!(reader.info(), BackupInfo { bytes: bytes.len() as u64, ..info(3, 1) });
    assert_eq!(check(&write(&[], &[], 1)).unwrap().entries, 0, "an empty store has a backup too");
}

/// Readers of other releases hold to these bytes. The digest is that of a file made by another program, from the
/// documentation alone.
#[test]
fn the_format_is_frozen() {
    let bytes = write(&[entry("k", b"v".to_vec(), 2)], &[(1, [9; 16], 2)], 1);
    let head = "5350454544594d42 00000001 00000000 07070707070707070707070707070707 000001a0c4506c00 \
        00000000000003e8 000001a0c4507f88 0000000000000001 0000000000000001 00000000";
    let rest = "01000000 00000010 0001 00000001 0000000000000002 6b 76";
    let hex = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
    assert_eq!(hex::encode(&bytes[..76]), hex::encode(hex(head)));
    assert_eq!(hex::encode(&bytes[80..104]), hex::encode(hex(rest)));
    assert_eq!(bytes.len(), 80 + (8 + 16 + 4) + (8 + 28 + 4) + (8 + 32 + 4));
    assert_eq!(hex::encode(crate::digest::Digest::sha256(&bytes).as_bytes()), GOLDEN);
}

const GOLDEN: &str = "93bc7dcff44a3d03e040ab47d1d4fcfd20bc81deef44d9d9a2a832eccf251fca";

#[test]
fn every_cut_is_refused() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let error = check(&bytes[..len]).unwrap_err();
        let expected = if len < 8 { "no backup" } else { "cut off" };
        assert!(error.to_string().contains(expected), "{len}: {error}");
    }
    assert!(check(&bytes).is_ok());
}

#[test]
fn every_changed_byte_is_refused() {
    let bytes = sample();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        assert!(check(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn blocks_can_not_be_moved_left_out_or_added() {
    let bytes = sample();
    // Four blocks of entries, each with its head, its rows and its checksum.
    let mut ends = vec![HEAD_LEN];
    while ends[ends.len() - 1] < bytes.len() {
        let at = ends[ends.len() - 1];
        let len = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        ends.push(at + BLOCK_HEAD_LEN + len + CRC_LEN);
    }
    assert_eq!(ends.len(), 7, "four blocks of entries, one of transactions, the end");
    let block = |number: usize| &bytes[ends[number]..ends[number + 1]];
    let head = &bytes[..HEAD_LEN];
    let swapped = [head, block(1), block(0), block(2), block(3), block(4), block(5)].concat();
    let left_out = [head, block(0), block(2), block(3), block(4), block(5)].concat();
    let twice = [head, block(0), block(0), block(1), block(2), block(3), block(4), block(5)].concat();
    let more = [&bytes[..], block(5)].concat();
    for (what, bytes) in [("swapped", swapped), ("left out", left_out), ("twice", twice), ("more", more)] {
        assert!(matches!(check(&bytes), Err(BackupError::Damaged { .. })), "{what}");
    }
}

#[test]
fn what_no_store_holds_is_refused_although_its_checksums_are_right() {
    let (a, b) = (entry("a", Vec::new(), 1), entry("b", Vec::new(), 1));
    for (what, bytes) in [
        ("out of order", write(&[b.clone(), a.clone()], &[], 9)),
        ("out of order in two blocks", write(&[b, a.clone()], &[], 1)),
        ("the same twice", write(&[a.clone(), a], &[], 9)),
        ("a version above the mark", write(&[entry("a", Vec::new(), 1001)], &[], 9)),
        ("a long value", write(&[entry("a", vec![0; (128 << 10) + 1], 1)], &[], 9)),
        ("ids out of order", write(&[], &[(2, [0; 16], 1), (1, [0; 16], 1)], 9)),
    ] {
        assert!(matches!(check(&bytes), Err(BackupError::Damaged { .. })), "{what}");
    }
}

#[test]
fn a_later_format_is_named() {
    let mut bytes = sample();
    bytes[11] = 2;
    assert!(matches!(check(&bytes), Err(BackupError::Format { found: 2, known: 1 })));
    assert!(matches!(check(b"something else entirely"), Err(BackupError::Foreign)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
        if whole {
            // Past the magic and the version.
            bytes.splice(0..0, sample()[..HEAD_LEN].iter().copied());
        }
        prop_assert!(check(&bytes).is_err());
    }
}
