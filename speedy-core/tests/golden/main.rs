//! The store of format version 1 in `v1/` opens to what was written, for ever, and is what `docs/format.md` says.
//!
//! It has two directories, chunks of both kinds, tombstones, a chunk in quarantine, a write that was cut off, checkpoints
//! and the state of a scrub; and its last process was killed, so that records stand behind the last marks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reader;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use speedy_core::id::ChunkId;
use speedy_core::store::{
    CheckOptions, ChunkStore, CompactionOptions, ReadError, RecordOf, RecordState, StoreOptions,
};

/// Chunks that are in the store: the number from which all else of them follows, and their length.
const CHUNKS: [(u64, u64); 9] = [
    (1, 1),
    (3, 65_536),
    (4, 65_537),
    (6, 262_144),
    (8, 3_000),
    (20, 100),
    (21, 270_000),
    (30, 1_000),
    (31, 262_200),
];
const DELETED: [u64; 3] = [2, 7, 99];
const QUARANTINED: u64 = 5;

fn id(number: u64) -> ChunkId {
    ChunkId::new(number << 32 | number)
}

fn content(number: u64, length: u64) -> Vec<u8> {
    (0..length).map(|i| (i * (2 * number + 1) + i / 251) as u8).collect()
}

fn golden() -> [PathBuf; 2] {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    [dir.join("a"), dir.join("b")]
}

/// A copy that may be changed.
fn copy() -> (tempfile::TempDir, [PathBuf; 2]) {
    let target = tempfile::tempdir().unwrap();
    let dirs = golden().map(|from| {
        let to = target.path().join(from.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    });
    (target, dirs)
}

fn read(store: &ChunkStore, number: u64, length: u64) -> Result<Vec<u8>, ReadError> {
    let mut reader = store.read(id(number), 0..length)?;
    let mut bytes = Vec::new();
    while let Some(run) = reader.next_run()? {
        bytes.extend_from_slice(&run.data);
    }
    Ok(bytes)
}

#[track_caller]
fn expect_all(store: &ChunkStore) {
    for (number, length) in CHUNKS {
        assert_eq!(read(store, number, length).unwrap(), content(number, length), "chunk {number}");
        let info = store.stat(id(number)).unwrap();
        assert_eq!((info.owner.offset, info.version.get()), (number * 4_000_000_000, number + 3));
        assert_eq!(info.owner.blob.as_bytes(), &[number as u8; 16]);
    }
    for number in DELETED {
        assert!(matches!(store.stat(id(number)), Err(ReadError::Deleted(_))), "chunk {number}");
    }
    assert!(matches!(store.stat(id(QUARANTINED)), Err(ReadError::Damaged { .. })));
    let ids: Vec<ChunkId> = store.list(None, 100).unwrap().chunks.iter().map(|chunk| chunk.id).collect();
    assert_eq!(ids, CHUNKS.map(|(number, _)| id(number)));
}

#[test]
fn it_opens_to_what_was_written() {
    let (_target, dirs) = copy();
    for options in [StoreOptions::default().read_only(), StoreOptions::default(), StoreOptions::default()] {
        let store = ChunkStore::open_all(&dirs, options).unwrap();
        assert!(store.recovery().from_checkpoints > 0);
        assert!(store.recovery().unused_checkpoints.is_empty());
        expect_all(&store);
        assert_eq!(store.last_scrub().unwrap().records, 9);
        let report = store.check(&CheckOptions::default()).unwrap();
        let damaged: Vec<ChunkId> = report.damaged.iter().map(|(id, _)| *id).collect();
        assert_eq!((damaged, report.damaged_regions, report.unfinished), (vec![id(QUARANTINED)], 0, 1));
        assert_eq!((report.contradictions.len(), report.skipped.len(), report.torn), (0, 0, 0));
    }
    let store = ChunkStore::open_all(&dirs, StoreOptions::default()).unwrap();
    store.compact(&CompactionOptions::default().dead_percent(0)).unwrap();
    expect_all(&store);
}

#[test]
fn it_opens_without_its_checkpoints() {
    let (_target, dirs) = copy();
    for dir in &dirs {
        std::fs::remove_file(dir.join("CHECKPOINT")).unwrap();
        std::fs::remove_file(dir.join("CHECKPOINT.old")).unwrap();
    }
    expect_all(&ChunkStore::open_all(&dirs, StoreOptions::default()).unwrap());
}

#[test]
fn a_reader_made_from_the_documentation_alone_finds_the_same_records() {
    let store = ChunkStore::open_all(golden(), StoreOptions::default().read_only()).unwrap();
    let mut expected = Vec::new();
    let mut live = BTreeMap::new();
    store
        .dump(true, |info| {
            let created =
                info.created.map_or(0, |at| at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
            let mut record = reader::Record {
                volume: info.volume,
                offset: info.offset,
                size: info.size,
                sequence: info.sequence,
                created,
                ..reader::Record::default()
            };
            match info.record {
                RecordOf::Chunk { id, length, owner, version } => {
                    let is_whole = info.state != RecordState::Unfinished;
                    record.kind = if is_whole { "chunk" } else { "unfinished" };
                    (record.id, record.length, record.version) = (id.get(), length, version.get());
                    (record.blob, record.blob_offset) = (owner.blob.to_string(), owner.offset);
                }
                RecordOf::Tombstone { id, version } => {
                    (record.kind, record.id, record.version) = ("tombstone", id.get(), version.get());
                }
                RecordOf::Quarantined { id, length, .. } => {
                    (record.kind, record.id, record.length) = ("quarantined", id.get(), length);
                }
                RecordOf::Mark { is_final } => record.kind = if is_final { "final mark" } else { "mark" },
                ref other => panic!("{other:?}"),
            }
            if info.state == RecordState::Live && !record.kind.contains("mark") {
                live.insert(record.id, (record.volume, record.offset));
            }
            expected.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    let volumes = golden().map(|dir| reader::volumes(&dir));
    let mut found = Vec::new();
    for volume in volumes.into_iter().flat_map(BTreeMap::into_values) {
        assert_eq!(volume.store, store.store_id().to_string());
        found.extend(volume.records);
    }
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter_mut().zip(&mut expected) {
        if found.kind == "chunk" {
            let number = found.id >> 32;
            assert_eq!(found.body, content(number, found.length));
            found.body.clear();
        }
        if !matches!(found.kind, "chunk" | "unfinished") {
            // A dump tells what these mean, not every field that they have.
            found.blob.clear();
            (found.blob_offset, expected.blob_offset) = (0, 0);
            found.version = if found.kind == "tombstone" { found.version } else { 0 };
        }
        assert_eq!(found, expected);
    }

    // Superblocks, the scrub's state and checkpoints too.
    let [a, b] = golden().map(|dir| reader::superblock(&dir));
    let mut members = vec![a.directory.clone(), b.directory.clone()];
    members.sort_unstable();
    for (superblock, ordinal) in [(&a, 0), (&b, 1)] {
        assert_eq!(superblock.store, store.store_id().to_string());
        assert_eq!(superblock.node, store.node_id().to_string());
        assert_eq!((superblock.ordinal, &superblock.members), (ordinal, &members));
    }
    let scrub = reader::scrub(&golden()[0]);
    let last = store.last_scrub().unwrap();
    assert_eq!((scrub.store, scrub.running), (a.store, [0; 4]));
    assert_eq!([scrub.last[1], scrub.last[2], scrub.last[3]], [last.records, last.bytes, last.damaged]);
    assert_eq!(scrub.completed, last.completed.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    for (dir, rows) in golden().iter().zip([9, 2]) {
        let volumes = reader::volumes(dir);
        let checkpoint = reader::checkpoint(&dir.join("CHECKPOINT"));
        reader::checkpoint(&dir.join("CHECKPOINT.old"));
        assert_eq!((checkpoint.store, checkpoint.rows.len()), (store.store_id().to_string(), rows));
        for (number, identity, is_final, covered) in checkpoint.covered {
            let volume = &volumes[&number];
            let mark = volume.records.iter().rfind(|record| record.offset + record.size == covered).unwrap();
            assert_eq!((volume.number, &volume.identity), (number, &identity));
            assert_eq!(mark.kind, if is_final { "final mark" } else { "mark" });
            assert!(mark.sequence <= checkpoint.highest_sequence);
        }
        for row in checkpoint.rows {
            assert_eq!(live[&row.id], (row.volume, row.offset));
            let record =
                volumes[&row.volume].records.iter().find(|record| record.offset == row.offset).unwrap();
            assert_eq!((record.id, record.length), (row.id, row.length));
            assert_eq!(row.quarantined, record.kind == "quarantined");
        }
    }
}
