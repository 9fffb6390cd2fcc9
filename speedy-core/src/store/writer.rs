//! Writing a chunk: frames, then commit or abort.

use bytes::Bytes;

use super::aligned::{AlignedBody, WholeBody, header_of};
use super::copying::verify;
use super::format::{HEADER_LEN, LARGE, PAGE, RecordHeader, VolumeKind, footer_len, write_footer};
use super::heal::Pin;
use super::index::Entry;
use super::reader::{ChunkReader, read_record};
use super::sums::Sums;
use super::volume::{Slot, Wait};
use super::volumes::Origin;
use super::{ChunkInfo, NewChunk, Shared, WriteError};
use crate::buffer::is_on_page;
use crate::sync::Arc;

/// Bytes that are summed and passed on at once: still in the processor's cache from the checksum's pass.
const PIECE: usize = 128 << 10;

/// A chunk that is being written. Nothing of it can be read before [`commit`](Self::commit) has returned; a writer
/// that is dropped leaves nothing.
#[derive(Debug)]
#[must_use = "a chunk is stored only by commit"]
pub struct ChunkWriter {
    store: Arc<Shared>,
    chunk: NewChunk,
    received: u64,
    sums: Sums,
    body: Body,
    /// That of a chunk which replaces a damaged one.
    heals: Option<Pin>,
}

#[derive(Debug)]
enum Body {
    /// A small chunk: room for its header, then its bytes so far.
    Packed(Vec<u8>),
    /// A large one goes to its volume as it comes.
    Aligned(AlignedBody),
    /// The id exists: what comes is compared with it.
    Existing(Comparison),
}

impl ChunkWriter {
    pub(super) fn begin(store: Arc<Shared>, chunk: NewChunk) -> Result<Self, WriteError> {
        check_length(&chunk)?;
        let body = match store.found_by_writer(chunk.id)? {
            Some(entry) => Body::Existing(Comparison::begin(&store, &chunk, entry)?),
            None => Body::begin(&store, &chunk)?,
        };
        Ok(Self { store, chunk, received: 0, sums: Sums::default(), body, heals: None })
    }

    /// Begins to write a chunk that replaces a damaged one.
    pub(super) fn heal(store: Arc<Shared>, chunk: NewChunk) -> Result<Self, WriteError> {
        check_length(&chunk)?;
        // First of all, so that no record of the id is given a later sequence than the one that begins here.
        let heals = Some(Pin::new(&store, chunk.id));
        store.found_by_healer(&chunk)?;
        let body = Body::begin(&store, &chunk)?;
        Ok(Self { store, chunk, received: 0, sums: Sums::default(), body, heals })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Where more come than were announced, where the id holds other bytes, or where the disk is full or fails.
    /// After an error the writer can only be dropped: a commit is refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.received + bytes.len() as u64 > self.chunk.length {
            self.received += bytes.len() as u64;
            return Err(self.wrong_length());
        }
        for piece in bytes.chunks(PIECE) {
            self.sums.update(piece);
            match &mut self.body {
                Body::Packed(record) => record.extend_from_slice(piece),
                Body::Aligned(body) => body.put(&self.store, piece)?,
                Body::Existing(comparison) => comparison.put(&self.chunk, piece)?,
            }
            // Last, so that a chunk of which a write failed never has its full length.
            self.received += piece.len() as u64;
        }
        Ok(())
    }

    /// Adds bytes, as [`write`](Self::write) does. Those that begin on a page (4096 bytes), behind others that end with
    /// one, are not copied: they are kept until they are on the disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_shared(&mut self, bytes: &Bytes) -> Result<(), WriteError> {
        let Body::Aligned(body) = &mut self.body else { return self.write(bytes) };
        if !is_on_page(bytes) || self.received + bytes.len() as u64 > self.chunk.length {
            return self.write(bytes);
        }
        bytes.chunks(PIECE).for_each(|piece| self.sums.update(piece));
        body.put_shared(&self.store, bytes.clone())?;
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// CRC-32C of the bytes so far.
    pub fn checksum(&self) -> u32 {
        self.sums.whole()
    }

    /// Makes the chunk readable. When this returns it is on stable storage.
    ///
    /// A chunk that was there before with the same bytes is a success too, and stays as it was.
    ///
    /// # Errors
    /// Where the bytes are not as many as announced, where the id was deleted or got other bytes meanwhile, or where
    /// the disk is full or fails. Nothing of the chunk can be read then.
    pub fn commit(self) -> Result<ChunkInfo, WriteError> {
        if self.received != self.chunk.length {
            return Err(self.wrong_length());
        }
        let Self { store, chunk, sums, mut body, heals, .. } = self;
        // From here until it is durable nobody else decides what this id is.
        let _claim = store.claims.claim(chunk.id);
        let found = match &heals {
            None => store.found_by_writer(chunk.id)?,
            Some(_) => match body.compare_with_damaged(&store, &chunk, sums.whole())? {
                Some(info) => return Ok(info),
                None => None,
            },
        };
        let Some(entry) = found else {
            let (blocks, checksum) = sums.finish();
            let info = store.unsettled.write(&chunk, checksum, || {
                let packed;
                let (slot, header) = match &mut body {
                    Body::Packed(record) => {
                        packed = append(&store, &chunk, Origin::new_write(), record, &blocks, checksum)?;
                        (&packed.0, &packed.1)
                    }
                    Body::Aligned(body) => {
                        body.finish(&store, &blocks, checksum)?;
                        (&body.place.slot, &body.place.header)
                    }
                    Body::Existing(_) => unreachable!("an id never goes back to unknown"),
                };
                make_readable(&store, &chunk, slot, header, checksum)
            })?;
            if heals.is_some() {
                store.damages.forget(chunk.id);
            }
            return Ok(info);
        };
        match body {
            Body::Existing(comparison) => Ok(*comparison.stored.info()),
            Body::Packed(record) => {
                let mut comparison = Comparison::begin(&store, &chunk, entry)?;
                comparison.put(&chunk, &record[HEADER_LEN..])?;
                Ok(*comparison.stored.info())
            }
            Body::Aligned(body) => {
                let mut comparison = Comparison::begin(&store, &chunk, entry)?;
                body.read_back(&store, |piece| comparison.put(&chunk, piece))?;
                Ok(*comparison.stored.info())
            }
        }
    }

    /// Gives the write up. The same as dropping the writer.
    pub fn abort(self) {}

    fn wrong_length(&self) -> WriteError {
        let NewChunk { id, length, .. } = self.chunk;
        WriteError::WrongLength { id, announced: length, received: self.received }
    }
}

fn check_length(chunk: &NewChunk) -> Result<(), WriteError> {
    match chunk.length {
        1..=super::MAX_CHUNK_LEN => Ok(()),
        length => Err(WriteError::InvalidLength(length)),
    }
}

impl Body {
    /// That of an id which is free.
    fn begin(store: &Shared, chunk: &NewChunk) -> Result<Self, WriteError> {
        if chunk.length >= LARGE {
            return Ok(Self::Aligned(AlignedBody::begin(store, chunk, Origin::new_write())?));
        }
        let size = HEADER_LEN as u64 + chunk.length.next_multiple_of(8) + footer_len(chunk.length);
        let mut record = Vec::with_capacity(size as usize);
        record.resize(HEADER_LEN, 0);
        Ok(Self::Packed(record))
    }

    /// What a heal finds under its id, looked at once more under its claim: the chunk if it is whole and has the same
    /// bytes, or nothing if it has to be replaced.
    fn compare_with_damaged(
        &self,
        store: &Shared,
        chunk: &NewChunk,
        checksum: u32,
    ) -> Result<Option<ChunkInfo>, WriteError> {
        if !store.found_by_healer(chunk)?.is_some_and(|entry| entry.is_chunk()) {
            return Ok(None);
        }
        // Only a volume that is gone from under the store stands in the way; then there is nothing to compare with.
        let Ok((entry, volume)) = store.locate(chunk.id) else { return Ok(None) };
        // A footer that is whole knows what the bytes were.
        if read_record(&volume, chunk.id, entry).is_ok_and(|record| record.info.checksum != checksum) {
            return Err(WriteError::Conflict(chunk.id));
        }
        volume.file.forget_cached(entry.offset() / PAGE * PAGE);
        if verify(&volume, chunk.id, entry).is_err() {
            return Ok(None);
        }
        let mut comparison = Comparison::begin(store, chunk, entry)?;
        match self {
            Self::Packed(record) => comparison.put(chunk, &record[HEADER_LEN..])?,
            Self::Aligned(body) => body.read_back(store, |piece| comparison.put(chunk, piece))?,
            Self::Existing(_) => unreachable!("a heal writes"),
        }
        store.damages.forget(chunk.id);
        Ok(Some(*comparison.stored.info()))
    }
}

/// Writes a chunk that is all there.
pub(super) fn put(store: &Arc<Shared>, chunk: NewChunk, bytes: &[u8]) -> Result<ChunkInfo, WriteError> {
    let is_large = (LARGE..=super::MAX_CHUNK_LEN).contains(&chunk.length);
    if is_large && chunk.length == bytes.len() as u64 && is_on_page(bytes) {
        let _claim = store.claims.claim(chunk.id);
        if store.found_by_writer(chunk.id)?.is_none() {
            // Where other bytes may be on the disk, whether these may be written depends on their checksum.
            let may_begin = !store.unsettled.has_write(chunk.id);
            let (mut body, blocks, checksum) = WholeBody::begin(store, &chunk, bytes, may_begin)?;
            return store.unsettled.write(&chunk, checksum, || {
                let place = body.finish(store, &blocks, checksum)?;
                make_readable(store, &chunk, &place.slot, &place.header, checksum)
            });
        }
    }
    let mut writer = ChunkWriter::begin(Arc::clone(store), chunk)?;
    writer.write(bytes)?;
    writer.commit()
}

/// The last step of every write, under the claim of its id: durable first, then in the index.
fn make_readable(
    store: &Shared,
    chunk: &NewChunk,
    slot: &Slot,
    header: &RecordHeader,
    checksum: u32,
) -> Result<ChunkInfo, WriteError> {
    // However it fails: a full disk too is noticed here only after the bytes are in the page cache.
    store.volumes.commit(&slot.volume).inspect_err(|_| store.unsettled.may_be_there(chunk, checksum))?;
    let entry = Entry::chunk(slot.volume.header.number, slot.geometry.start, chunk.length);
    store.index.insert(chunk.id, entry);
    Ok(ChunkInfo::new(header, checksum))
}

/// Appends a small chunk with one write. `record` has room for the header, and the body.
pub(super) fn append(
    store: &Shared,
    chunk: &NewChunk,
    origin: Origin,
    record: &mut Vec<u8>,
    blocks: &[u32],
    checksum: u32,
) -> Result<(Slot, RecordHeader), WriteError> {
    record.resize(record.len().next_multiple_of(8), 0);
    let footer = record.len();
    let mut placed = None;
    let need = origin.need(VolumeKind::Packed, chunk.length);
    let slot = store.volumes.place(need, &mut |volume, geometry, sequence| {
        let seed = volume.seed(geometry.start);
        let header = placed.insert(header_of(chunk, origin.created, sequence));
        let encoded = header.encode(seed);
        record[..HEADER_LEN].copy_from_slice(&encoded);
        record.truncate(footer);
        write_footer(record, blocks, checksum, RecordHeader::crc_of(&encoded), seed);
        volume.file.write_at(record, geometry.start)
    })?;
    Ok((slot, placed.expect("a record that was placed was written")))
}

/// The bytes that come for an id that exists, against those that it holds.
#[derive(Debug)]
struct Comparison {
    stored: ChunkReader,
    /// The run of the stored bytes that is compared now, and how far.
    run: Vec<u8>,
    position: usize,
    compared: u64,
}

impl Comparison {
    fn begin(store: &Shared, chunk: &NewChunk, entry: Entry) -> Result<Self, WriteError> {
        if entry.length() != chunk.length {
            return Err(WriteError::Conflict(chunk.id));
        }
        let stored = store.reader(chunk.id, None, Wait::ForDisk).map_err(WriteError::from_read)?;
        Ok(Self { stored, run: Vec::new(), position: 0, compared: 0 })
    }

    fn put(&mut self, chunk: &NewChunk, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            if self.position == self.run.len() {
                self.stored.read_run(&mut self.run).map_err(WriteError::from_read)?;
                self.position = 0;
            }
            let stored = &self.run[self.position..];
            let len = stored.len().min(bytes.len());
            if len == 0 || stored[..len] != bytes[..len] {
                return Err(WriteError::Conflict(chunk.id));
            }
            self.position += len;
            self.compared += len as u64;
            bytes = &bytes[len..];
        }
        Ok(())
    }
}
