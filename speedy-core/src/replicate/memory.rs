use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};

use super::{
    BlockStream, Blocks, ChunkNode, ChunkPage, ChunkStat, Holdings, MAX_CHUNK_LEN, NodeError, RangeEntries,
    WriteHeader,
};
use crate::checksum::{BLOCK_SIZE, covering_blocks, crc32c};
use crate::id::{ChunkId, GroupVersion};
use crate::payload::Frames;
use crate::ranges::{Digester, range_of};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// Blocks that one item of a read carries.
const RUN: usize = 4 * BLOCK_SIZE;

/// A chunk node in memory: nothing outlives it. For tests, with faults on demand, and the reference for what the
/// others must do. Clones share the chunks and the faults.
#[derive(Clone, Debug)]
pub struct MemoryNode {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    faults: Mutex<MemoryFaults>,
    runs_read: AtomicU64,
}

#[derive(Debug)]
struct State {
    version: GroupVersion,
    chunks: BTreeMap<ChunkId, (ChunkStat, Bytes)>,
    deleted: BTreeSet<ChunkId>,
}

/// What is wrong with a [`MemoryNode`]; by default nothing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MemoryFaults {
    /// It can't be reached.
    pub down: bool,
    /// It never answers.
    pub hangs: bool,
    /// It has no room.
    pub full: bool,
    /// Time that each call, and each run of blocks that is read, takes.
    pub delay: Duration,
    /// Writes that are carried out, but whose answer is lost.
    pub lose_answers: u32,
    /// Reads break off at this offset of every chunk.
    pub break_reads_at: Option<u64>,
    /// Reads hang at this offset of every chunk.
    pub hang_reads_at: Option<u64>,
    /// The byte at this offset of every chunk is wrong when it is read.
    pub corrupt_byte: Option<u64>,
}

impl MemoryNode {
    /// An empty node that accepts this version of its group.
    pub fn new(version: GroupVersion) -> Self {
        let state = State { version, chunks: BTreeMap::new(), deleted: BTreeSet::new() };
        let shared =
            Shared { state: Mutex::new(state), faults: Mutex::default(), runs_read: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the node accept another version of its group.
    pub fn set_version(&self, version: GroupVersion) {
        self.shared.state.lock().version = version;
    }

    /// Changes what is wrong with the node.
    ///
    /// ```
    /// # use speedy_core::{id::GroupVersion, replicate::MemoryNode};
    /// let node = MemoryNode::new(GroupVersion::new(1));
    /// node.faults(|faults| faults.down = true);
    /// ```
    pub fn faults(&self, change: impl FnOnce(&mut MemoryFaults)) {
        change(&mut self.shared.faults.lock());
    }

    /// The ids of its live chunks, in order.
    pub fn ids(&self) -> Vec<ChunkId> {
        self.shared.state.lock().chunks.keys().copied().collect()
    }

    /// Runs of blocks that readers have taken so far.
    pub fn runs_read(&self) -> u64 {
        self.shared.runs_read.load(Ordering::Relaxed)
    }

    /// What every call does first.
    async fn answer(&self) -> Result<MemoryFaults, NodeError> {
        let faults = self.shared.faults.lock().clone();
        if faults.hangs {
            std::future::pending::<()>().await;
        }
        if !faults.delay.is_zero() {
            tokio::time::sleep(faults.delay).await;
        }
        match faults.down {
            true => Err(NodeError::Unavailable("connection refused".into())),
            false => Ok(faults),
        }
    }

    /// The run of blocks at `at`, as the faults of the moment make it.
    async fn run(&self, data: Bytes, at: u64, end: u64) -> Result<Blocks, NodeError> {
        let faults = self.answer().await?;
        let mut end = end.min(at + RUN as u64);
        let reached = |limit: Option<u64>| limit.is_some_and(|limit| at >= limit);
        if reached(faults.hang_reads_at) {
            std::future::pending::<()>().await;
        }
        if reached(faults.break_reads_at) {
            return Err(NodeError::Unavailable("connection reset".into()));
        }
        for limit in [faults.break_reads_at, faults.hang_reads_at].into_iter().flatten() {
            if limit < end {
                end = covering_blocks(&(at..limit), end).end;
            }
        }
        let run = data.slice(at as usize..end as usize);
        let checksums = run.chunks(BLOCK_SIZE).map(crc32c).collect();
        let mut run = BytesMut::from(run);
        if let Some(byte) = faults.corrupt_byte.filter(|byte| (at..end).contains(byte)) {
            run[(byte - at) as usize] ^= 1;
        }
        self.shared.runs_read.fetch_add(1, Ordering::Relaxed);
        Ok(Blocks::unverified(at, run.freeze(), checksums).expect("a run begins and ends with its blocks"))
    }
}

impl State {
    fn check_version(&self, version: GroupVersion) -> Result<(), NodeError> {
        match version == self.version {
            true => Ok(()),
            false => Err(NodeError::WrongVersion { current: self.version }),
        }
    }

    fn chunk(&self, id: ChunkId) -> Result<&(ChunkStat, Bytes), NodeError> {
        match self.chunks.get(&id) {
            Some(chunk) => Ok(chunk),
            None if self.deleted.contains(&id) => Err(NodeError::Deleted(id)),
            None => Err(NodeError::NotFound(id)),
        }
    }
}

/// The whole body, if it is the one that the header announces.
async fn receive(header: &WriteHeader, mut frames: Frames) -> Result<Bytes, NodeError> {
    let mut body = BytesMut::new();
    while let Some(frame) = frames.next().await {
        body.extend_from_slice(&frame.map_err(|error| NodeError::Body(error.to_string()))?);
        if body.len() as u64 > header.length {
            return Err(NodeError::Body(format!("more than the {} bytes announced", header.length)));
        }
    }
    if (body.len() as u64) < header.length {
        return Err(NodeError::Body(format!("{} of {} bytes", body.len(), header.length)));
    }
    if crc32c(&body) != header.checksum {
        return Err(NodeError::Body("the checksum is not the one announced".into()));
    }
    Ok(body.freeze())
}

#[async_trait]
impl ChunkNode for MemoryNode {
    async fn write(&self, header: WriteHeader, frames: Frames) -> Result<u32, NodeError> {
        let faults = self.answer().await?;
        if header.length == 0 || header.length > MAX_CHUNK_LEN {
            return Err(NodeError::Invalid(format!("a chunk of {} bytes", header.length)));
        }
        self.shared.state.lock().check_version(header.version)?;
        if faults.full {
            return Err(NodeError::Full("0 bytes free".into()));
        }
        let body = receive(&header, frames).await?;
        {
            let mut state = self.shared.state.lock();
            // The version may have changed while the body came.
            state.check_version(header.version)?;
            match state.chunk(header.id) {
                Err(NodeError::Deleted(id)) => return Err(NodeError::Deleted(id)),
                Ok((_, held)) if *held != body => return Err(NodeError::Conflict(header.id)),
                Ok(_) => {}
                Err(_) => {
                    let stat = ChunkStat::new(header.id, header.owner, header.length, header.checksum);
                    state.chunks.insert(header.id, (stat, body));
                }
            }
        }
        let mut faults = self.shared.faults.lock();
        if faults.lose_answers > 0 {
            faults.lose_answers -= 1;
            return Err(NodeError::Unavailable("connection reset".into()));
        }
        Ok(1)
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        self.answer().await?;
        let (stat, data) = self.shared.state.lock().chunk(id)?.clone();
        if range.is_empty() || range.end > stat.length {
            return Err(NodeError::Invalid(format!("bytes {range:?} of a chunk of {}", stat.length)));
        }
        let covered = covering_blocks(&range, stat.length);
        let node = self.clone();
        let runs = stream::try_unfold(covered.start, move |at| {
            let (node, data) = (node.clone(), data.clone());
            async move {
                if at >= covered.end {
                    return Ok(None);
                }
                let run = node.run(data, at, covered.end).await?;
                let next = at + run.len() as u64;
                Ok(Some((run, next)))
            }
        });
        Ok(runs.boxed())
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        self.answer().await?;
        self.shared.state.lock().chunk(id).map(|(stat, _)| *stat)
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        self.answer().await?;
        let mut state = self.shared.state.lock();
        state.check_version(version)?;
        state.chunks.remove(&id);
        state.deleted.insert(id);
        Ok(())
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        self.answer().await?;
        let state = self.shared.state.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = state.chunks.range((start, Bound::Unbounded)).map(|(_, (stat, _))| *stat);
        let chunks = rest.by_ref().take(limit).collect();
        Ok(ChunkPage { chunks, more: rest.next().is_some() })
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        self.answer().await?;
        let state = self.shared.state.lock();
        let mut digester = Digester::default();
        state.chunks.keys().for_each(|&id| digester.add(id, false));
        state.deleted.iter().for_each(|&id| digester.add(id, true));
        Ok(Holdings { version: Some(state.version), digests: digester.finish() })
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        self.answer().await?;
        let state = self.shared.state.lock();
        let chunks = state.chunks.iter().filter(|(id, _)| range_of(**id) == range);
        Ok(RangeEntries {
            chunks: chunks.map(|(&id, (stat, _))| (id, stat.length)).collect(),
            deleted: state.deleted.iter().copied().filter(|&id| range_of(id) == range).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::run_all(|| async {
            Arc::new(MemoryNode::new(GroupVersion::new(1))) as Arc<dyn ChunkNode>
        })
        .await;
    }
}
