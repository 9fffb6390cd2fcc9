//! What fuzzers attack: each function takes any bytes, and panics where a promise of the store is broken.
//!
//! The targets in `fuzz/` call these, and so does an ordinary test, with all seeds and all that was ever found.

mod checkpoint;
mod record;
mod recovery;

pub use checkpoint::checkpoint;
pub use record::record;
pub use recovery::recovery;

use super::disk::simulated::SimulatedDisk;
use super::*;
use crate::id::BlobId;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number of two bytes; zeros where there are none left.
    fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0)) << 8 | usize::from(self.byte().unwrap_or(0))
    }
}

fn options() -> StoreOptions {
    StoreOptions::default().volume_size(1 << 20).preallocation(16 << 10)
}

/// The content of a chunk depends on its id and length alone. Made page by page: a fuzzer looks at every step of a loop.
fn content(id: u64, length: usize) -> Vec<u8> {
    let page: Vec<u8> =
        (0..4096).map(|i: u64| (i * 31 + id * 7 + length as u64) as u8 ^ (i >> 8) as u8).collect();
    let mut bytes = page.repeat(length.div_ceil(4096));
    for (index, page) in bytes.chunks_exact_mut(4096).enumerate() {
        page[..8].copy_from_slice(&(id << 32 | index as u64).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes the chunk of this id and length.
fn put(store: &ChunkStore, id: u64, length: usize) -> Result<ChunkInfo, WriteError> {
    let owner = Owner { blob: BlobId::from_bytes([9; 16]), offset: id };
    let chunk = NewChunk::new(ChunkId::new(id), owner, length as u64, GroupVersion::INITIAL);
    store.put(chunk, &content(id, length))
}

fn open(disk: &SimulatedDisk) -> Result<ChunkStore, OpenError> {
    ChunkStore::open_on(Box::new(disk.clone()), options())
}

fn read(store: &ChunkStore, info: &ChunkInfo) -> Result<Vec<u8>, ReadError> {
    let mut reader = store.read(info.id, 0..info.length)?;
    let mut bytes = Vec::new();
    while let Some(run) = reader.next_run()? {
        bytes.extend_from_slice(&run.data);
    }
    Ok(bytes)
}

fn open_to_read(disk: &SimulatedDisk) -> Result<ChunkStore, OpenError> {
    ChunkStore::open_on(Box::new(disk.clone()), options().read_only())
}
