//! A large chunk on its way to its volume, past the page cache or, where that was [asked for](super::StoreOptions::cache_writes),
//! through it.
//!
//! Header, body and footer of an aligned record lie on whole pages behind each other, so that direct I/O can carry
//! them: that is faster than the page cache by a factor of two to three where this was measured, and as fast under
//! load as alone (`cargo run --release -p speedy-benches --bin compare-stores`). Where the disk begins to write at once what is
//! written to the page cache, that is as fast, and costs the copy. What lies on pages goes to the disk from where it is; a caller's other
//! bytes are gathered into pages of our own.

use std::io;
use std::thread;

use bytes::Bytes;

use super::format::{
    Geometry, HEADER_LEN, PAGE, RecordHeader, RecordKind, VolumeKind, footer_len, write_footer,
};
use super::sums::Sums;
use super::volume::Slot;
use super::volumes::Origin;
use super::{NewChunk, Shared, WriteError};
use crate::buffer::{Buffer, Size, is_on_page};

/// Bytes that are written at once: 1 MiB. Half of it is slower, more is not faster.
const PIECE: usize = 1 << 20;

/// A chunk of so many bytes is written while it is summed; so many of them come last, with the footer.
const LONG: usize = if cfg!(test) { 265_000 } else { 4 << 20 };
const LAST: usize = if cfg!(test) { 70_000 } else { PIECE };

/// The header of a new chunk.
pub(super) fn header_of(chunk: &NewChunk, created: u64, sequence: u64) -> RecordHeader {
    let NewChunk { id, owner, length, version } = *chunk;
    RecordHeader { kind: RecordKind::Chunk, id, owner, length, version, sequence, created }
}

/// Room in an aligned volume, and the header that belongs there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Slot,
    pub(super) header: RecordHeader,
    encoded: [u8; HEADER_LEN],
    /// Whether it stays in the page cache.
    is_cached: bool,
}

impl Place {
    /// Reserves room. Nothing is written yet: the header goes to the disk together with the first of the body.
    fn reserve(store: &Shared, chunk: &NewChunk, origin: Origin) -> Result<Self, WriteError> {
        let mut header = None;
        let need = origin.need(VolumeKind::Aligned, chunk.length);
        let slot = store.volumes.place(need, &mut |_, _, sequence| {
            header = Some(header_of(chunk, origin.created, sequence));
            Ok(())
        })?;
        let header = header.expect("a record that was placed has a header");
        let encoded = header.encode(slot.volume.seed(slot.geometry.start));
        Ok(Self { slot, header, encoded, is_cached: store.volumes.caches_writes() })
    }

    /// The header, alone on its page.
    fn first_page(&self) -> Buffer {
        let mut page = Buffer::new(Size::Small);
        page.fill(&self.encoded);
        page.pad(PAGE as usize);
        page
    }

    /// The end of a record, of which `body` is the last of the body: the part of it that is whole pages, and the pages
    /// behind, with the footer.
    fn end<'a>(&self, body: &'a [u8], blocks: &[u32], checksum: u32) -> (&'a [u8], Buffer) {
        let (pages, rest) = body.split_at(body.len() / PAGE as usize * PAGE as usize);
        let mut footer = Vec::with_capacity(footer_len(self.header.length) as usize);
        let seed = self.slot.volume.seed(self.slot.geometry.start);
        write_footer(&mut footer, blocks, checksum, RecordHeader::crc_of(&self.encoded), seed);
        let len = rest.len().next_multiple_of(8) + footer.len();
        let mut last = Buffer::new(Size::Small);
        assert!(len <= last.room(), "the footer of the longest chunk fits");
        last.fill(rest);
        last.pad(8);
        last.fill(&footer);
        last.pad(PAGE as usize);
        (pages, last)
    }

    fn write(&self, store: &Shared, parts: &[&[u8]], offset: u64) -> Result<(), WriteError> {
        let volume = &self.slot.volume;
        self.put(parts, offset).map_err(|error| store.volumes.write_failed(volume, error))
    }

    fn put(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let file = &self.slot.volume.file;
        if self.is_cached { file.write_cached(parts, offset) } else { file.write_direct(parts, offset) }
    }

    /// Writes the last pages of a record, with its footer. Half a footer must never be vouched for: it would look
    /// like a damaged chunk.
    fn write_last(&self, store: &Shared, parts: &[&[u8]], offset: u64) -> Result<(), WriteError> {
        self.write(store, parts, offset).inspect_err(|_| self.slot.volume.give_up())
    }

    /// Leaves the room as that of a write which was cut off: recovery steps over it.
    fn give_back(&self, has_header: bool) {
        let Geometry { start, body, end, .. } = self.slot.geometry;
        if !has_header {
            let page = self.first_page();
            // Without it the room is a gap of zeros, which recovery gets over too.
            let _ = self.put(&[page.content()], start);
        }
        self.slot.volume.file.release(body, end - body);
        self.slot.volume.note_unfinished(1);
    }
}

/// Whole pages that have not been written yet; only the last part may end inside a page.
#[derive(Debug)]
enum Part {
    /// Ours, with room for more.
    Own(Buffer),
    /// A caller's, on pages: it goes to the disk from where it is.
    Shared(Bytes),
}

impl Part {
    fn content(&self) -> &[u8] {
        match self {
            Self::Own(buffer) => buffer.content(),
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A chunk that comes in pieces.
#[derive(Debug)]
pub(super) struct AlignedBody {
    pub(super) place: Place,
    staged: Vec<Part>,
    /// Bytes that are staged.
    length: usize,
    /// Where they go.
    offset: u64,
    finished: bool,
}

impl AlignedBody {
    pub(super) fn begin(store: &Shared, chunk: &NewChunk, origin: Origin) -> Result<Self, WriteError> {
        let place = Place::reserve(store, chunk, origin)?;
        let offset = place.slot.geometry.start;
        let header = place.first_page();
        Ok(Self { place, length: header.len(), staged: vec![Part::Own(header)], offset, finished: false })
    }

    /// Adds bytes of the body.
    pub(super) fn put(&mut self, store: &Shared, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let buffer = match self.staged.last_mut() {
                Some(Part::Own(buffer)) if buffer.room() > 0 => buffer,
                _ => {
                    // All parts before this one end with a page.
                    if self.length >= PIECE {
                        self.flush(store)?;
                    }
                    self.staged.push(Part::Own(Buffer::new(Size::Small)));
                    continue;
                }
            };
            let rest = buffer.fill(bytes);
            self.length += bytes.len() - rest.len();
            bytes = rest;
        }
        Ok(())
    }

    /// Adds bytes of the body, which are not copied where they lie on pages.
    pub(super) fn put_shared(&mut self, store: &Shared, mut bytes: Bytes) -> Result<(), WriteError> {
        if self.length.is_multiple_of(PAGE as usize) && is_on_page(&bytes) {
            let pages = bytes.split_to(bytes.len() / PAGE as usize * PAGE as usize);
            if !pages.is_empty() {
                self.length += pages.len();
                self.staged.push(Part::Shared(pages));
                if self.length >= PIECE {
                    self.flush(store)?;
                }
            }
        }
        self.put(store, &bytes)
    }

    fn flush(&mut self, store: &Shared) -> Result<(), WriteError> {
        let parts: Vec<&[u8]> = self.staged.iter().map(Part::content).collect();
        self.place.write(store, &parts, self.offset)?;
        self.offset += self.length as u64;
        self.staged.clear();
        self.length = 0;
        Ok(())
    }

    /// Writes what is left and the footer, which makes the record a live one once it is durable.
    pub(super) fn finish(&mut self, store: &Shared, blocks: &[u32], checksum: u32) -> Result<(), WriteError> {
        let mut parts: Vec<&[u8]> = self.staged.iter().map(Part::content).collect();
        let (pages, last) = self.place.end(parts.pop().unwrap_or_default(), blocks, checksum);
        parts.extend([pages, last.content()]);
        self.finished = true;
        self.place.write_last(store, &parts, self.offset)
    }

    /// Calls `each` with the body so far, piece by piece.
    pub(super) fn read_back(
        &self,
        store: &Shared,
        mut each: impl FnMut(&[u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let Slot { volume, geometry } = &self.place.slot;
        let (mut at, end) = (geometry.body, self.offset);
        let mut piece = Vec::new();
        while at < end {
            let len = (end - at).min(PIECE as u64);
            let read = volume.file.read_into(&mut piece, len as usize, at);
            read.map_err(|error| store.volumes.write_failed(volume, error))?;
            each(&piece)?;
            at += len;
        }
        // The first of what is staged may be the header's page.
        let mut before_body = geometry.body.saturating_sub(self.offset) as usize;
        for part in &self.staged {
            let content = part.content();
            let skipped = before_body.min(content.len());
            before_body -= skipped;
            each(&content[skipped..])?;
        }
        Ok(())
    }
}

impl Drop for AlignedBody {
    fn drop(&mut self) {
        if !self.finished {
            self.place.give_back(self.offset > self.place.slot.geometry.start);
        }
    }
}

/// A chunk that is all there and on a page: no copy but of its last page.
///
/// Its checksums are known only at the end, in the footer. So most of a long one goes to the disk while another thread
/// sums it: that is a tenth of the time of a write. A short one is summed before, which is sooner done than a thread
/// begun; it goes to the disk in one call of the system.
#[derive(Debug)]
pub(super) struct WholeBody<'a> {
    place: Place,
    first: Buffer,
    /// What follows the first page.
    body: &'a [u8],
    /// Bytes of it that are written; then the first page is too.
    ahead: usize,
    finished: bool,
}

impl<'a> WholeBody<'a> {
    /// Reserves room and answers the checksums of the blocks and of the whole. Where it `may_begin`, some of it is
    /// written too.
    pub(super) fn begin(
        store: &Shared,
        chunk: &NewChunk,
        body: &'a [u8],
        may_begin: bool,
    ) -> Result<(Self, Vec<u32>, u32), WriteError> {
        let place = Place::reserve(store, chunk, Origin::new_write())?;
        let first = place.first_page();
        let mut whole = Self { place, first, body, ahead: 0, finished: false };
        let (blocks, checksum) =
            if may_begin && body.len() >= LONG { whole.write_ahead(store)? } else { sum(body) };
        Ok((whole, blocks, checksum))
    }

    fn write_ahead(&mut self, store: &Shared) -> Result<(Vec<u32>, u32), WriteError> {
        let body = self.body;
        let ahead = (body.len() - LAST) / PAGE as usize * PAGE as usize;
        thread::scope(|scope| {
            let summing = thread::Builder::new().name("speedy-sum".into()).spawn_scoped(scope, || sum(body));
            let start = self.place.slot.geometry.start;
            self.place.write(store, &[self.first.content(), &body[..ahead]], start)?;
            self.ahead = ahead;
            // The system has no thread left: it takes longer, that is all.
            Ok(summing.map_or_else(|_| sum(body), |thread| thread.join().expect("summing does not panic")))
        })
    }

    /// Writes what is left and the footer, which makes the record a live one once it is durable.
    pub(super) fn finish(
        &mut self,
        store: &Shared,
        blocks: &[u32],
        checksum: u32,
    ) -> Result<&Place, WriteError> {
        let (pages, last) = self.place.end(&self.body[self.ahead..], blocks, checksum);
        let Geometry { start, body, .. } = self.place.slot.geometry;
        self.finished = true;
        if self.ahead == 0 {
            self.place.write_last(store, &[self.first.content(), pages, last.content()], start)?;
        } else {
            self.place.write_last(store, &[pages, last.content()], body + self.ahead as u64)?;
        }
        Ok(&self.place)
    }
}

impl Drop for WholeBody<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.place.give_back(self.ahead > 0);
        }
    }
}

fn sum(bytes: &[u8]) -> (Vec<u32>, u32) {
    let mut sums = Sums::default();
    sums.update(bytes);
    sums.finish()
}
