//! The engine's tests: what callers see, what a crash leaves, what a failing disk does.

mod checkpoint;
mod chunks;
mod compaction;
mod compaction_faults;
mod damage;
mod directories;
mod durability;
mod faults;
mod fuzz_seeds;
mod golden;
mod inspect;
#[cfg(feature = "shuttle")]
mod interleavings;
mod kill;
mod model;
mod power;
mod room;
mod scrub;
mod shared;

use super::disk::simulated::SimulatedDisk;
use super::*;
use crate::id::BlobId;
use crate::sync::{AtomicBool, Ordering};

/// Small volumes and steps, so that a few chunks fill several.
fn small_volumes() -> StoreOptions {
    StoreOptions::default().volume_size(1 << 20).preallocation(64 << 10)
}

/// Opens a store that has lost no volume.
fn open(disk: &SimulatedDisk) -> ChunkStore {
    let store = open_what_is_left(disk);
    assert_eq!(store.recovery().lost, []);
    store
}

fn open_what_is_left(disk: &SimulatedDisk) -> ChunkStore {
    ChunkStore::open_on(Box::new(disk.clone()), small_volumes()).unwrap()
}

/// Opens what is there to be read.
fn peek(disk: &SimulatedDisk) -> Result<ChunkStore, OpenError> {
    ChunkStore::open_on(Box::new(disk.clone()), small_volumes().read_only())
}

/// The content of all files.
fn files(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk::Disk::names(disk).unwrap();
    names.into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

fn id(number: u64) -> ChunkId {
    ChunkId::new(number)
}

fn new_chunk(number: u64, length: usize) -> NewChunk {
    let owner = Owner { blob: BlobId::from_bytes([7; 16]), offset: number * 1000 };
    NewChunk::new(id(number), owner, length as u64, GroupVersion::new(3))
}

/// Bytes that differ from those of other numbers everywhere, and from page to page.
fn content(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut page = Vec::with_capacity(4096);
    while page.len() < 4096 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        page.extend_from_slice(&state.to_le_bytes());
    }
    let mut bytes = page.repeat(length.div_ceil(4096));
    for (index, page) in bytes.chunks_mut(4096).enumerate() {
        page[..8].copy_from_slice(&(number << 32 | index as u64).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn put(store: &ChunkStore, number: u64, bytes: &[u8]) -> Result<ChunkInfo, WriteError> {
    let mut writer = store.begin(new_chunk(number, bytes.len()))?;
    writer.write(bytes)?;
    writer.commit()
}

/// Writes bytes that are all there and on a page.
fn put_whole(store: &ChunkStore, number: u64, bytes: &[u8]) -> Result<ChunkInfo, WriteError> {
    let mut pages = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
    pages.copy_from_slice(bytes);
    store.put(new_chunk(number, bytes.len()), &pages)
}

fn heal(store: &ChunkStore, number: u64, bytes: &[u8]) -> Result<ChunkInfo, WriteError> {
    let mut writer = store.heal(new_chunk(number, bytes.len()))?;
    for piece in bytes.chunks(100_000) {
        writer.write(piece)?;
    }
    writer.commit()
}

/// Compacts every volume in which anything is dead.
fn compact(store: &ChunkStore) -> Result<CompactionReport, CompactionError> {
    store.compact(&CompactionOptions::default().dead_percent(0))
}

/// Flips a bit in the middle of the bytes of a live chunk, behind the engine's back.
fn damage(disk: &SimulatedDisk, store: &ChunkStore, number: u64) {
    let entry = store.shared.index.get(id(number)).unwrap();
    let volume = store.shared.volumes.get(entry.volume).unwrap();
    let geometry = format::Geometry::new(volume.kind(), entry.offset(), entry.length());
    disk.flip(&volumes::file_name(entry.volume), (geometry.body + entry.length() / 2) as usize);
}

fn get(store: &ChunkStore, number: u64) -> Result<Vec<u8>, ReadError> {
    let length = store.stat(id(number))?.length;
    let mut reader = store.read(id(number), 0..length)?;
    let mut bytes = Vec::new();
    while let Some(run) = reader.next_run()? {
        assert_eq!(run.offset, bytes.len() as u64);
        bytes.extend_from_slice(&run.data);
    }
    Ok(bytes)
}

fn ids(store: &ChunkStore) -> Vec<u64> {
    let page = store.list(None, usize::MAX - 1).unwrap();
    assert!(!page.more);
    page.chunks.iter().map(|chunk| chunk.id.get()).collect()
}
