//! What fuzzers attack: each function takes any bytes, and panics where a promise of the store is broken.
//!
//! The targets in `fuzz/` call these, and so does an ordinary test, with all seeds and all that was ever found.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Disk;
use super::disk::simulated::SimulatedDisk;
use super::format::{
    FIRST_RECORD, Footer, Head, HeadError, RecordHeader, Seed, Superblock, VolumeHeader, footer_len,
    write_footer,
};
use super::*;
use crate::id::BlobId;

/// Headers, footers and heads out of any bytes: what is accepted is encoded to the same bytes again, and a change of any
/// bit is noticed.
pub fn record(data: &[u8]) {
    let Some((offset, rest)) = data.split_first_chunk::<8>() else { return };
    let seed = Seed { volume: [0x5a; 16], offset: u64::from_le_bytes(*offset) };
    if let Some(header) = RecordHeader::decode(rest, seed) {
        panic!("a header came out of bytes that know no seed: {header:?}");
    }
    for length in [1, 4096, 65_537, super::MAX_CHUNK_LEN] {
        assert_eq!(
            Footer::decode(rest, length, 7, seed),
            None,
            "a footer came out of bytes that know no seed"
        );
    }
    let _ = (Superblock::decode(rest), VolumeHeader::decode(rest));
    forged_header(rest, seed);
    forged_footer(rest, seed);
    forged_head(rest);
}

/// The bytes as a header whose CRC is right.
fn forged_header(data: &[u8], seed: Seed) {
    let Some(bytes) = data.first_chunk::<{ super::format::HEADER_LEN }>() else { return };
    let mut bytes = *bytes;
    bytes[..4].copy_from_slice(b"SPRC");
    bytes[4] %= 5;
    bytes[5] %= 2;
    let end = bytes.len() - 4;
    let crc = seed.crc(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    let Some(header) = RecordHeader::decode(&bytes, seed) else { return };
    assert!(header.length <= super::MAX_CHUNK_LEN);
    let again = header.encode(seed);
    assert_eq!(RecordHeader::decode(&again, seed), Some(header));
    let bit = usize::from(bytes[8]) % (again.len() * 8);
    let mut damaged = again;
    damaged[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(RecordHeader::decode(&damaged, seed), None, "bit {bit} may flip unnoticed");
}

fn forged_footer(data: &[u8], seed: Seed) {
    let Some((&[a, b], rest)) = data.split_first_chunk::<2>() else { return };
    let length = u64::from(u16::from_le_bytes([a, b])) * 64 + 1;
    let blocks = crate::checksum::block_count(length) as usize;
    let blocks: Vec<u32> =
        rest.chunks_exact(4).take(blocks).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    if blocks.len() as u64 != crate::checksum::block_count(length) {
        return;
    }
    let mut bytes = Vec::new();
    write_footer(&mut bytes, &blocks, 17, 7, seed);
    assert_eq!(bytes.len() as u64, footer_len(length));
    let footer = Footer { blocks, checksum: 17 };
    assert_eq!(Footer::decode(&bytes, length, 7, seed), Some(footer));
    assert_eq!(Footer::decode(&bytes, length, 8, seed), None, "a footer of another header");
}

/// The bytes as the fields of a head whose CRC is right.
fn forged_head(data: &[u8]) {
    let mut bytes = vec![0; FIRST_RECORD as usize];
    let len = data.len().min(112);
    bytes[..8].copy_from_slice(VolumeHeader::MAGIC);
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    bytes[12..12 + len].copy_from_slice(&data[..len]);
    let crc = crate::checksum::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    match VolumeHeader::decode(&bytes) {
        Ok(header) => assert_eq!(VolumeHeader::decode(&header.encode()), Ok(header)),
        Err(error) => assert_eq!(error, HeadError::Damaged),
    }
}

/// What the bytes say is done to a store: writes, deletes, kills and power cuts, and damage to its files.
///
/// While nothing was damaged, all that was acknowledged is there, whole, and nothing else is. Whatever was
/// damaged: a store that opens serves no bytes but those that were once written under that id.
pub fn recovery(data: &[u8]) {
    let mut input = Input(data);
    let mut run = Run::new();
    while let Some(what) = input.byte() {
        if !run.step(what, &mut input) {
            return;
        }
    }
    run.reboot(|disk| disk.after_kill());
}

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

struct Run {
    disk: SimulatedDisk,
    store: Option<ChunkStore>,
    /// What was acknowledged, and not deleted since.
    live: BTreeMap<u64, usize>,
    deleted: BTreeSet<u64>,
    is_damaged: bool,
}

fn options() -> StoreOptions {
    StoreOptions::default().volume_size(1 << 20).preallocation(16 << 10)
}

/// The content of a chunk depends on its id and length alone.
fn content(id: u64, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u64 * 31 + id * 7 + length as u64) as u8 ^ (i >> 8) as u8).collect()
}

impl Run {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let store = Some(open(&disk).expect("an empty disk becomes a store"));
        Self { disk, store, live: BTreeMap::new(), deleted: BTreeSet::new(), is_damaged: false }
    }

    /// Whether there is still a store.
    fn step(&mut self, what: u8, input: &mut Input<'_>) -> bool {
        match what % 12 {
            0..=2 => self.put(u64::from(input.byte().unwrap_or(0) % 16), input.number() % 3000 + 1),
            // A large one.
            3 => self.put(u64::from(input.byte().unwrap_or(0) % 16), (256 << 10) + input.number()),
            4 => self.delete(u64::from(input.byte().unwrap_or(0) % 16)),
            5 => return self.reboot(|disk| disk.after_kill()),
            6 => {
                let seed = input.number() as u64;
                return self.reboot(|disk| disk.after_power_cut(seed));
            }
            7 => {
                self.store = None;
                return self.reboot(|disk| disk.after_kill());
            }
            8 => {
                let (at, by) = (input.number(), input.byte().unwrap_or(1) | 1);
                self.damage(input, |file| {
                    let at = at * 4 % file.len();
                    file[at] ^= by;
                });
            }
            9 => {
                let at = input.number();
                self.damage(input, |file| {
                    let sector = at * 512 % file.len() / 512 * 512;
                    let end = (sector + 512).min(file.len());
                    file[sector..end].fill(0);
                });
            }
            10 => {
                let at = input.number();
                self.damage(input, |file| file.truncate(at * 16 % file.len()));
            }
            _ => {
                // The end of the file anew: what a broken tool or file system appends.
                let (from, len) = (input.number() * 8, input.number() % 512);
                self.damage(input, |file| {
                    let copy: Vec<u8> = file.iter().cycle().skip(from).take(len * 8).copied().collect();
                    file.extend(copy);
                });
            }
        }
        true
    }

    fn put(&mut self, id: u64, length: usize) {
        let store = self.store.as_ref().expect("a store is open between the steps");
        let owner = Owner { blob: BlobId::from_bytes([9; 16]), offset: id };
        let chunk = NewChunk::new(ChunkId::new(id), owner, length as u64, GroupVersion::INITIAL);
        match store.put(chunk, &content(id, length)) {
            Ok(_) => {
                assert!(self.is_damaged || !self.deleted.contains(&id), "a deleted id was accepted");
                self.live.insert(id, length);
            }
            Err(WriteError::Deleted(_)) => assert!(self.is_damaged || self.deleted.contains(&id)),
            Err(WriteError::Conflict(_)) => assert!(self.is_damaged || self.live.contains_key(&id)),
            Err(error) => assert!(self.is_damaged, "{error}"),
        }
    }

    fn delete(&mut self, id: u64) {
        let store = self.store.as_ref().expect("a store is open between the steps");
        if let Err(error) = store.delete(ChunkId::new(id), GroupVersion::INITIAL) {
            assert!(self.is_damaged, "{error}");
            return;
        }
        self.live.remove(&id);
        self.deleted.insert(id);
    }

    /// Changes a file behind the back of a store that is closed, and opens it again.
    fn damage(&mut self, input: &mut Input<'_>, change: impl FnOnce(&mut Vec<u8>)) {
        let names = Disk::names(&self.disk).expect("the power is on");
        // The superblock is what a store can't be opened without; it says so by an error, which ends the run.
        let name = &names[input.number() % names.len()];
        if !self.disk.content(name).is_empty() {
            self.disk.damage(name, change);
            self.is_damaged = true;
        }
    }

    fn reboot(&mut self, end: impl FnOnce(&SimulatedDisk) -> SimulatedDisk) -> bool {
        let disk = end(&self.disk);
        // Its last words go to a disk that nobody reads any more.
        self.store = None;
        self.disk = disk;
        match open(&self.disk) {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                assert!(self.is_damaged, "{error}");
                return false;
            }
        }
        self.check();
        true
    }

    fn check(&self) {
        let store = self.store.as_ref().expect("it was just opened");
        let page = store.list(None, 1000).expect("the disk works");
        for info in &page.chunks {
            let id = info.id.get();
            let expected = content(id, info.length as usize);
            match read(store, info) {
                Ok(bytes) => assert_eq!(bytes, expected, "chunk {id} has bytes that nobody wrote"),
                Err(error) => assert!(self.is_damaged, "{error}"),
            }
        }
        if !self.is_damaged {
            let found: BTreeMap<u64, usize> =
                page.chunks.iter().map(|info| (info.id.get(), info.length as usize)).collect();
            assert_eq!(found, self.live);
        }
    }
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
