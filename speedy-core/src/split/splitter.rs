use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::SplitOptions;
use super::gather::{BUFFER, Gathered};
use crate::budget::{Budget, Reservation};
use crate::payload::Payload;

/// Bytes reserved ahead of what the source sends: a buffer.
const STEP: u64 = BUFFER.bytes() as u64;

/// How often a silent source is looked at. Within one tick nobody who waits for budget is noticed.
const TICK: Duration = Duration::from_millis(100);

/// How long a splitter with little in hand waits for budget before it gives that out. Long enough for a write that is
/// under way to end; short, because all that wait so hold budget meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// One fragment's worth of a stream.
#[derive(Debug)]
#[must_use = "the bytes of a piece are in no later one"]
pub struct Piece {
    /// Offset of its first byte in the blob.
    pub offset: u64,
    /// Its bytes and their checksum.
    pub payload: Payload,
    /// The memory that the bytes take. Keep it for as long as any clone of the payload.
    pub reservation: Reservation,
}

/// Cuts a stream into [`Piece`]s. See the [module](super) for what it promises about memory.
///
/// All pieces are full but the last, those before a silence of the source, and those that were cut because the budget
/// was spent.
///
/// The caller may keep pieces in flight while it waits for the next. It must go on storing them meanwhile: budget
/// comes back only as pieces are dropped.
///
/// ```
/// # use bytes::Bytes;
/// # use futures_util::stream;
/// # use speedy_core::{budget::Budget, split::{SplitOptions, Splitter}};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![7; 2500]))]);
/// let options = SplitOptions::new().with_fragment_size(1024)?;
/// let mut splitter = Splitter::new(body, Budget::default(), options);
/// let mut lengths = Vec::new();
/// while let Some(piece) = splitter.next().await {
///     lengths.push(piece?.payload.len());
/// }
/// assert_eq!(lengths, [1024, 1024, 452]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Splitter<S, E> {
    /// `None` once it has ended.
    source: Option<S>,
    error: Option<E>,
    budget: Budget,
    options: SplitOptions,
    offset: u64,
    /// What the source sent and the fragment has not taken yet; counted in no reservation.
    pending: Bytes,
    gathered: Gathered,
    /// For the bytes gathered, and for some to come.
    reserved: Option<Reservation>,
    silence: Option<Silence>,
}

/// The source has nothing for us.
#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Instant,
    next_tick: Instant,
}

impl<S, E> Splitter<S, E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// A splitter of a blob from its beginning.
    pub fn new(source: S, budget: Budget, options: SplitOptions) -> Self {
        Self::starting_at(0, source, budget, options)
    }

    /// A splitter of the part of a blob that begins at `offset`.
    pub fn starting_at(offset: u64, source: S, budget: Budget, options: SplitOptions) -> Self {
        Self {
            source: Some(source),
            error: None,
            budget,
            options,
            offset,
            pending: Bytes::new(),
            gathered: Gathered::default(),
            reserved: None,
            silence: None,
        }
    }

    /// The next piece; never an empty one. Where the source fails, what came before is given out first, then its
    /// error, then `None`.
    pub async fn next(&mut self) -> Option<Result<Piece, E>> {
        loop {
            if self.source.is_none() && self.pending.is_empty() {
                if !self.gathered.is_empty() {
                    return Some(Ok(self.cut()));
                }
                self.reserved = None;
                return self.error.take().map(Err);
            }
            if self.room() == 0 && !self.make_room().await {
                return Some(Ok(self.cut()));
            }
            if self.pending.is_empty() && !self.receive().await {
                return Some(Ok(self.cut()));
            }
            self.gather();
            if self.gathered.len() == self.options.fragment_size() {
                return Some(Ok(self.cut()));
            }
        }
    }

    /// Bytes that may be gathered before more is reserved.
    fn room(&self) -> u64 {
        self.reserved.as_ref().map_or(0, Reservation::bytes).saturating_sub(self.gathered.len())
    }

    /// Reserves some more. `false` when what is gathered should be given out instead of waiting with it in hand.
    async fn make_room(&mut self) -> bool {
        let left = self.options.fragment_size() - self.gathered.len();
        let step = STEP.min(left);
        let wanted = left.min((self.pending.len() as u64).next_multiple_of(STEP)).max(step);
        let now = self.budget.try_reserve(wanted).or_else(|| self.budget.try_reserve(step));
        let more = if let Some(more) = now {
            more
        } else if self.gathered.is_empty() {
            self.budget.reserve(step).await
        } else {
            let all_is_ours = self.reserved.as_ref().is_some_and(|held| held.bytes() >= self.budget.total());
            if all_is_ours || self.gathered.len() >= left {
                return false;
            }
            match timeout(PATIENCE, self.budget.reserve(step)).await {
                Ok(more) => more,
                Err(_) => return false,
            }
        };
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
        true
    }

    /// Waits for the source. `false` when what is gathered should be given out, because nothing comes.
    async fn receive(&mut self) -> bool {
        while let Some(source) = &mut self.source {
            let received = match self.reserved {
                // Nothing is held, so there is nothing to do while nothing comes.
                None => Ok(source.next().await),
                Some(_) => {
                    let now = Instant::now();
                    let fresh = Silence { since: now, next_tick: now + TICK.min(self.options.stall()) };
                    let silence = self.silence.get_or_insert(fresh);
                    timeout_at(silence.next_tick, source.next()).await
                }
            };
            match received {
                Ok(next) => {
                    self.silence = None;
                    match next {
                        Some(Ok(bytes)) if bytes.is_empty() => continue,
                        Some(Ok(bytes)) => self.pending = bytes,
                        Some(Err(error)) => (self.error, self.source) = (Some(error), None),
                        None => self.source = None,
                    }
                    return true;
                }
                Err(_) if self.gathered.is_empty() => {
                    // What a silent source may send is reserved when it comes: a thousand silent clients keep nothing
                    // from the one that is not.
                    self.reserved = None;
                    self.silence = None;
                }
                Err(_) => {
                    let now = Instant::now();
                    if let Some(silence) = &mut self.silence {
                        if now - silence.since >= self.options.stall() || self.budget.is_contended() {
                            return false;
                        }
                        silence.next_tick = (now + TICK).min(silence.since + self.options.stall());
                    }
                }
            }
        }
        true
    }

    /// Moves what is pending into the fragment, as far as it has room.
    fn gather(&mut self) {
        let left = self.options.fragment_size() - self.gathered.len();
        let count = self.room().min(left).min(self.pending.len() as u64) as usize;
        if count > 0 {
            self.gathered.push(&self.pending.split_to(count));
        }
    }

    /// Ends the fragment. What was reserved for bytes to come goes back unless the next are here.
    fn cut(&mut self) -> Piece {
        let gathered = std::mem::take(&mut self.gathered);
        let mut reserved = self.reserved.take().expect("bytes are gathered only under a reservation");
        let reservation = reserved.split(gathered.len());
        if reserved.bytes() > 0 && !self.pending.is_empty() {
            self.reserved = Some(reserved);
        }
        self.silence = None;
        let piece = Piece { offset: self.offset, payload: gathered.into_payload(), reservation };
        self.offset += piece.payload.len();
        piece
    }
}

#[cfg(test)]
mod tests;
