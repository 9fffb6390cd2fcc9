use std::sync::OnceLock;

use super::super::disk::simulated::SimulatedDisk;
use super::super::format::{CheckpointHead, FIRST_RECORD, Head, checkpoint_footer};
use super::super::*;
use super::{Input, content, open, put, read};
use crate::checksum::{BLOCK_SIZE, crc32c};

const FILE: &str = "CHECKPOINT";

/// Chunks of the store that is attacked, and their lengths.
const CHUNKS: [(u64, usize); 6] = [(1, 1), (2, 500), (3, 70_000), (4, 300_000), (6, 2000), (9, 262_144)];
const DELETED: [u64; 2] = [5, 7];

/// A store with several volumes, closed, and with records behind its checkpoint.
fn store() -> &'static SimulatedDisk {
    static STORE: OnceLock<SimulatedDisk> = OnceLock::new();
    STORE.get_or_init(|| {
        let disk = SimulatedDisk::new();
        let store = open(&disk).expect("an empty disk becomes a store");
        put(&store, 5, 100_000).expect("there is room");
        for (id, length) in &CHUNKS[..5] {
            put(&store, *id, *length).expect("there is room");
        }
        for id in DELETED {
            store.delete(ChunkId::new(id), GroupVersion::INITIAL).expect("there is room");
        }
        drop(store);
        let store = open(&disk).expect("it was closed");
        put(&store, 9, 262_144).expect("there is room");
        // Killed: what its last words would be is lost.
        disk.after_kill()
    })
}

/// The checkpoint of a store is changed as the bytes say; then the store is opened.
///
/// With checksums that are not made anew the store is the same as before. With checksums that are, which nobody but the
/// store itself makes, it may have lost chunks, and serves no bytes but those that were written under their id.
pub fn checkpoint(data: &[u8]) {
    let disk = store().after_kill();
    let mut input = Input(data);
    let is_forged = input.byte().unwrap_or(0) & 1 == 1;
    disk.damage(FILE, |file| {
        while let Some(what) = input.byte() {
            change(file, what, &mut input);
        }
        if is_forged {
            forge(file);
        }
    });
    let store = open(&disk).expect("a checkpoint is never needed");
    let page = store.list(None, 1000).expect("the disk works");
    for info in &page.chunks {
        let expected = content(info.id.get(), info.length as usize);
        match read(&store, info) {
            Ok(bytes) => assert_eq!(bytes, expected, "chunk {} has bytes that nobody wrote", info.id),
            Err(error) => assert!(is_forged, "{error}"),
        }
    }
    if !is_forged {
        let found: Vec<(u64, usize)> =
            page.chunks.iter().map(|info| (info.id.get(), info.length as usize)).collect();
        assert_eq!(found, CHUNKS);
        for id in DELETED {
            assert!(matches!(store.stat(ChunkId::new(id)), Err(ReadError::Deleted(_))));
        }
    }
    // Whatever it believes, it goes on.
    let _ = store.scrub(&ScrubOptions::default());
    let _ = store.compact(&CompactionOptions::default().dead_percent(0));
    let _ = put(&store, 11, 3000);
    drop(store);
    open(&disk).expect("it was closed");
}

fn change(file: &mut Vec<u8>, what: u8, input: &mut Input<'_>) {
    let at = input.number();
    match what % 4 {
        0 if !file.is_empty() => {
            let at = at % file.len();
            file[at] ^= input.byte().unwrap_or(1) | 1;
        }
        // Rows and fields rather than the padding of the head.
        1 if file.len() > FIRST_RECORD as usize => {
            let at = FIRST_RECORD as usize + at % (file.len() - FIRST_RECORD as usize);
            file[at] = input.byte().unwrap_or(0);
        }
        2 => file.truncate(at % (file.len() + 1)),
        _ => file.extend(std::iter::repeat_n(input.byte().unwrap_or(0), at % 200)),
    }
}

/// Makes the checksums right, as far as the file is long enough to have any.
fn forge(file: &mut [u8]) {
    let Ok(head) = CheckpointHead::decode(file) else { return };
    let body = (head.volumes.saturating_mul(64)).saturating_add(head.rows.saturating_mul(20));
    let start = FIRST_RECORD as usize;
    let Some(rest) = file.len().checked_sub(start).filter(|rest| (*rest as u64) > body) else { return };
    let (body, footer) = file[start..start + rest].split_at_mut(body as usize);
    let blocks: Vec<u32> = body.chunks(BLOCK_SIZE).map(crc32c).collect();
    let right = checkpoint_footer(&blocks, body.len() as u64, head.store);
    let len = right.len().min(footer.len());
    footer[..len].copy_from_slice(&right[..len]);
}
