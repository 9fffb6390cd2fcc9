//! The index on disk, so that opening a store need not walk its volumes. `docs/format.md` has the bytes, and says why
//! any checkpoint, however old, gives the same index as none.
//!
//! A checkpoint is derived: one that is missing, damaged or of another time costs the time of a walk. It belongs to one
//! directory, and says of each of its volumes up to which mark it knows all records.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use super::disk::{Disk, DiskFile, Mapping};
use super::format::{
    COVERED_LEN, CheckpointHead, Covered, FIRST_RECORD, FORMAT_VERSION, Head, HeadError, LARGE,
    MAX_CHUNK_LEN, VolumeKind, checkpoint_footer, verified_body,
};
use super::index::{Entry, Index, Row};
use super::now;
use crate::checksum::{BLOCK_SIZE, Crc32c};
use crate::id::StoreId;
use crate::sync::Arc;

const FILE: &str = "CHECKPOINT";
const PREVIOUS: &str = "CHECKPOINT.old";
const ASIDE: &str = "CHECKPOINT.new";

/// Rows that are taken from the index at a time: its locks are held briefly.
const PAGE_ROWS: usize = 16_384;

/// Writes a checkpoint of what the index has in these volumes. They must have been read off the volumes, and the
/// sequence off the store, before: then every record before a mark is in the index now.
///
/// # Errors
/// Those of the disk. The checkpoint before stays.
pub(super) fn write(
    disk: &dyn Disk,
    store: StoreId,
    covered: &[Covered],
    highest_sequence: u64,
    index: &Index,
) -> io::Result<()> {
    // One left by a process that was killed is replaced.
    let _ = disk.remove(ASIDE);
    let file = disk.create(ASIDE)?;
    let mut body = Body::new(&*file);
    for covered in covered {
        body.push(&covered.encode())?;
    }
    let offsets: HashMap<u32, u64> = covered.iter().map(|covered| (covered.number, covered.offset)).collect();
    // What stands behind a mark may not be on stable storage yet; the next start reads and verifies it.
    let is_covered =
        |entry: &Entry| offsets.get(&entry.volume).is_some_and(|&offset| entry.offset() < offset);
    let (mut after, mut rows) = (None, 0);
    loop {
        let (page, more) = index.page(after, PAGE_ROWS);
        for &(id, entry) in page.iter().filter(|(_, entry)| is_covered(entry)) {
            body.push(&Row::new(id, entry).encode())?;
            rows += 1;
        }
        after = page.last().map(|&(id, _)| id);
        if !more {
            break;
        }
    }
    body.finish(store)?;
    let volumes = covered.len() as u64;
    let head = CheckpointHead { store, created: now(), highest_sequence, volumes, rows };
    file.write_at(&head.encode(), 0)?;
    file.sync_data()?;
    drop(file);
    let has_previous = disk.names()?.iter().any(|name| name == FILE);
    if has_previous {
        disk.rename(FILE, PREVIOUS)?;
    }
    disk.rename(ASIDE, FILE)?;
    disk.sync()
}

/// Table and rows on their way to the file, with the CRC of each block.
struct Body<'a> {
    file: &'a dyn DiskFile,
    written: u64,
    buffer: Vec<u8>,
    blocks: Vec<u32>,
}

/// Bytes that are written at once.
const BUFFER: usize = 16 * BLOCK_SIZE;

impl<'a> Body<'a> {
    fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, written: 0, buffer: Vec::with_capacity(BUFFER), blocks: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(later);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        for block in self.buffer.chunks(BLOCK_SIZE) {
            let mut crc = Crc32c::new();
            crc.update(block);
            self.blocks.push(crc.value());
        }
        self.file.write_at(&self.buffer, FIRST_RECORD + self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, store: StoreId) -> io::Result<()> {
        self.flush()?;
        let footer = checkpoint_footer(&self.blocks, self.written, store);
        self.file.write_at(&footer, FIRST_RECORD + self.written)
    }
}

/// A checkpoint that is whole.
#[derive(Clone)]
pub(super) struct Checkpoint {
    pub(super) covered: HashMap<u32, Covered>,
    pub(super) highest_sequence: u64,
    mapping: Arc<Mapping>,
    /// Where the rows are in the mapping.
    rows: std::ops::Range<usize>,
}

impl Checkpoint {
    /// Its rows, in the order of their ids.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        rows(&self.mapping[self.rows.clone()])
    }
}

fn rows(bytes: &[u8]) -> impl Iterator<Item = Row> {
    bytes.as_chunks().0.iter().map(Row::decode)
}

/// The newest checkpoint of a directory that can be used. Adds to `unused` those that can't, and why. `kind_of` says of
/// which kind a volume is, if it is there.
pub(super) fn load(
    disk: &dyn Disk,
    store: StoreId,
    kind_of: &dyn Fn(u32) -> Option<VolumeKind>,
    unused: &mut Vec<(PathBuf, String)>,
) -> Option<Checkpoint> {
    let names = disk.names().ok()?;
    [FILE, PREVIOUS].into_iter().filter(|&name| names.iter().any(|n| n == name)).find_map(|name| {
        let loaded = load_file(disk, name, store, kind_of);
        let path = disk.path().join(name);
        loaded
            .map_err(|reason| {
                tracing::warn!(
                    checkpoint = %path.display(), reason,
                    "a checkpoint is not used: the volumes are read instead"
                );
                unused.push((path, reason));
            })
            .ok()
    })
}

fn load_file(
    disk: &dyn Disk,
    name: &str,
    store: StoreId,
    kind_of: &dyn Fn(u32) -> Option<VolumeKind>,
) -> Result<Checkpoint, String> {
    let mapping = disk.open(name).and_then(|file| file.map()).map_err(|error| error.to_string())?;
    let head = CheckpointHead::decode(&mapping).map_err(|error| match error {
        HeadError::OtherVersion(found) => {
            format!("it has format version {found}, and this release reads {FORMAT_VERSION}")
        }
        HeadError::Unfinished | HeadError::Damaged => "its head is damaged".to_owned(),
    })?;
    if head.store != store {
        return Err(format!("it belongs to store {}", head.store));
    }
    let body = verified_body(&mapping, &head, Row::LEN as u64)?;
    let (table, index) = body.split_at(head.volumes as usize * COVERED_LEN);
    let covered: HashMap<u32, Covered> =
        table.as_chunks().0.iter().map(Covered::decode).map(|covered| (covered.number, covered)).collect();
    let makes_sense = |covered: &&Covered| {
        let alignment = kind_of(covered.number).map_or(1, VolumeKind::alignment);
        covered.offset > FIRST_RECORD && covered.offset.is_multiple_of(alignment)
    };
    if let Some(covered) = covered.values().find(|covered| !makes_sense(covered)) {
        return Err(format!("what it says of volume {} makes no sense", covered.number));
    }
    let mut last = None;
    // Neighbouring rows mostly lie in one volume.
    let mut of = (0, kind_of(0));
    for row in rows(index) {
        let volume = row.entry().volume;
        if of.0 != volume {
            of = (volume, kind_of(volume));
        }
        if !is_possible(&row, of.1) || last.is_some_and(|last| row.id() <= last) {
            return Err(format!("its entry of chunk {} makes no sense", row.id()));
        }
        last = Some(row.id());
    }
    let start = FIRST_RECORD as usize + table.len();
    let range = start..start + index.len();
    Ok(Checkpoint {
        covered,
        highest_sequence: head.highest_sequence,
        rows: range,
        mapping: Arc::new(mapping),
    })
}

/// Whether a record can stand where an entry says, in a volume of this kind if it is there.
fn is_possible(row: &Row, volume: Option<VolumeKind>) -> bool {
    let entry = row.entry();
    let kind =
        if entry.is_chunk() && entry.length() >= LARGE { VolumeKind::Aligned } else { VolumeKind::Packed };
    entry.offset() >= FIRST_RECORD
        && entry.offset().is_multiple_of(kind.alignment())
        && entry.length() <= MAX_CHUNK_LEN
        && volume.is_none_or(|volume| volume == kind)
}
