//! One volume: its file, what of it is taken, and its commits.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::commit::CommitQueue;
use super::directory::{Directory, Purpose};
use super::disk::DiskFile;
use super::format::{
    Covered, FIRST_RECORD, Footer, Geometry, HEADER_LEN, RecordHeader, RecordKind, Seed, VolumeHeader,
};
use super::format::{VolumeKind, footer_len};
use super::volumes::file_name;
use super::{Durability, StoreOptions, now};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// Bytes by which a volume grows, where nothing is preallocated, before the room on the disk is looked at again.
const LOOK_EVERY: u64 = 64 << 20;

/// An append-only file of records. Reading needs no lock.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) header: VolumeHeader,
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    /// Where its file is.
    pub(super) directory: Arc<Directory>,
    capacity: u64,
    preallocation: u64,
    durability: Durability,
    /// Whether commits were acknowledged that wait for a sync.
    is_behind: AtomicBool,
    /// Of the store; a record's number.
    sequence: Arc<AtomicU64>,
    tail: Mutex<Tail>,
    commits: CommitQueue,
    /// Ranges whose room goes back to the file system once nobody reads from the volume any more.
    released: Mutex<Vec<Range<u64>>>,
}

/// What stands in a volume beside whole records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remains {
    /// Writes that were cut off.
    pub(super) unfinished: u64,
    /// Places where no record could be read.
    pub(super) gaps: u64,
}

#[derive(Debug)]
struct Tail {
    /// Where the next record begins.
    end: u64,
    /// The file may grow this far, and has the room where the file system can set it aside.
    allocated: u64,
    /// Whether the file system is asked to.
    preallocates: bool,
    /// Where the last mark ends: nothing to mark while no record follows it. `FIRST_RECORD` without one.
    marked: u64,
    /// Whether that mark is final.
    is_final: bool,
    /// Writes that were cut off, and places where no record could be read; in all, and before that mark.
    remains: Remains,
    marked_remains: Remains,
    /// Records that are reserved and neither finished nor abandoned.
    in_flight: u32,
    state: State,
}

impl Tail {
    fn new(end: u64, state: State) -> Self {
        Self {
            end,
            allocated: end,
            preallocates: true,
            marked: end,
            is_final: false,
            remains: Remains::default(),
            marked_remains: Remains::default(),
            in_flight: 0,
            state,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Takes records.
    Open,
    /// Takes none; the last record in flight seals it.
    Retired,
    /// Takes none, and gets no mark any more: it has one, or it failed and is verified at every start.
    Sealed,
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    ForDisk,
    /// It gives out what the page cache has.
    Never,
}

/// Why a volume did not take a record.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has no room or is retired: take another volume.
    TakeAnother,
    /// The file system is full, or the disk failed. In the latter case the volume takes no more.
    Io(io::Error),
}

impl Volume {
    /// A volume that holds nothing yet, or for `sealed` one that only serves reads.
    pub(super) fn new(
        header: VolumeHeader,
        file: Box<dyn DiskFile>,
        sealed: bool,
        options: &StoreOptions,
        sequence: Arc<AtomicU64>,
        directory: &Arc<Directory>,
    ) -> Self {
        let state = if sealed { State::Sealed } else { State::Open };
        Self {
            header,
            path: directory.path().join(file_name(header.number)),
            file,
            directory: Arc::clone(directory),
            capacity: options.volume_size,
            preallocation: options.preallocation,
            durability: options.durability,
            is_behind: AtomicBool::new(false),
            sequence,
            tail: Mutex::new(Tail::new(FIRST_RECORD, state)),
            commits: CommitQueue::default(),
            released: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> VolumeKind {
        self.header.kind
    }

    pub(super) fn seed(&self, offset: u64) -> Seed {
        Seed { volume: self.header.identity, offset }
    }

    /// Reserves room for a record with a body of `length` bytes, and calls `write` to put it, or at least its
    /// header, into the page cache.
    ///
    /// All that happens under the lock of the tail: a record's header is there before the next record begins, so
    /// recovery goes from header to header, over records that were never finished. As every sync covers the whole
    /// file, no durable record has a header before it that is not durable.
    pub(super) fn place(
        self: &Arc<Self>,
        length: u64,
        purpose: Purpose,
        write: &mut dyn FnMut(&Self, &Geometry, u64) -> io::Result<()>,
    ) -> Result<Slot, Refusal> {
        let mut tail = self.tail.lock();
        let geometry = Geometry::new(self.kind(), tail.end, length);
        let fits = geometry.end <= self.capacity || tail.end == FIRST_RECORD;
        if tail.state != State::Open || !fits {
            return Err(Refusal::TakeAnother);
        }
        self.allocate(&mut tail, geometry.end, purpose).map_err(Refusal::Io)?;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = write(self, &geometry, sequence) {
            // The tail stays: the next record overwrites what may have been written of this one.
            if !is_full(&error) {
                tail.state = State::Sealed;
            }
            return Err(Refusal::Io(error));
        }
        tail.end = geometry.end;
        tail.in_flight += 1;
        self.directory.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Slot { volume: Arc::clone(self), geometry })
    }

    fn allocate(&self, tail: &mut Tail, end: u64, purpose: Purpose) -> io::Result<()> {
        if end <= tail.allocated {
            return Ok(());
        }
        let step = if self.preallocation > 0 { self.preallocation } else { LOOK_EVERY };
        let ahead = end.max((tail.end + step).min(self.capacity));
        let mut upto = self.directory.grant(tail.allocated, end, ahead, purpose)?;
        if self.preallocation > 0 && tail.preallocates {
            tail.preallocates = match self.file.preallocate(tail.allocated, upto) {
                // The last room of a disk is for records, not for steps.
                Err(e) if is_full(&e) && upto > end => {
                    upto = end;
                    self.file.preallocate(tail.allocated, end)?
                }
                other => other?,
            };
        }
        tail.allocated = upto;
        Ok(())
    }

    /// Returns once all records written so far are as durable as was asked for.
    pub(super) fn commit(&self) -> Result<(), Arc<io::Error>> {
        if self.durability == Durability::Always {
            return self.sync();
        }
        if let Some(error) = self.commits.failure() {
            return Err(error);
        }
        // After the bytes: whoever takes it back syncs them.
        self.is_behind.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes up for the syncs that commits did not wait for. Answers whether there were any.
    pub(super) fn catch_up(&self) -> Result<bool, Arc<io::Error>> {
        let is_behind = self.is_behind.swap(false, Ordering::AcqRel);
        if is_behind { self.sync().map(|()| true) } else { Ok(false) }
    }

    pub(super) fn sync(&self) -> Result<(), Arc<io::Error>> {
        self.commits.commit(|| self.sync_once()).inspect_err(|_| self.give_up())
    }

    fn sync_once(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|error| {
            self.directory.failed_syncs.fetch_add(1, Ordering::Relaxed);
            if self.durability != Durability::Always {
                tracing::error!(volume = %self.path.display(), %error, "a sync failed: acknowledged writes may be lost");
            }
        })
    }

    /// Takes no more records after a failed write or sync, and is never vouched for: what of it is whole is found
    /// out at the next start.
    pub(super) fn give_up(&self) {
        self.tail.lock().state = State::Sealed;
    }

    /// Goes on with a volume that was closed cleanly, after its last record.
    pub(super) fn reopen(&self, end: u64) {
        let mut tail = self.tail.lock();
        let Tail { remains, marked_remains, .. } = *tail;
        *tail = Tail { remains, marked_remains, ..Tail::new(end, State::Open) };
    }

    /// What recovery has found: where the last mark ends, whether it is final, and what stands before it.
    pub(super) fn recovered(&self, mark: Option<u64>, is_final: bool, remains: Remains) {
        let mut tail = self.tail.lock();
        tail.marked = mark.unwrap_or(FIRST_RECORD);
        tail.is_final = is_final;
        (tail.remains, tail.marked_remains) = (remains, remains);
    }

    /// Notes writes that were cut off.
    pub(super) fn note_unfinished(&self, count: u64) {
        self.tail.lock().remains.unfinished += count;
    }

    /// Up to where all records are in the index: every one before a mark was entered before the mark was written.
    /// `None` without a mark.
    pub(super) fn covered(&self) -> Option<Covered> {
        let tail = self.tail.lock();
        let VolumeHeader { number, identity, .. } = self.header;
        let Tail { marked: offset, is_final: sealed, marked_remains: Remains { unfinished, gaps }, .. } =
            *tail;
        (offset > FIRST_RECORD).then_some(Covered { number, sealed, identity, offset, unfinished, gaps })
    }

    /// Takes no more records. Once none is in flight the volume is sealed.
    pub(super) fn retire(&self) {
        let mut tail = self.tail.lock();
        if tail.state == State::Open {
            tail.state = State::Retired;
        }
        self.seal_if_idle(&mut tail);
    }

    /// Whether no record will ever be added: it takes none, and none is in flight, so whatever was acknowledged of it is
    /// in the index.
    pub(super) fn is_settled(&self) -> bool {
        let tail = self.tail.lock();
        tail.state == State::Sealed && tail.in_flight == 0
    }

    /// Where the next record of a volume begins that takes more; `None` for one that takes none.
    pub(super) fn open_end(&self) -> Option<u64> {
        let tail = self.tail.lock();
        (tail.state == State::Open).then_some(tail.end)
    }

    /// Where the records of a volume end that could take more, while none is in flight.
    pub(super) fn idle_end(&self) -> Option<u64> {
        let tail = self.tail.lock();
        (tail.state == State::Open && tail.in_flight == 0).then_some(tail.end)
    }

    /// Gives the room of `ranges` back once the last reader has let go of the volume, which must be out of the
    /// store's sight by then.
    pub(super) fn release_at_end(&self, ranges: Vec<Range<u64>>) {
        *self.released.lock() = ranges;
    }

    /// Marks the end of a volume that may be written again after the next start.
    pub(super) fn close(&self) {
        let mut tail = self.tail.lock();
        if tail.state == State::Open && tail.in_flight == 0 && tail.end != tail.marked {
            self.put_mark(&mut tail, false);
        }
    }

    /// Puts the mark at `end` that vouches for what recovery has found whole before it.
    pub(super) fn vouch(&self, end: u64) -> io::Result<()> {
        let mut tail = self.tail.lock();
        tail.end = end;
        self.write_mark(&mut tail, true)?;
        // What was preallocated reads as zeros with room or without.
        let len = self.file.len()?;
        if len > tail.end {
            self.file.release(tail.end, len - tail.end);
        }
        Ok(())
    }

    fn seal_if_idle(&self, tail: &mut Tail) {
        if tail.state == State::Retired && tail.in_flight == 0 {
            self.put_mark(tail, true);
        }
    }

    /// Syncs, writes the mark that says so, gives back what was preallocated.
    fn put_mark(&self, tail: &mut Tail, last: bool) {
        tail.state = State::Sealed;
        // Only what was preallocated and never reserved is cut off.
        if let Err(error) = self.write_mark(tail, last).and_then(|()| self.file.truncate(tail.end)) {
            // Without its mark the volume is verified at the next start: that costs time, not data.
            tracing::warn!(volume = %self.path.display(), %error, "could not mark the end of a volume");
        }
    }

    fn write_mark(&self, tail: &mut Tail, last: bool) -> io::Result<()> {
        // A mark vouches for what commits have not waited for, too. Where their sync has failed there is none.
        self.commits.commit(|| self.sync_once()).map_err(|error| io::Error::new(error.kind(), error))?;
        let geometry = Geometry::new(self.kind(), tail.end, 0);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mark = RecordHeader::bare(RecordKind::Mark { last }, sequence, now());
        self.file.write_at(&mark.encode(self.seed(geometry.start)), geometry.start)?;
        tail.end = geometry.end;
        self.file.sync_data()?;
        tail.marked = tail.end;
        tail.marked_remains = tail.remains;
        tail.is_final = last;
        self.directory.succeeded();
        Ok(())
    }

    /// Reads and checks the header of the record at `offset`.
    pub(super) fn read_header(&self, offset: u64) -> io::Result<Option<(RecordHeader, u32)>> {
        self.read_header_by(offset, Wait::ForDisk)
    }

    pub(super) fn read_header_by(&self, offset: u64, wait: Wait) -> io::Result<Option<(RecordHeader, u32)>> {
        let mut bytes = [0; HEADER_LEN];
        let n = self.read_by(&mut bytes, offset, wait)?;
        let header = RecordHeader::decode(&bytes[..n], self.seed(offset));
        Ok(header.map(|header| (header, RecordHeader::crc_of(&bytes))))
    }

    /// Fills `buf` from `offset` as far as the file goes; answers how many bytes that was.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where it may not wait and would have to.
    pub(super) fn read_by(&self, buf: &mut [u8], offset: u64, wait: Wait) -> io::Result<usize> {
        match wait {
            Wait::ForDisk => self.file.read_at(buf, offset),
            Wait::Never => self.file.read_cached(buf, offset),
        }
    }

    /// Reads and checks the footer of a chunk.
    pub(super) fn read_footer(
        &self,
        geometry: &Geometry,
        length: u64,
        crc: u32,
        wait: Wait,
    ) -> io::Result<Option<Footer>> {
        let mut bytes = vec![0; footer_len(length) as usize];
        let n = self.read_by(&mut bytes, geometry.footer, wait)?;
        Ok(Footer::decode(&bytes[..n], length, crc, self.seed(geometry.start)))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        for range in self.released.lock().drain(..) {
            self.file.release(range.start, range.end - range.start);
        }
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Room for a record in a volume, and the right to write there.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) volume: Arc<Volume>,
    pub(super) geometry: Geometry,
}

impl Drop for Slot {
    /// The record is finished or abandoned.
    fn drop(&mut self) {
        let mut tail = self.volume.tail.lock();
        tail.in_flight -= 1;
        self.volume.directory.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.volume.seal_if_idle(&mut tail);
    }
}
