//! Reading a chunk, verified, in runs of whole blocks.

use std::io;
use std::ops::Range;
use std::task::Poll;

use bytes::Bytes;

use super::damage::Damages;
use super::format::{Geometry, HEADER_LEN, RecordHeader, RecordKind, footer_len};
use super::index::Entry;
use super::volume::{Volume, Wait};
use super::{ChunkInfo, ReadError};
use crate::buffer::{Buffer, Size};
use crate::checksum::{BLOCK_SIZE, covering_blocks, crc32c};
use crate::id::ChunkId;
use crate::sync::Arc;

/// Bytes that are read at once: 256 KiB, so that a run is still in the processor's cache when it is verified, and
/// again when it is sent.
pub(super) const RUN: u64 = Size::Large.bytes() as u64;

/// Whole blocks of a chunk that have been compared with their checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Run {
    /// Offset of the first byte in the chunk; a multiple of [`BLOCK_SIZE`].
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// CRC-32C of each block, as it was stored.
    pub checksums: Vec<u32>,
}

/// Reads the blocks that hold a range of a chunk, in order. A delete does not disturb a reader that has begun.
#[derive(Debug)]
pub struct ChunkReader {
    volume: Arc<Volume>,
    info: ChunkInfo,
    geometry: Geometry,
    /// Checksums of all blocks of the chunk.
    checksums: Vec<u32>,
    /// What is still to be read; begins and ends with a block.
    rest: Range<u64>,
    /// The one block of a small chunk, which came with its header and footer.
    small: Option<Bytes>,
    /// Learns of damage that is found on the way.
    damages: Option<Arc<Damages>>,
}

/// A chunk's record without its body.
pub(super) struct Record {
    pub(super) info: ChunkInfo,
    geometry: Geometry,
    checksums: Vec<u32>,
}

fn io_error(volume: &Volume, source: std::io::Error) -> ReadError {
    ReadError::Io { path: volume.path.clone(), source }
}

/// Tells what has come from what would have had to wait for the disk.
pub(super) fn unless_it_waits<T>(read: Result<T, ReadError>) -> Result<Poll<T>, ReadError> {
    match read {
        Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(Poll::Pending),
        read => read.map(Poll::Ready),
    }
}

fn damaged(volume: &Volume, id: ChunkId, offset: u64, what: &str) -> ReadError {
    let volume = volume.path.display();
    ReadError::Damaged { id, reason: format!("{what}, in the record at offset {offset} of {volume}") }
}

/// Whether a header is that of the chunk that the index means.
fn matches(header: &RecordHeader, id: ChunkId, entry: Entry) -> bool {
    header.kind == RecordKind::Chunk && header.id == id && header.length == entry.length()
}

/// Reads header and footer of a chunk.
pub(super) fn read_record(volume: &Volume, id: ChunkId, entry: Entry) -> Result<Record, ReadError> {
    read_record_by(volume, id, entry, Wait::ForDisk)
}

fn read_record_by(volume: &Volume, id: ChunkId, entry: Entry, wait: Wait) -> Result<Record, ReadError> {
    let offset = entry.offset();
    let geometry = Geometry::new(volume.kind(), offset, entry.length());
    let header = volume.read_header_by(offset, wait).map_err(|e| io_error(volume, e))?;
    let Some((header, crc)) = header.filter(|(header, _)| matches(header, id, entry)) else {
        return Err(damaged(volume, id, offset, "bad header"));
    };
    let footer = volume.read_footer(&geometry, header.length, crc, wait).map_err(|e| io_error(volume, e))?;
    let footer = footer.ok_or_else(|| damaged(volume, id, offset, "bad footer"))?;
    let info = ChunkInfo::new(&header, footer.checksum);
    Ok(Record { info, geometry, checksums: footer.blocks })
}

impl ChunkReader {
    /// Opens a live chunk; `range` is all of it for `None`.
    pub(super) fn open(
        volume: Arc<Volume>,
        id: ChunkId,
        entry: Entry,
        range: Option<Range<u64>>,
    ) -> Result<Self, ReadError> {
        Self::open_by(volume, id, entry, range, Wait::ForDisk)
    }

    pub(super) fn open_by(
        volume: Arc<Volume>,
        id: ChunkId,
        entry: Entry,
        range: Option<Range<u64>>,
        wait: Wait,
    ) -> Result<Self, ReadError> {
        let length = entry.length();
        let range = range.unwrap_or(0..length);
        if range.start >= range.end || range.end > length {
            return Err(ReadError::InvalidRange { id, start: range.start, end: range.end, length });
        }
        if length <= BLOCK_SIZE as u64 {
            return Self::open_small(volume, id, entry, wait);
        }
        let Record { info, geometry, checksums } = read_record_by(&volume, id, entry, wait)?;
        let rest = covering_blocks(&range, length);
        Ok(Self { volume, info, geometry, checksums, rest, small: None, damages: None })
    }

    /// A chunk of one block comes with one read.
    fn open_small(volume: Arc<Volume>, id: ChunkId, entry: Entry, wait: Wait) -> Result<Self, ReadError> {
        let (offset, length) = (entry.offset(), entry.length());
        let geometry = Geometry::new(volume.kind(), offset, length);
        let at = |position: u64| (position - offset) as usize;
        let len = at(geometry.footer) + footer_len(length) as usize;
        let mut bytes = Vec::new();
        let read = match wait {
            Wait::ForDisk => volume.file.read_into(&mut bytes, len, offset),
            Wait::Never => {
                bytes.resize(len, 0);
                volume.file.read_cached(&mut bytes, offset).map(|read| bytes.truncate(read))
            }
        };
        read.map_err(|e| io_error(&volume, e))?;
        let seed = volume.seed(offset);
        let header = RecordHeader::decode(&bytes, seed).filter(|header| matches(header, id, entry));
        let (Some(header), Some(encoded)) = (header, bytes.first_chunk::<HEADER_LEN>()) else {
            return Err(damaged(&volume, id, offset, "bad header"));
        };
        let crc = RecordHeader::crc_of(encoded);
        let footer = bytes.get(at(geometry.footer)..);
        let footer = footer.and_then(|bytes| super::format::Footer::decode(bytes, length, crc, seed));
        let footer = footer.ok_or_else(|| damaged(&volume, id, offset, "bad footer"))?;
        let body = at(geometry.body)..at(geometry.body + length);
        if footer.blocks != [crc32c(&bytes[body.clone()])] {
            return Err(damaged(&volume, id, offset, "checksum mismatch in the block at offset 0"));
        }
        Ok(Self {
            info: ChunkInfo::new(&header, footer.checksum),
            geometry,
            checksums: footer.blocks,
            rest: 0..length,
            small: Some(Bytes::from(bytes).slice(body)),
            volume,
            damages: None,
        })
    }

    /// Tells of damage that it finds.
    pub(super) fn reporting_to(mut self, damages: &Arc<Damages>) -> Self {
        self.damages = Some(Arc::clone(damages));
        self
    }

    /// Checksums of all blocks of the chunk.
    pub(super) fn checksums(&self) -> &[u32] {
        &self.checksums
    }

    /// What is known of the chunk.
    pub fn info(&self) -> &ChunkInfo {
        &self.info
    }

    /// Bytes of the chunk that are still to come.
    pub fn remaining(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    /// The next blocks, about 256 KiB of them; `None` after the last. After an error there is no more to read.
    pub fn next_run(&mut self) -> Result<Option<Run>, ReadError> {
        self.run(Wait::ForDisk)
    }

    /// As [`next_run`](Self::next_run), of what the system has in memory: [`Pending`](Poll::Pending) where the disk would
    /// have to be waited for, and then nothing is skipped.
    pub fn try_next_run(&mut self) -> Result<Poll<Option<Run>>, ReadError> {
        let rest = self.rest.clone();
        let run = unless_it_waits(self.run(Wait::Never));
        if let Ok(Poll::Pending) = run {
            self.rest = rest;
        }
        run
    }

    fn run(&mut self, wait: Wait) -> Result<Option<Run>, ReadError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let offset = self.rest.start;
        let data = match self.small.take() {
            Some(data) => {
                self.rest.start = self.rest.end;
                data
            }
            None => {
                let mut data = Buffer::new(Size::Large);
                self.read_verified(|volume, len, at| {
                    data.read(len, |into| volume.read_by(into, at, wait))?;
                    Ok(data.content())
                })?;
                data.freeze()
            }
        };
        let first = (offset / BLOCK_SIZE as u64) as usize;
        let checksums = self.checksums[first..first + data.len().div_ceil(BLOCK_SIZE)].to_vec();
        Ok(Some(Run { offset, data, checksums }))
    }

    /// Replaces the content of `data` by the next blocks, verified; leaves it empty after the last.
    pub(super) fn read_run(&mut self, data: &mut Vec<u8>) -> Result<(), ReadError> {
        data.clear();
        if let Some(small) = self.small.take() {
            self.rest.start = self.rest.end;
            data.extend_from_slice(&small);
            return Ok(());
        }
        if self.rest.is_empty() {
            return Ok(());
        }
        self.read_verified(|volume, len, at| {
            volume.file.read_into(data, len, at)?;
            Ok(&data[..])
        })
    }

    /// Lets `read` read the next blocks, so many bytes from an offset of the volume, and compares what it read with their checksums.
    fn read_verified<'a>(
        &mut self,
        read: impl FnOnce(&Volume, usize, u64) -> io::Result<&'a [u8]>,
    ) -> Result<(), ReadError> {
        let run = self.rest.start..self.rest.end.min(self.rest.start + RUN);
        // Whatever goes wrong from here on, there is nothing more to read.
        let rest = std::mem::replace(&mut self.rest, 0..0);
        let verified = self.read_and_verify(&run, read);
        match (&verified, &self.damages) {
            (Ok(()), _) => self.rest = run.end..rest.end,
            (Err(error), Some(damages)) => damages.saw(error),
            (Err(_), None) => {}
        }
        verified
    }

    fn read_and_verify<'a>(
        &self,
        run: &Range<u64>,
        read: impl FnOnce(&Volume, usize, u64) -> io::Result<&'a [u8]>,
    ) -> Result<(), ReadError> {
        let (volume, id, record) = (&self.volume, self.info.id, self.geometry.start);
        let len = (run.end - run.start) as usize;
        let data = read(volume, len, self.geometry.body + run.start).map_err(|e| io_error(volume, e))?;
        if data.len() < len {
            return Err(damaged(volume, id, record, "the volume ends inside the chunk"));
        }
        let first = (run.start / BLOCK_SIZE as u64) as usize;
        for (index, block) in data.chunks(BLOCK_SIZE).enumerate() {
            if crc32c(block) != self.checksums[first + index] {
                let at = run.start + (index * BLOCK_SIZE) as u64;
                return Err(damaged(
                    volume,
                    id,
                    record,
                    &format!("checksum mismatch in the block at offset {at}"),
                ));
            }
        }
        Ok(())
    }
}
