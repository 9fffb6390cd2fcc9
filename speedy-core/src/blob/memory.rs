use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;

use crate::checksum::{BLOCK_SIZE, covering_blocks, crc32c};
use crate::id::{ChunkId, FileId, GroupId, Owner};
use crate::payload::Payload;
use crate::replicate::{Blocks, ChunkStat, FragmentError, FragmentPage, Fragments, ListCursor};

/// Fragments in memory: nothing outlives it, and no replica stands beside it. For tests, and to try a
/// [`BlobStore`](super::BlobStore) without a disk.
#[derive(Debug, Default)]
pub struct MemoryFragments {
    chunks: Mutex<BTreeMap<ChunkId, (GroupId, Owner, Bytes)>>,
    last: std::sync::atomic::AtomicU64,
}

impl MemoryFragments {
    /// The group of whatever is not written to another one.
    pub const GROUP: GroupId = GroupId::new(1);

    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of chunks held.
    pub fn len(&self) -> usize {
        self.chunks.lock().len()
    }

    /// Whether no chunk is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl Fragments for MemoryFragments {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.write_in(Self::GROUP, owner, payload).await
    }

    async fn write_in(
        &self,
        group: GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        if payload.is_empty() {
            return Err(FragmentError::Invalid("a fragment has at least one byte".into()));
        }
        let mut data = BytesMut::with_capacity(payload.len() as usize);
        for frame in payload.frames() {
            data.extend_from_slice(frame);
        }
        let id = ChunkId::new(self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
        self.chunks.lock().insert(id, (group, owner, data.freeze()));
        Ok(FileId::new(group, id))
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        let found = self.chunks.lock().get(&file.chunk).cloned();
        let (_, _, data) =
            found.filter(|(group, ..)| *group == file.group).ok_or(FragmentError::NotFound(file))?;
        if range.is_empty() || range.end > data.len() as u64 {
            return Err(FragmentError::Invalid(format!(
                "range {range:?} of a chunk of {} bytes",
                data.len()
            )));
        }
        let blocks = covering_blocks(&range, data.len() as u64);
        let data = data.slice(blocks.start as usize..blocks.end as usize);
        let runs: Vec<_> = (0..data.len())
            .step_by(4 * BLOCK_SIZE)
            .map(|at| {
                let run = data.slice(at..data.len().min(at + 4 * BLOCK_SIZE));
                let checksums = run.chunks(BLOCK_SIZE).map(crc32c).collect();
                Ok(Blocks::verified(blocks.start + at as u64, run, checksums))
            })
            .collect();
        Ok(stream::iter(runs).boxed())
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.chunks.lock().remove(&file.chunk);
        Ok(())
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        let after = cursor.and_then(|cursor| cursor.after).map_or(0, |id| id.get() + 1);
        let chunks = self.chunks.lock();
        let mut rest = chunks.range(ChunkId::new(after)..);
        let stat = |(id, (group, owner, data)): (&ChunkId, &(GroupId, Owner, Bytes))| {
            (*group, ChunkStat::new(*id, *owner, data.len() as u64, crc32c(data)))
        };
        let page: Vec<_> = rest.by_ref().take(limit).map(stat).collect();
        let last = page.last().map(|(_, stat)| stat.id);
        let next = rest.next().map(|_| ListCursor { group: Self::GROUP, after: last });
        Ok(FragmentPage { chunks: page, next })
    }
}
