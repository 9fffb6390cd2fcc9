use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use tokio::task::JoinHandle;

use super::ahead::Ahead;
use super::records::{LayoutRow, decode_of};
use super::{BlobError, BlobStore, Fragment, keys};
use crate::budget::ReadReservation;
use crate::id::BlobId;
use crate::meta::KeyRange;
use crate::replicate::{Blocks, FragmentError};
use crate::request::carried;

/// What an open fragment is counted at: the runs that are read before they are asked for.
const READ_WINDOW: u64 = 1 << 20;
/// Rows of the layout that are loaded at once: at 16 fragments of 4 MiB a row, 512 MiB of the blob.
const ROWS_AT_ONCE: usize = 8;

/// The bytes of a blob in order, each verified. Ends after the first error. Dropping it ends the read.
pub struct BlobReader(State);

/// What comes of asking for the next bytes, and who was asked.
type Asked = (Result<Option<Bytes>, BlobError>, Box<Reading>);

enum State {
    /// Nobody waits for it.
    Idle(Box<Reading>),
    /// Its next bytes are on their way.
    Busy(BoxFuture<'static, Asked>),
    Ended,
}

impl BlobReader {
    pub(super) fn new(store: BlobStore, blob: BlobId, range: Range<u64>) -> Self {
        let reading = Reading {
            rows: Some(keys::layout_from(blob, range.start)),
            store,
            blob,
            position: range.start,
            end: range.end,
            ahead: Ahead::new(range.start),
            listed: VecDeque::new(),
            open: VecDeque::new(),
            current: None,
            reloaded_at: None,
        };
        Self(State::Idle(Box::new(reading)))
    }

    /// Gives back what it holds of the [budget](BlobStore::budget), where it waits for nothing: for a consumer that has
    /// stopped, while others [wait](crate::budget::Budget::is_contended). It goes on where it stood when it is polled again, after
    /// one more look at the layout.
    pub fn rest(&mut self) {
        if let State::Idle(reading) = &mut self.0 {
            reading.begin_again();
        }
    }
}

impl Stream for BlobReader {
    type Item = Result<Bytes, BlobError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut next = match std::mem::replace(&mut self.0, State::Ended) {
            State::Ended => return Poll::Ready(None),
            State::Busy(next) => next,
            State::Idle(mut reading) => async move { (reading.next().await, reading) }.boxed(),
        };
        let Poll::Ready((result, reading)) = next.poll_unpin(cx) else {
            self.0 = State::Busy(next);
            return Poll::Pending;
        };
        if matches!(result, Ok(Some(_))) {
            self.0 = State::Idle(reading);
        }
        Poll::Ready(result.transpose())
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobReader")
    }
}

type Opened = Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError>;

struct Reading {
    store: BlobStore,
    blob: BlobId,
    /// Rows of the layout that are not loaded yet.
    rows: Option<KeyRange>,
    /// Offset in the blob of the next byte to deliver.
    position: u64,
    end: u64,
    ahead: Ahead,
    /// Fragments that are known but not open.
    listed: VecDeque<Fragment>,
    open: VecDeque<Opening>,
    current: Option<Current>,
    /// Where the layout was loaded again, because a chunk that it named was gone.
    reloaded_at: Option<u64>,
}

struct Opening {
    fragment: Fragment,
    task: JoinHandle<Opened>,
    reserved: ReadReservation,
}

/// The fragment whose bytes are being delivered.
struct Current {
    fragment: Fragment,
    stream: BoxStream<'static, Result<Blocks, FragmentError>>,
    /// CRC-32C of the bytes so far, where the fragment is read from its first byte on.
    checksum: Option<u32>,
    /// Offset in the fragment of the block that must come next; `None` before the first.
    next_block: Option<u64>,
    _reserved: ReadReservation,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        while self.position < self.end {
            self.open_ahead().await?;
            let Some(current) = &mut self.current else {
                match self.open_next().await? {
                    Some(opened) => self.current = Some(opened),
                    None => self.reload(),
                }
                continue;
            };
            let file = current.fragment.file;
            match current.stream.next().await {
                Some(Err(FragmentError::NotFound(_))) if self.may_reload() => self.reload(),
                Some(Ok(blocks)) => {
                    let bytes = self.take(blocks)?;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(BlobError::of_fragment(self.blob, error)),
                None => return Err(self.damaged(format!("chunk {file} ended early"))),
            }
        }
        Ok(None)
    }

    /// Keeps fragments open ahead of the reader: one always, more where it will soon be there, while the budget has
    /// room.
    async fn open_ahead(&mut self) -> Result<(), BlobError> {
        let limit = self.store.options().read_ahead;
        let near = self.position.saturating_add(self.ahead.lead(self.position));
        while self.open.len() + usize::from(self.current.is_some()) < limit {
            if self.listed.is_empty() {
                self.load_rows().await?;
            }
            let Some(&fragment) = self.listed.front() else { return Ok(()) };
            if fragment.offset >= self.end {
                return Ok(());
            }
            let is_first = self.current.is_none() && self.open.is_empty();
            if !is_first && fragment.offset > near {
                return Ok(());
            }
            let wanted = self.wanted(&fragment);
            let window = READ_WINDOW.min(wanted.end - wanted.start);
            let reserved = if is_first {
                self.store.budget().reserve_for_reading(window).await
            } else {
                let Some(reserved) = self.store.budget().try_reserve_for_reading(window) else {
                    return Ok(());
                };
                reserved
            };
            self.listed.pop_front();
            let fragments = self.store.fragments().clone();
            let task = tokio::spawn(carried(async move { fragments.read(fragment.file, wanted).await }));
            self.open.push_back(Opening { fragment, task, reserved });
        }
        Ok(())
    }

    /// Whether the layout may be loaded again: a chunk that was moved is found where it went to, one that is lost is not.
    fn may_reload(&self) -> bool {
        self.reloaded_at != Some(self.position)
    }

    /// Begins again at the position because a chunk was gone.
    fn reload(&mut self) {
        self.reloaded_at = Some(self.position);
        self.begin_again();
    }

    /// Begins again at the position, with the layout as it is when it goes on.
    fn begin_again(&mut self) {
        self.rows = Some(keys::layout_from(self.blob, self.position));
        (self.listed, self.open, self.current) = (VecDeque::new(), VecDeque::new(), None);
    }

    /// The next fragment; `None` where its chunk has gone from where the layout said, and it should be loaded again.
    async fn open_next(&mut self) -> Result<Option<Current>, BlobError> {
        let Some(Opening { fragment, task, reserved }) = self.open.pop_front() else {
            return Err(self.damaged(format!("its layout ends at {} of {}", self.position, self.end)));
        };
        if fragment.offset > self.position || fragment.offset + fragment.length <= self.position {
            return Err(self.damaged(format!("its layout has a gap at {}", self.position)));
        }
        let ended =
            |error| BlobError::Unavailable(format!("the read of chunk {} ended: {error}", fragment.file));
        let stream = match task.await.map_err(ended)? {
            Ok(stream) => stream,
            Err(FragmentError::NotFound(_)) if self.may_reload() => return Ok(None),
            Err(error) => return Err(BlobError::of_fragment(self.blob, error)),
        };
        let checksum = (fragment.offset == self.position).then_some(0);
        Ok(Some(Current { fragment, stream, checksum, next_block: None, _reserved: reserved }))
    }

    async fn load_rows(&mut self) -> Result<(), BlobError> {
        let Some(range) = self.rows.take() else { return Ok(()) };
        let page = self.store.meta().scan(range, ROWS_AT_ONCE).await?;
        for entry in &page.entries {
            let row: LayoutRow = decode_of(self.blob, entry)?;
            let position = self.position;
            self.listed
                .extend(row.fragments().filter(|fragment| fragment.offset + fragment.length > position));
        }
        self.rows = page.next;
        Ok(())
    }

    /// The part of a fragment that the read needs.
    fn wanted(&self, fragment: &Fragment) -> Range<u64> {
        let start = self.position.saturating_sub(fragment.offset);
        start..(self.end - fragment.offset).min(fragment.length)
    }

    /// Takes the part that the read needs out of the next blocks of the current fragment, verified.
    fn take(&mut self, blocks: Blocks) -> Result<Bytes, BlobError> {
        let blob = self.blob;
        let damaged = |reason| BlobError::Damaged { blob, reason };
        let Some(current) = &mut self.current else { return Ok(Bytes::new()) };
        let fragment = current.fragment;
        let at = blocks.offset();
        let (wanted, length) = (self.position - fragment.offset, blocks.len() as u64);
        let in_place = current.next_block.map_or(at <= wanted, |next| next == at);
        if !in_place || at + length > fragment.length || length == 0 {
            let reason = format!("chunk {} gave {length} bytes at {at}, out of place", fragment.file);
            return Err(damaged(reason));
        }
        current.next_block = Some(at + length);
        let mismatch = |error| damaged(format!("chunk {}: {error}", fragment.file));
        let blocks = blocks.verify().map_err(mismatch)?;
        if let Some(checksum) = &mut current.checksum {
            // The blocks are what the node says they are; this says that they are the layout's.
            *checksum = blocks.checksum_after(*checksum);
            if at + length == fragment.length && *checksum != fragment.checksum {
                return Err(damaged(format!("chunk {} is not the one that its layout names", fragment.file)));
            }
        }
        let bytes = blocks.into_bytes().map_err(mismatch)?;
        let skip = wanted.saturating_sub(at).min(length);
        let stop = (self.end - fragment.offset).saturating_sub(at).min(length);
        let bytes = bytes.slice(skip as usize..stop.max(skip) as usize);
        self.position += bytes.len() as u64;
        if self.position == fragment.offset + fragment.length {
            self.current = None;
        }
        Ok(bytes)
    }

    fn damaged(&self, reason: String) -> BlobError {
        BlobError::Damaged { blob: self.blob, reason }
    }
}
