//! Moving records to another volume: in batches, each durable, read back and verified before the index points there.

use super::aligned::AlignedBody;
use super::claims::Claim;
use super::format::{Geometry, HEADER_LEN, LARGE, PAGE, RecordHeader, RecordKind, VolumeKind, footer_len};
use super::index::Entry;
use super::reader::ChunkReader;
use super::volume::{Slot, Volume};
use super::volumes::{Need, Origin};
use super::{NewChunk, ReadError, Shared, WriteError, millis, now, writer};
use crate::id::ChunkId;
use crate::sync::Arc;

/// A batch ends with so many bytes or records, whichever comes first: their ids are claimed until it is durable.
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_RECORDS: usize = 1000;

/// What came of a record that was to be moved.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A copy of so many bytes is part of the batch.
    Copied(u64),
    /// Its bytes are not those that were written: the note that they are in quarantine is part of the batch.
    Quarantined(String),
    /// It does not count any more: the id was deleted, healed or moved.
    Gone,
    /// It stays where it is, for this reason.
    Left(String),
}

/// A record in its new place.
#[derive(Debug)]
enum Written {
    Packed(Slot),
    Aligned(Box<AlignedBody>),
}

impl Written {
    fn slot(&self) -> &Slot {
        match self {
            Self::Packed(slot) => slot,
            Self::Aligned(body) => &body.place.slot,
        }
    }
}

#[derive(Debug)]
struct Moved<'a> {
    id: ChunkId,
    old: Entry,
    new: Entry,
    /// Holds the slot: its volume is not settled before the index knows of the record.
    written: Written,
    /// So that no delete and no heal comes in between.
    _claim: Claim<'a>,
}

/// Records that are in their new places, and not yet durable there.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    store: &'a Shared,
    moved: Vec<Moved<'a>>,
    bytes: u64,
}

/// Why a chunk was not copied.
enum Failure {
    Read(ReadError),
    Write(WriteError),
}

impl<'a> Batch<'a> {
    pub(super) fn new(store: &'a Shared) -> Self {
        Self { store, moved: Vec::new(), bytes: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.moved.len() >= BATCH_RECORDS
    }

    /// Copies a record, if it still is what the index says of its id.
    ///
    /// # Errors
    /// Where the copy can't be written. What was added before can still be finished.
    pub(super) fn add(
        &mut self,
        volume: &Arc<Volume>,
        id: ChunkId,
        old: Entry,
    ) -> Result<Outcome, WriteError> {
        let store = self.store;
        let claim = store.claims.claim(id);
        if store.index.get(id) != Some(old) {
            return Ok(Outcome::Gone);
        }
        if store.healing.has(id) {
            return Ok(Outcome::Left("it is being healed".into()));
        }
        let (written, new, outcome) = if old.is_chunk() {
            match copy_twice(store, volume, id, old) {
                Ok(written) => {
                    let at = written.slot();
                    let new = Entry::chunk(at.volume.header.number, at.geometry.start, old.length());
                    (written, new, Outcome::Copied(old.record_bytes()))
                }
                Err(Failure::Write(error)) => return Err(error),
                Err(Failure::Read(ReadError::Damaged { reason, .. })) => {
                    let slot = note_quarantine(store, volume, id, old)?;
                    let new = note_of(&slot, old.length());
                    (Written::Packed(slot), new, Outcome::Quarantined(reason))
                }
                // A disk that does not answer says nothing of the bytes: they may be read another time.
                Err(Failure::Read(error)) => return Ok(Outcome::Left(error.to_string())),
            }
        } else {
            let slot = copy_header(store, volume, id, old)?;
            let new = if old.is_tombstone() {
                Entry::tombstone(slot.volume.header.number, slot.geometry.start)
            } else {
                note_of(&slot, old.length())
            };
            (Written::Packed(slot), new, Outcome::Copied(old.record_bytes()))
        };
        self.bytes += new.record_bytes();
        self.moved.push(Moved { id, old, new, written, _claim: claim });
        Ok(outcome)
    }

    /// Makes the copies durable, reads them back, and lets the index point to them. Answers how many bytes they take.
    ///
    /// # Errors
    /// The first failure. The index points to the old records of those that it hit, and to the new ones of the others.
    pub(super) fn finish(self) -> Result<u64, WriteError> {
        let Self { store, moved, bytes } = self;
        let mut targets: Vec<Arc<Volume>> = Vec::new();
        for moved in &moved {
            let target = &moved.written.slot().volume;
            if !targets.iter().any(|known| Arc::ptr_eq(known, target)) {
                targets.push(Arc::clone(target));
            }
        }
        let mut result = Ok(bytes);
        for target in targets {
            let here = |moved: &&Moved<'_>| Arc::ptr_eq(&moved.written.slot().volume, &target);
            if let Err(error) = settle(store, &target, moved.iter().filter(here)) {
                result = result.and(Err(error));
            }
        }
        result
    }
}

/// Syncs a volume, verifies the copies in it as the disk has them, and switches the index over.
fn settle<'m>(
    store: &Shared,
    target: &Arc<Volume>,
    moved: impl Iterator<Item = &'m Moved<'m>> + Clone,
) -> Result<(), WriteError> {
    // Whatever was asked for of writes: the record that this one replaces is about to go.
    store.volumes.sync(target)?;
    let first = moved.clone().map(|moved| moved.new.offset()).min().unwrap_or_default();
    target.file.forget_cached(first / PAGE * PAGE);
    for moved in moved {
        if let Err(error) = verify(target, moved.id, moved.new) {
            let error = std::io::Error::other(format!("a copy is not what was written: {error}"));
            return Err(store.volumes.write_failed(target, error));
        }
        let switched = store.index.replace(moved.id, moved.old, moved.new);
        debug_assert!(switched, "only who has the claim of an id changes its entry");
    }
    Ok(())
}

/// Reads a record to its last byte.
pub(super) fn verify(volume: &Arc<Volume>, id: ChunkId, entry: Entry) -> Result<(), ReadError> {
    if entry.is_chunk() {
        let mut reader = ChunkReader::open(Arc::clone(volume), id, entry, None)?;
        let mut run = Vec::new();
        while reader.remaining() > 0 {
            reader.read_run(&mut run)?;
        }
        return Ok(());
    }
    match bare_header(volume, id, entry) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ReadError::Damaged {
            id,
            reason: format!(
                "bad header, in the record at offset {} of {}",
                entry.offset(),
                volume.path.display()
            ),
        }),
        Err(source) => Err(ReadError::Io { path: volume.path.clone(), source }),
    }
}

/// The header of a tombstone, or of the note that a chunk is in quarantine; `None` where it is not that.
fn bare_header(volume: &Volume, id: ChunkId, entry: Entry) -> std::io::Result<Option<RecordHeader>> {
    let header = volume.read_header(entry.offset())?;
    Ok(header.map(|(header, _)| header).filter(|header| {
        let is_kind = match header.kind {
            RecordKind::Tombstone => entry.is_tombstone(),
            RecordKind::Quarantined { .. } => entry.is_quarantined() && header.length == entry.length(),
            RecordKind::Chunk | RecordKind::Mark { .. } => false,
        };
        is_kind && header.id == id
    }))
}

/// Copies a chunk; where it looks damaged, once more from the disk itself, for memory can be wrong too.
fn copy_twice(store: &Shared, volume: &Arc<Volume>, id: ChunkId, entry: Entry) -> Result<Written, Failure> {
    match copy_chunk(store, volume, id, entry) {
        Err(Failure::Read(_)) => {
            volume.file.forget_cached(entry.offset() / PAGE * PAGE);
            copy_chunk(store, volume, id, entry)
        }
        done => done,
    }
}

/// Every block is verified on its way, and the copy gets the checksums of the original: none is made up from bytes
/// that may have changed in memory.
fn copy_chunk(store: &Shared, volume: &Arc<Volume>, id: ChunkId, entry: Entry) -> Result<Written, Failure> {
    let mut source = ChunkReader::open(Arc::clone(volume), id, entry, None).map_err(Failure::Read)?;
    let info = *source.info();
    let chunk = NewChunk::new(id, info.owner, info.length, info.version);
    let origin = Origin { created: millis(info.created), copied_from: Some(volume.header.number) };
    let mut run = Vec::new();
    if chunk.length >= LARGE {
        let mut body = AlignedBody::begin(store, &chunk, origin).map_err(Failure::Write)?;
        while source.remaining() > 0 {
            source.read_run(&mut run).map_err(Failure::Read)?;
            body.put(store, &run).map_err(Failure::Write)?;
        }
        body.finish(store, source.checksums(), info.checksum).map_err(Failure::Write)?;
        return Ok(Written::Aligned(Box::new(body)));
    }
    let size = HEADER_LEN as u64 + chunk.length.next_multiple_of(8) + footer_len(chunk.length);
    let mut record = Vec::with_capacity(size as usize);
    record.resize(HEADER_LEN, 0);
    while source.remaining() > 0 {
        source.read_run(&mut run).map_err(Failure::Read)?;
        record.extend_from_slice(&run);
    }
    let (slot, _) = writer::append(store, &chunk, origin, &mut record, source.checksums(), info.checksum)
        .map_err(Failure::Write)?;
    Ok(Written::Packed(slot))
}

/// Writes what replaces a record whose bytes can't be copied.
fn note_quarantine(store: &Shared, volume: &Volume, id: ChunkId, entry: Entry) -> Result<Slot, WriteError> {
    let kind = RecordKind::Quarantined { volume: volume.header.number };
    let bare = RecordHeader { id, length: entry.length(), ..RecordHeader::bare(kind, 0, now()) };
    // The owner helps whoever looks for what is lost; a damaged header can't tell.
    let header = match volume.read_header(entry.offset()) {
        Ok(Some((header, _))) if header.id == id => RecordHeader { kind, ..header },
        _ => bare,
    };
    put_header(store, volume, RecordHeader { length: entry.length(), ..header })
}

/// Copies a record that is a header alone. What it says is known even where it can't be read.
fn copy_header(store: &Shared, volume: &Volume, id: ChunkId, entry: Entry) -> Result<Slot, WriteError> {
    let kind = if entry.is_tombstone() {
        RecordKind::Tombstone
    } else {
        RecordKind::Quarantined { volume: volume.header.number }
    };
    let known = RecordHeader { id, length: entry.length(), ..RecordHeader::bare(kind, 0, now()) };
    let header = bare_header(volume, id, entry).ok().flatten().unwrap_or(known);
    put_header(store, volume, header)
}

/// Appends a record that is a header alone, under a new sequence, in place of one of `volume`. Not durable yet.
fn put_header(store: &Shared, volume: &Volume, header: RecordHeader) -> Result<Slot, WriteError> {
    let need = Need::copy(VolumeKind::Packed, 0, volume.header.number);
    store.volumes.place(need, &mut |volume: &Volume, geometry: &Geometry, sequence| {
        let header = RecordHeader { sequence, ..header };
        volume.file.write_at(&header.encode(volume.seed(geometry.start)), geometry.start)
    })
}

fn note_of(slot: &Slot, length: u64) -> Entry {
    Entry::quarantined(slot.volume.header.number, slot.geometry.start, length)
}
