//! Writing a chunk: frames, then commit or abort.

use super::format::{
    Geometry, HEADER_LEN, LARGE, RecordHeader, RecordKind, VolumeKind, footer_len, write_footer,
};
use super::index::Entry;
use super::reader::ChunkReader;
use super::sums::Sums;
use super::volume::Slot;
use super::volumes::Need;
use super::{ChunkInfo, NewChunk, Shared, WriteError, now};
use crate::sync::Arc;

/// Bytes that are written at once: few calls, and still in the processor's cache from the checksum's pass. Writes of a
/// large chunk end on multiples of this in the volume, so that the page cache takes each as one folio.
const PIECE: usize = 128 << 10;

/// Bytes after which the disk is asked to begin with what it has got of a large chunk. Without it chunks of 16 MiB
/// are slower by a third; in smaller steps those of 1 and 4 MiB are, for each step is a request of its own to the disk.
const WRITEBACK: u64 = 4 << 20;

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
        if chunk.length == 0 || chunk.length > super::MAX_CHUNK_LEN {
            return Err(WriteError::InvalidLength(chunk.length));
        }
        let body = match store.found_by_writer(chunk.id)? {
            Some(entry) => Body::Existing(Comparison::begin(&store, &chunk, entry)?),
            None if chunk.length < LARGE => {
                let size = HEADER_LEN as u64 + chunk.length.next_multiple_of(8) + footer_len(chunk.length);
                let mut record = Vec::with_capacity(size as usize);
                record.resize(HEADER_LEN, 0);
                Body::Packed(record)
            }
            None => Body::Aligned(AlignedBody::begin(&store, &chunk)?),
        };
        Ok(Self { store, chunk, received: 0, sums: Sums::default(), body })
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
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = match &self.body {
                Body::Aligned(body) => body.room(),
                Body::Packed(_) | Body::Existing(_) => PIECE,
            };
            let (piece, after) = rest.split_at(rest.len().min(room));
            rest = after;
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
        let Self { store, chunk, sums, mut body, .. } = self;
        if let Body::Aligned(body) = &mut body {
            body.flush(&store)?;
        }
        // From here until it is durable nobody else decides what this id is.
        let _claim = store.claims.claim(chunk.id);
        let Some(entry) = store.found_by_writer(chunk.id)? else {
            let (blocks, checksum) = sums.finish();
            let packed;
            let (slot, header) = match &mut body {
                Body::Packed(record) => {
                    packed = append(&store, &chunk, record, &blocks, checksum)?;
                    (&packed.0, &packed.1)
                }
                Body::Aligned(body) => {
                    body.finish(&store, &blocks, checksum)?;
                    (&body.slot, &body.header)
                }
                Body::Existing(_) => unreachable!("an id never goes back to unknown"),
            };
            store.volumes.commit(&slot.volume)?;
            let entry = Entry::chunk(slot.volume.header.number, slot.geometry.start, chunk.length);
            store.index.insert(chunk.id, entry);
            return Ok(ChunkInfo::new(header, checksum));
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
                body.compare(&store, &chunk, &mut comparison)?;
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

fn header_of(chunk: &NewChunk, sequence: u64) -> RecordHeader {
    let NewChunk { id, owner, length, version } = *chunk;
    RecordHeader { kind: RecordKind::Chunk, id, owner, length, version, sequence, created: now() }
}

/// Appends a small chunk with one write. `record` has room for the header, and the body.
fn append(
    store: &Shared,
    chunk: &NewChunk,
    record: &mut Vec<u8>,
    blocks: &[u32],
    checksum: u32,
) -> Result<(Slot, RecordHeader), WriteError> {
    record.resize(record.len().next_multiple_of(8), 0);
    let footer = record.len();
    let mut placed = None;
    let slot = store.volumes.place(
        Need::chunk(VolumeKind::Packed, chunk.length),
        &mut |volume, geometry, sequence| {
            let seed = volume.seed(geometry.start);
            let header = placed.insert(header_of(chunk, sequence));
            let encoded = header.encode(seed);
            record[..HEADER_LEN].copy_from_slice(&encoded);
            record.truncate(footer);
            write_footer(record, blocks, checksum, RecordHeader::crc_of(&encoded), seed);
            volume.file.write_at(record, geometry.start)
        },
    )?;
    Ok((slot, placed.expect("a record that was placed was written")))
}

/// A large chunk on its way to its volume.
#[derive(Debug)]
struct AlignedBody {
    slot: Slot,
    header: RecordHeader,
    header_crc: u32,
    /// What has come and not yet been written: less than [`PIECE`].
    staged: Vec<u8>,
    written: u64,
    /// The disk has been asked to begin with what stands before this offset in the volume.
    begun: u64,
    finished: bool,
}

impl AlignedBody {
    fn begin(store: &Shared, chunk: &NewChunk) -> Result<Self, WriteError> {
        let mut placed = None;
        let slot = store.volumes.place(
            Need::chunk(VolumeKind::Aligned, chunk.length),
            &mut |volume, geometry, sequence| {
                let header = header_of(chunk, sequence);
                let encoded = header.encode(volume.seed(geometry.start));
                placed = Some((header, RecordHeader::crc_of(&encoded)));
                volume.file.write_at(&encoded, geometry.start)
            },
        )?;
        let (header, header_crc) = placed.expect("a record that was placed was written");
        let (staged, begun) = (Vec::new(), slot.geometry.start);
        Ok(Self { slot, header, header_crc, staged, written: 0, begun, finished: false })
    }

    /// Bytes up to the next boundary at which a write ends; never 0.
    fn room(&self) -> usize {
        let position = self.slot.geometry.body + self.written + self.staged.len() as u64;
        PIECE - (position % PIECE as u64) as usize
    }

    /// Takes at most [`room`](Self::room) bytes.
    fn put(&mut self, store: &Shared, bytes: &[u8]) -> Result<(), WriteError> {
        let is_complete = bytes.len() == self.room();
        if self.staged.is_empty() && is_complete {
            return self.write(store, bytes);
        }
        self.staged.reserve_exact(self.room());
        self.staged.extend_from_slice(bytes);
        if is_complete { self.flush(store) } else { Ok(()) }
    }

    fn flush(&mut self, store: &Shared) -> Result<(), WriteError> {
        let mut staged = std::mem::take(&mut self.staged);
        self.write(store, &staged)?;
        staged.clear();
        self.staged = staged;
        Ok(())
    }

    fn write(&mut self, store: &Shared, bytes: &[u8]) -> Result<(), WriteError> {
        let Slot { volume, geometry } = &self.slot;
        let written = volume.file.write_at(bytes, geometry.body + self.written);
        written.map_err(|error| store.volumes.write_failed(volume, error))?;
        self.written += bytes.len() as u64;
        // A last short stretch goes with the footer.
        let rest = self.header.length - self.written;
        if geometry.body + self.written - self.begun >= WRITEBACK && rest >= WRITEBACK / 4 {
            self.start_writeback(geometry.body + self.written);
        }
        Ok(())
    }

    fn start_writeback(&mut self, upto: u64) {
        self.slot.volume.file.start_writeback(self.begun, upto - self.begun);
        self.begun = upto;
    }

    /// Writes the footer, which makes the record a live one once it is durable.
    fn finish(&mut self, store: &Shared, blocks: &[u32], checksum: u32) -> Result<(), WriteError> {
        let Slot { volume, geometry } = &self.slot;
        let mut footer = Vec::with_capacity(footer_len(self.header.length) as usize);
        write_footer(&mut footer, blocks, checksum, self.header_crc, volume.seed(geometry.start));
        self.finished = true;
        volume.file.write_at(&footer, geometry.footer).map_err(|error| {
            // Half a footer must never be vouched for: it would look like a damaged chunk.
            volume.give_up();
            store.volumes.write_failed(volume, error)
        })?;
        self.start_writeback(self.slot.geometry.end);
        Ok(())
    }

    fn compare(&self, store: &Shared, chunk: &NewChunk, with: &mut Comparison) -> Result<(), WriteError> {
        let Slot { volume, geometry } = &self.slot;
        let mut own = Vec::new();
        while with.compared < chunk.length {
            let len = (chunk.length - with.compared).min(PIECE as u64) as usize;
            let read = volume.file.read_into(&mut own, len, geometry.body + with.compared);
            read.map_err(|error| store.volumes.write_failed(volume, error))?;
            with.put(chunk, &own)?;
        }
        Ok(())
    }
}

impl Drop for AlignedBody {
    fn drop(&mut self) {
        if !self.finished {
            // Its header stays for recovery to step over; its room goes back to the file system.
            let Geometry { body, end, .. } = self.slot.geometry;
            self.slot.volume.file.release(body, end - body);
        }
    }
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
        let stored = store.reader(chunk.id, None).map_err(WriteError::from_read)?;
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
