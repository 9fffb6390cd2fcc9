use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::SplitOptions;
use crate::blob::Payload;
use crate::budget::{Budget, Reservation};
use crate::checksum::Crc32c;

/// Bytes are reserved in steps of this: a fragment that never fills up never holds the budget of a full one.
const STEP: u64 = 256 * 1024;
/// Runs shorter than this are copied together: a `Bytes` for each would cost more than the copy.
const SMALL: usize = 4 * 1024;

/// A fragment of the source.
#[derive(Debug)]
pub struct Piece {
    /// Offset of its first byte in the blob.
    pub offset: u64,
    /// Its bytes.
    pub payload: Payload,
    /// Its share of the budget, to be kept as long as the bytes are.
    pub reserved: Reservation,
}

/// Cuts a source into pieces. See the [module](super).
#[derive(Debug)]
pub struct Splitter<S, E> {
    source: S,
    options: SplitOptions,
    budget: Budget,
    /// Offset of the piece that is being filled.
    offset: u64,
    filling: Filling,
    /// What has come but has no room in the budget, or in this piece, yet.
    waiting: Bytes,
    end: Option<Result<(), E>>,
}

/// The piece that is being filled.
#[derive(Debug, Default)]
struct Filling {
    frames: Vec<Bytes>,
    /// Small runs that are copied together; after all of `frames`.
    small: BytesMut,
    length: u64,
    checksum: Crc32c,
    reserved: Option<Reservation>,
}

impl<S, E> Splitter<S, E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// A splitter of a source whose first byte stands at `offset` in the blob.
    pub fn new(source: S, offset: u64, options: SplitOptions, budget: Budget) -> Self {
        Self {
            source,
            options,
            budget,
            offset,
            filling: Filling::default(),
            waiting: Bytes::new(),
            end: None,
        }
    }

    /// The next piece; `None` after the last one. After an error of the source what came before it is given out
    /// first, then the error, once.
    ///
    /// # Cancellation
    /// Dropping the future loses no bytes: the next call goes on.
    pub async fn next(&mut self) -> Option<Result<Piece, E>> {
        loop {
            self.take_waiting();
            if self.filling.length == self.options.size {
                return self.cut().map(Ok);
            }
            if !self.waiting.is_empty() {
                // The budget is spent. Bytes in hand may be what others wait for: they go first.
                if self.filling.length > 0 {
                    return self.cut().map(Ok);
                }
                let reserved = self.budget.reserve(STEP.min(self.options.size)).await;
                self.filling.hold(reserved);
                continue;
            }
            if self.end.is_some() {
                return match self.cut() {
                    Some(piece) => Some(Ok(piece)),
                    None => self.end.replace(Ok(())).and_then(Result::err).map(Err),
                };
            }
            let next = if self.filling.length == 0 {
                self.source.next().await
            } else {
                match timeout_at(Instant::now() + self.options.stall, self.source.next()).await {
                    Ok(next) => next,
                    Err(_) => return self.cut().map(Ok),
                }
            };
            match next {
                Some(Ok(run)) => self.waiting = run,
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
    }

    /// Moves waiting bytes into the piece, as far as it and the budget have room.
    fn take_waiting(&mut self) {
        while !self.waiting.is_empty() && self.filling.length < self.options.size {
            let left = self.options.size - self.filling.length;
            let wanted = left.min(self.waiting.len() as u64);
            if self.filling.room() < wanted {
                let missing = (wanted - self.filling.room()).max(STEP).min(left);
                if let Some(reserved) = self.budget.try_reserve(missing) {
                    self.filling.hold(reserved);
                }
            }
            let room = self.filling.room().min(wanted);
            if room == 0 {
                return;
            }
            let run = self.waiting.split_to(room as usize);
            self.filling.push(run);
        }
    }

    fn cut(&mut self) -> Option<Piece> {
        let filling = std::mem::take(&mut self.filling);
        let offset = self.offset;
        self.offset += filling.length;
        filling.finish(offset)
    }
}

impl Filling {
    /// Bytes that are reserved but not filled.
    fn room(&self) -> u64 {
        self.reserved.as_ref().map_or(0, Reservation::bytes).saturating_sub(self.length)
    }

    fn hold(&mut self, more: Reservation) {
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
    }

    fn push(&mut self, run: Bytes) {
        self.checksum.update(&run);
        self.length += run.len() as u64;
        if run.len() < SMALL {
            self.small.extend_from_slice(&run);
        } else {
            self.close_small();
            self.frames.push(run);
        }
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.frames.push(self.small.split().freeze());
        }
    }

    fn finish(mut self, offset: u64) -> Option<Piece> {
        if self.length == 0 {
            return None;
        }
        self.close_small();
        let mut reserved = self.reserved?;
        drop(reserved.split(reserved.bytes().saturating_sub(self.length)));
        let payload = Payload::with_checksum(self.frames, self.checksum.value());
        Some(Piece { offset, payload, reserved })
    }
}
