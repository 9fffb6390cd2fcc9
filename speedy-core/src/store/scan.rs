//! Walking a volume from header to header, and around what can't be read.

use std::io;
use std::ops::{ControlFlow, Range};

use super::format::{Geometry, HEADER_LEN, PAGE, RecordHeader, RecordKind, VolumeKind, footer_len};
use super::reader::RUN;
use super::volume::{Volume, Wait};
use crate::checksum::{BLOCK_SIZE, crc32c};
use crate::id::ChunkId;

/// A chunk, a tombstone, or the note that a chunk is in quarantine, in a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) kind: RecordKind,
    pub(super) id: ChunkId,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sequence: u64,
    /// Whether its footer can be read. One that can't is not whole.
    footer_is_valid: bool,
}

impl Found {
    pub(super) fn is_chunk(&self) -> bool {
        self.kind == RecordKind::Chunk
    }

    /// Where the record stands in its volume.
    pub(super) fn geometry(&self, kind: VolumeKind) -> Geometry {
        Geometry::new(kind, self.offset, if self.is_chunk() { self.length } else { 0 })
    }
}

/// The mark before the place where a walk begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// More may follow.
    Open,
    /// Nothing follows, ever.
    Final,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Records before the last mark.
    pub(super) vouched: Vec<Found>,
    pub(super) vouched_unfinished: u64,
    pub(super) vouched_gaps: u64,
    /// Where the last mark ends; where the walk began if there is none.
    pub(super) vouched_end: u64,
    /// Whether the last mark is final.
    pub(super) sealed: bool,
    /// Records behind the last mark.
    pub(super) tail: Vec<Found>,
    pub(super) tail_unfinished: u64,
    pub(super) tail_gaps: u64,
    /// Where the last record ends.
    pub(super) end: u64,
    /// Whether nothing but zeros follows.
    pub(super) rest_is_empty: bool,
    pub(super) highest_sequence: u64,
    has_mark: bool,
}

impl Walk {
    /// Whether a mark vouches for all that there is.
    pub(super) fn ends_with_mark(&self) -> bool {
        self.has_mark && self.vouched_end == self.end && self.rest_is_empty
    }

    /// Where the last mark ends, if there is one.
    pub(super) fn mark_end(&self) -> Option<u64> {
        self.has_mark.then_some(self.vouched_end)
    }

    fn add(&mut self, volume: &Volume, place: Place) {
        let (header, footer, geometry) = match place {
            Place::Record { header, footer, geometry } => (header, footer, geometry),
            Place::Gap { is_empty, is_last, .. } => {
                if is_empty && volume.kind() == VolumeKind::Aligned {
                    // Large records are placed first and written later, each on its own: here a crash came between.
                    self.tail_unfinished += u64::from(!is_last);
                } else if !is_last || !is_empty {
                    self.tail_gaps += 1;
                }
                self.rest_is_empty &= is_empty || !is_last;
                return;
            }
        };
        self.highest_sequence = self.highest_sequence.max(header.sequence);
        self.end = geometry.end;
        match (header.kind, footer) {
            (RecordKind::Mark { last }, _) => self.mark(last, geometry.end),
            (_, FooterState::Absent) => self.tail_unfinished += 1,
            _ => self.tail.push(Found {
                kind: header.kind,
                id: header.id,
                offset: geometry.start,
                length: header.length,
                sequence: header.sequence,
                footer_is_valid: footer == FooterState::Valid,
            }),
        }
    }

    fn mark(&mut self, last: bool, end: u64) {
        self.vouched.append(&mut self.tail);
        self.vouched_unfinished += std::mem::take(&mut self.tail_unfinished);
        self.vouched_gaps += std::mem::take(&mut self.tail_gaps);
        self.vouched_end = end;
        self.sealed = last;
        self.has_mark = true;
    }
}

/// Walks the records of a volume from the offset `from`, where one begins, to the end of its file. Whether a mark ends
/// there, and which, is not looked up: `mark` says so.
pub(super) fn walk(volume: &Volume, from: u64, mark: Option<Mark>) -> io::Result<Walk> {
    let mut walk = Walk { vouched_end: from, end: from, rest_is_empty: true, ..Walk::default() };
    walk.has_mark = mark.is_some();
    walk.sealed = mark == Some(Mark::Final);
    visit(volume, from, &mut |place| {
        walk.add(volume, place);
        ControlFlow::Continue(())
    })?;
    Ok(walk)
}

/// What stands at a place of a volume.
#[derive(Debug)]
pub(super) enum Place {
    /// A header, and what it announces.
    Record { header: RecordHeader, footer: FooterState, geometry: Geometry },
    /// Where no header can be read.
    Gap {
        range: Range<u64>,
        /// Whether it is all zeros, as preallocated room is.
        is_empty: bool,
        /// Whether the file ends there.
        is_last: bool,
    },
}

/// What the footer of a chunk says of it. Other records have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FooterState {
    /// It can be read; also where none belongs.
    Valid,
    Damaged,
    /// A footer is the last thing that is written: where there is none the write was cut off.
    Absent,
}

/// Calls `each` with all places of a volume in their order, from the offset `from`, where a record begins, to the end
/// of its file, or until it breaks off.
pub(super) fn visit(
    volume: &Volume,
    from: u64,
    each: &mut dyn FnMut(Place) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut window = Window::new(volume)?;
    let mut at = from;
    while at < window.file_len {
        let Some((header, crc)) = header_at(&mut window, at) else {
            let gap = find_header(&mut window, at);
            let end = gap.next.unwrap_or(window.file_len);
            let is_last = gap.next.is_none();
            if each(Place::Gap { range: at..end, is_empty: gap.is_empty, is_last }).is_break() {
                break;
            }
            at = end;
            continue;
        };
        let geometry = Geometry::new(volume.kind(), at, header.body_len());
        let footer = match header.kind {
            RecordKind::Chunk => footer_at(&mut window, &geometry, header.length, crc),
            _ => FooterState::Valid,
        };
        if each(Place::Record { header, footer, geometry }).is_break() {
            break;
        }
        at = geometry.end;
    }
    Ok(())
}

fn header_at(window: &mut Window<'_>, at: u64) -> Option<(RecordHeader, u32)> {
    let seed = window.volume.seed(at);
    let bytes: &[u8; HEADER_LEN] = window.get(at, HEADER_LEN).try_into().ok()?;
    RecordHeader::decode(bytes, seed).map(|header| (header, RecordHeader::crc_of(bytes)))
}

fn footer_at(window: &mut Window<'_>, geometry: &Geometry, length: u64, crc: u32) -> FooterState {
    let seed = window.volume.seed(geometry.start);
    let bytes = window.get(geometry.footer, footer_len(length) as usize);
    if bytes.iter().all(|&b| b == 0) {
        FooterState::Absent
    } else if super::format::Footer::decode(bytes, length, crc, seed).is_some() {
        FooterState::Valid
    } else {
        FooterState::Damaged
    }
}

/// Where no header can be read.
struct Gap {
    /// Where the next header is.
    next: Option<u64>,
    /// Whether the gap is all zeros, as preallocated room is.
    is_empty: bool,
}

/// Looks for the next header behind `at`, where none can be read.
fn find_header(window: &mut Window<'_>, at: u64) -> Gap {
    let step = window.volume.kind().alignment() as usize;
    let mut gap = Gap { next: None, is_empty: true };
    let mut from = at;
    while from < window.file_len {
        let volume = window.volume;
        let unreadable = window.unreadable;
        // A multiple of every step, with the header that may begin at its last one.
        let bytes = window.get(from, RUN as usize + HEADER_LEN);
        if bytes.iter().any(|&b| b != 0) {
            for start in (0..bytes.len().min(RUN as usize)).step_by(step) {
                let offset = from + start as u64;
                if RecordHeader::decode(&bytes[start..], volume.seed(offset)).is_some() {
                    gap.is_empty &= bytes[..start].iter().all(|&b| b == 0);
                    gap.next = Some(offset);
                    return gap;
                }
            }
            gap.is_empty = false;
        }
        gap.is_empty &= window.unreadable == unreadable;
        from += RUN;
    }
    gap
}

/// Whether the body of a chunk is what its footer says.
pub(super) fn is_whole(volume: &Volume, found: &Found) -> bool {
    found.footer_is_valid && body_is_whole(volume, found.offset, found.length)
}

/// Whether the body of the chunk whose record is at `offset` is what its footer says.
pub(super) fn body_is_whole(volume: &Volume, offset: u64, length: u64) -> bool {
    let geometry = Geometry::new(volume.kind(), offset, length);
    let Ok(Some((_, crc))) = volume.read_header(offset) else { return false };
    let Ok(Some(footer)) = volume.read_footer(&geometry, length, crc, Wait::ForDisk) else { return false };
    let mut run = Vec::new();
    let mut sums = footer.blocks.iter();
    for start in (0..length).step_by(RUN as usize) {
        let len = (length - start).min(RUN) as usize;
        if volume.file.read_into(&mut run, len, geometry.body + start).is_err() || run.len() != len {
            return false;
        }
        if !run.chunks(BLOCK_SIZE).all(|block| sums.next() == Some(&crc32c(block))) {
            return false;
        }
    }
    true
}

/// The part of a file that was read last. Sectors that can't be read look like zeros, so that they cost what is in
/// them and nothing else.
struct Window<'a> {
    volume: &'a Volume,
    file_len: u64,
    start: u64,
    bytes: Vec<u8>,
    unreadable: u64,
}

impl<'a> Window<'a> {
    fn new(volume: &'a Volume) -> io::Result<Self> {
        Ok(Self { volume, file_len: volume.file.len()?, start: 0, bytes: Vec::new(), unreadable: 0 })
    }

    /// `len` bytes from `at`; fewer at the end of the file.
    fn get(&mut self, at: u64, len: usize) -> &[u8] {
        let len = (self.file_len.saturating_sub(at)).min(len as u64) as usize;
        if len == 0 {
            return &[];
        }
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + len as u64 > end {
            // Small records follow each other: read ahead. Large ones are jumped over: read what is needed.
            let is_near = at.abs_diff(end) <= PAGE;
            let ahead = if is_near { RUN as usize + PAGE as usize } else { PAGE as usize };
            self.load(at, len.max(ahead));
        }
        let from = (at - self.start) as usize;
        &self.bytes[from..from + len]
    }

    fn load(&mut self, at: u64, len: usize) {
        let len = (self.file_len - at).min(len as u64) as usize;
        self.start = at;
        let file = &self.volume.file;
        if file.read_into(&mut self.bytes, len, at).is_ok() && self.bytes.len() == len {
            return;
        }
        self.bytes.clear();
        self.bytes.resize(len, 0);
        for (index, page) in self.bytes.chunks_mut(PAGE as usize).enumerate() {
            let offset = at + index as u64 * PAGE;
            if !matches!(file.read_at(page, offset), Ok(n) if n == page.len()) {
                page.fill(0);
                self.unreadable += page.len() as u64;
            }
        }
    }
}
