use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::client::Inner;
use super::delete::unknown_group;
use super::{BlockStream, Blocks, MAX_CHUNK_LEN, NodeError};
use crate::checksum::covering_blocks;
use crate::id::FileId;
use crate::placement::{Group, Member, MemberState};
use crate::replicate::FragmentError;
use crate::sync::{Arc, Ordering};

/// A read of one chunk, from whichever replica has the next block.
struct Read {
    inner: Arc<Inner>,
    file: FileId,
    /// Where the next block begins.
    position: u64,
    end: u64,
    /// Those to ask, in this order.
    holders: Vec<Member>,
    /// Holders that failed to give the block at `position`, and why.
    failed: Vec<(usize, NodeError)>,
    /// Holders that could not be reached, or stalled, at any position: they are asked after the others.
    shunned: Vec<usize>,
    current: Option<(usize, BlockStream)>,
}

/// Blocks that a holder gave.
struct Answer {
    /// Where the blocks behind them come from.
    stream: BlockStream,
    blocks: Blocks,
    /// How long the first blocks of a read took; those behind them say more of the link than of the holder.
    took: Option<Duration>,
}

/// Opens a read and waits for its first block, so that what can't be read at all fails here and not in the stream.
pub(super) async fn read(
    inner: Arc<Inner>,
    file: FileId,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
    if range.is_empty() || range.end > MAX_CHUNK_LEN {
        return Err(FragmentError::Invalid(format!("bytes {range:?} of chunk {file}")));
    }
    let topology = inner.routes.current();
    let group = topology.group(file.group).ok_or_else(|| unknown_group(file, topology.revision))?;
    let holders = in_order(&inner, group);
    if holders.is_empty() {
        let text = format!("group {} has no member that could hold chunk {file}", group.id);
        return Err(FragmentError::Unavailable(text));
    }
    let position = covering_blocks(&range, MAX_CHUNK_LEN).start;
    let mut read = Read {
        inner,
        file,
        position,
        end: range.end,
        holders,
        failed: Vec::new(),
        shunned: Vec::new(),
        current: None,
    };
    let first = read.next().await?;
    let rest =
        stream::try_unfold(read, |mut read| async { Ok(read.next().await?.map(|blocks| (blocks, read))) });
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

/// The members that may hold the chunk, those first that will most likely give it: those in sync that have not just
/// failed, then the others in sync, then the rest. Each read begins at another one.
fn in_order(inner: &Inner, group: &Group) -> Vec<Member> {
    let mut members: Vec<_> =
        group.members.iter().filter(|member| member.state != MemberState::Joining).cloned().collect();
    if !members.is_empty() {
        let turn = inner.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        members.rotate_left(turn);
    }
    let holds = |member: &Member| member.is_in_sync() || !member.is_behind;
    members.sort_by_key(|member| (!member.is_in_sync(), !holds(member), inner.suspects.holds(member.node)));
    members
}

impl Read {
    async fn next(&mut self) -> Result<Option<Blocks>, FragmentError> {
        while self.position < self.end {
            let holder = match &self.current {
                Some((holder, _)) => *holder,
                None => self.untried().ok_or_else(|| self.verdict())?,
            };
            match self.ask(holder).await {
                Ok(blocks) => {
                    self.inner.metrics.bytes_read.add(blocks.len() as u64);
                    self.position += blocks.len() as u64;
                    // One that failed here may well have what follows.
                    self.failed.clear();
                    return Ok(Some(blocks));
                }
                Err((_, NodeError::Invalid(reason))) => return Err(FragmentError::Invalid(reason)),
                Err((holder, error)) => self.give_up(holder, error),
            }
        }
        // The node need not be told that the rest of its last block is not wanted.
        self.current = None;
        Ok(None)
    }

    /// The next holder that was not asked for the block at this position yet.
    fn untried(&self) -> Option<usize> {
        let untried = |holder: &usize| self.failed.iter().all(|(failed, _)| failed != holder);
        (0..self.holders.len()).filter(untried).min_by_key(|holder| self.shunned.contains(holder))
    }

    /// The next blocks from one holder; or from another one, where the first is slower than nearly all answers are and
    /// the other is faster. An error comes with the holder that it is of.
    async fn ask(&mut self, holder: usize) -> Result<Blocks, (usize, NodeError)> {
        let stream = self.current.take().map(|(_, stream)| stream);
        let patience = if stream.is_some() { self.inner.hedging.stall() } else { self.inner.hedging.delay() };
        let mut first = pin!(self.attempt(holder, stream));
        let inner = Arc::clone(&self.inner);
        let hedging = &inner.hedging;
        let Some(other) = self.other_than(holder) else {
            let answer = first.await;
            return self.take(holder, answer);
        };
        if let Ok(answer) = timeout(patience, &mut first).await {
            return self.take(holder, answer);
        }
        if !hedging.may_ask() {
            let answer = first.await;
            return self.take(holder, answer);
        }
        inner.metrics.reads_hedged.add(1);
        let second = pin!(self.attempt(other, None));
        match select(first, second).await {
            Either::Left((Ok(answer), _)) => {
                hedging.was_in_vain();
                self.take(holder, Ok(answer))
            }
            Either::Right((Ok(answer), _)) => {
                let member = &self.holders[holder];
                if hedging.lost(member.node) {
                    warn!(node = %member.node, address = %member.address, "a replica is slow: the others are asked first");
                    inner.suspects.punish(member.node, inner.options.penalty);
                }
                self.take(other, Ok(answer))
            }
            // What the other one says is all that is left.
            Either::Left((Err(error), second)) => {
                self.give_up(holder, error);
                let answer = second.await;
                self.take(other, answer)
            }
            Either::Right((Err(error), first)) => {
                self.give_up(other, error);
                let answer = first.await;
                self.take(holder, answer)
            }
        }
    }

    /// Whom to ask as well: one that is as likely to have the block.
    fn other_than(&self, holder: usize) -> Option<usize> {
        let is_fit = |other: &usize| {
            let member = &self.holders[*other];
            *other != holder
                && member.is_in_sync()
                && !self.inner.suspects.holds(member.node)
                && !self.shunned.contains(other)
                && self.failed.iter().all(|(failed, _)| failed != other)
        };
        (0..self.holders.len()).find(is_fit)
    }

    /// Notes who gave the blocks: it is asked for those that follow.
    fn take(
        &mut self,
        holder: usize,
        answer: Result<Answer, NodeError>,
    ) -> Result<Blocks, (usize, NodeError)> {
        let Answer { stream, blocks, took } = answer.map_err(|error| (holder, error))?;
        let node = self.holders[holder].node;
        self.inner.suspects.forgive(node);
        if let Some(took) = took {
            self.inner.hedging.answered(node, took);
        }
        self.current = Some((holder, stream));
        Ok(blocks)
    }

    /// Asks one holder for the next blocks, and verifies them.
    fn attempt(
        &self,
        holder: usize,
        stream: Option<BlockStream>,
    ) -> impl Future<Output = Result<Answer, NodeError>> + Send + use<> {
        let (inner, member) = (Arc::clone(&self.inner), self.holders[holder].clone());
        let (id, range) = (self.file.chunk, self.position..self.end);
        async move {
            let limit = inner.options.progress_timeout;
            let late = |_| NodeError::Unavailable(format!("no progress for {limit:?}"));
            let nonsense = |reason: String| NodeError::Damaged { id, reason };
            let start = stream.is_none().then(Instant::now);
            let mut stream = match stream {
                Some(stream) => stream,
                None => {
                    let node = inner.nodes.node(&member);
                    timeout(limit, node.read(id, range.clone())).await.map_err(late)??
                }
            };
            let blocks = match timeout(limit, stream.next()).await.map_err(late)? {
                Some(blocks) => blocks?,
                None => {
                    return Err(nonsense(format!("the read ended at byte {} of {}", range.start, range.end)));
                }
            };
            if blocks.offset() != range.start || blocks.is_empty() {
                let (len, offset) = (blocks.len(), blocks.offset());
                return Err(nonsense(format!(
                    "{len} bytes at {offset} came in place of those at {}",
                    range.start
                )));
            }
            let took = start.map(|start| start.elapsed());
            let blocks = blocks.verify().map_err(|mismatch| {
                inner.metrics.checksum_mismatches.add(1);
                nonsense(mismatch.to_string())
            })?;
            Ok(Answer { stream, blocks, took })
        }
    }

    /// Leaves a holder for the next one.
    fn give_up(&mut self, holder: usize, error: NodeError) {
        let member = &self.holders[holder];
        warn!(
            chunk = %self.file, node = %member.node, address = %member.address, position = self.position, %error,
            "a replica did not give a block"
        );
        if let NodeError::Unavailable(_) = error {
            self.inner.suspects.punish(member.node, self.inner.options.penalty);
            self.shunned.push(holder);
        }
        self.failed.push((holder, error));
        self.current = None;
        if self.untried().is_some() {
            self.inner.metrics.read_failovers.add(1);
        }
    }

    /// The error when no holder gave the block. A chunk is gone only if all say so; one that can't be asked may have
    /// it.
    fn verdict(&self) -> FragmentError {
        let gone = |error: &NodeError| matches!(error, NodeError::NotFound(_) | NodeError::Deleted(_));
        let counts = |holder: usize| !self.holders[holder].is_behind;
        // One that is behind says nothing by not having it, and nothing by being away.
        let mut holders = self.failed.iter().filter(|(holder, _)| counts(*holder)).peekable();
        if holders.peek().is_some() && holders.all(|(_, error)| gone(error)) {
            return FragmentError::NotFound(self.file);
        }
        let answers = self.failed.iter().map(|(holder, error)| {
            let member = &self.holders[*holder];
            format!("node {} at {}: {error}", member.node, member.address)
        });
        let text = answers.collect::<Vec<_>>().join("; ");
        let answered = |error: &NodeError| gone(error) || matches!(error, NodeError::Damaged { .. });
        if self.failed.iter().all(|(_, error)| answered(error)) {
            return FragmentError::Damaged { file: self.file, reason: text };
        }
        FragmentError::Unavailable(format!("chunk {}: {text}", self.file))
    }
}
