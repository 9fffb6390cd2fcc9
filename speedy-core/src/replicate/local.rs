use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{
    BlockStream, Blocks, ChunkNode, ChunkPage, ChunkStat, Holdings, MAX_CHUNK_LEN, NodeError, RangeEntries,
    WriteHeader,
};
use crate::id::{ChunkId, GroupVersion};
use crate::payload::Frames;
use crate::store::{ChunkInfo, ChunkReader, ChunkStore, ChunkWriter, NewChunk, ReadError, Run, WriteError};
use crate::sync::RwLock;

/// Bytes of frames that go to the store together: a hop to another thread for each frame would cost more than the
/// frame's write. A write holds at most two such batches.
const BATCH: usize = 1 << 20;

/// Runs that are read in one hop. A read holds at most twice as many.
const RUNS: usize = 2;

/// A chunk node over a store in this process.
///
/// Disk work runs on tokio's pool for blocking work, so many tasks at once as the node allows; no task waits for a
/// client there, so stalled clients hold memory but never a thread.
///
/// # Cancellation
/// Dropping the future of a write ends it at the next batch. If its commit has already begun it goes through: to the
/// caller that is an answer that got lost, and a second try succeeds.
#[derive(Debug)]
pub struct StoreNode {
    store: Arc<ChunkStore>,
    version: Arc<RwLock<Option<GroupVersion>>>,
    threads: Arc<Semaphore>,
}

impl StoreNode {
    /// Disk operations at once, where nothing else is said. More than there are processors, for most of them wait
    /// for the disk, and those that commit share their syncs.
    pub const CONCURRENCY: usize = 64;

    /// A node over a store. It refuses writes and deletes until it knows the [version](Self::set_version) of its
    /// group.
    pub fn new(store: Arc<ChunkStore>) -> Self {
        Self::with_concurrency(store, Self::CONCURRENCY)
    }

    /// As [`new`](Self::new), with this many disk operations at once, at least one.
    pub fn with_concurrency(store: Arc<ChunkStore>, operations: usize) -> Self {
        let threads = Arc::new(Semaphore::new(operations.clamp(1, Semaphore::MAX_PERMITS)));
        Self { store, version: Arc::new(RwLock::new(None)), threads }
    }

    /// The store.
    pub fn store(&self) -> &Arc<ChunkStore> {
        &self.store
    }

    /// Sets the version of the group that writes must name; `None` while it is not known. When this returns no write of
    /// an earlier version is confirmed any more: those whose commit had begun have ended. So it may take as long as
    /// a commit does.
    pub fn set_version(&self, version: Option<GroupVersion>) {
        *self.version.write() = version;
    }

    /// The version of the group, where it is known.
    pub fn version(&self) -> Option<GroupVersion> {
        *self.version.read()
    }

    fn check_version(&self, version: GroupVersion) -> Result<(), NodeError> {
        check_version(*self.version.read(), version)
    }

    /// What makes a change under a version: it holds the version in place until the change is done.
    fn under<T: Send + 'static>(
        &self,
        version: GroupVersion,
        change: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
    ) -> impl FnOnce() -> Result<T, NodeError> + Send + 'static {
        let current = Arc::clone(&self.version);
        move || {
            let current = current.read();
            check_version(*current, version)?;
            change()
        }
    }

    /// Runs disk work on another thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<ChunkStore>) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let store = Arc::clone(&self.store);
        finished(spawn(&self.threads, move || work(&store)).await).await
    }
}

fn check_version(current: Option<GroupVersion>, named: GroupVersion) -> Result<(), NodeError> {
    match current {
        None => Err(NodeError::Unavailable("it has not yet learnt the version of its group".into())),
        Some(current) if current != named => Err(NodeError::WrongVersion { current }),
        Some(_) => Ok(()),
    }
}

/// Starts blocking work once one of the threads is free.
async fn spawn<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let permit = Arc::clone(threads).acquire_owned().await.expect("the semaphore is never closed");
    // What the store has to say there belongs to the request too.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        let result = span.in_scope(work);
        drop(permit);
        result
    })
}

async fn finished<T>(task: JoinHandle<Result<T, NodeError>>) -> Result<T, NodeError> {
    // Blocking work is cut off only by the end of the runtime, or by a panic, which has been reported already.
    task.await.unwrap_or_else(|error| Err(NodeError::Unavailable(format!("the work was cut off: {error}"))))
}

#[async_trait]
impl ChunkNode for StoreNode {
    async fn write(&self, header: WriteHeader, mut frames: Frames) -> Result<u32, NodeError> {
        self.check_version(header.version)?;
        if !(1..=MAX_CHUNK_LEN).contains(&header.length) {
            let text = format!("a chunk of {} bytes; a chunk has 1 to {MAX_CHUNK_LEN}", header.length);
            return Err(NodeError::Invalid(text));
        }
        let mut writer = None;
        // The batch that is being written while the next one is gathered.
        let mut underway: Option<JoinHandle<Result<Held, NodeError>>> = None;
        let mut received = 0;
        let mut is_last = false;
        while !is_last {
            let mut batch = Vec::new();
            let mut size = 0;
            while size < BATCH {
                let Some(frame) = frames.next().await else {
                    is_last = true;
                    break;
                };
                let frame = frame.map_err(|error| NodeError::Body(error.to_string()))?;
                size += frame.len();
                batch.push(frame);
            }
            received += size as u64;
            if received > header.length || (is_last && received < header.length) {
                let text = format!("{} bytes were announced, and {received} came", header.length);
                return Err(NodeError::Body(text));
            }
            if let Some(task) = underway.take() {
                writer = Some(finished(task).await?);
            }
            let (writer, store, chunk) = (writer.take(), Arc::clone(&self.store), new_chunk(&header));
            let heals = header.heals;
            let put = move || put(writer, &store, chunk, heals, batch);
            if is_last {
                // The version may have changed while the frames came.
                let checksum = header.checksum;
                let commit = self.under(header.version, move || commit(put()?, checksum));
                finished(spawn(&self.threads, commit).await).await?;
                return Ok(1);
            }
            underway = Some(spawn(&self.threads, move || put().map(Held::new)).await);
        }
        unreachable!("the last batch returns")
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        let state = ReadState::new(&self.threads);
        // What the system has in memory comes at once: a hop to another thread and back would take longer.
        let mut begun = None;
        if let Poll::Ready(mut reader) = self.store.try_read(id, range.clone()).map_err(from_read)? {
            if let Poll::Ready(first) = try_next_blocks(&mut reader)? {
                let state = ReadState { ready: first.into_iter().collect(), idle: Some(reader), ..state };
                return Ok(stream::unfold(state, ReadState::next).boxed());
            }
            begun = Some(reader);
        }
        let read = move |store: &Arc<ChunkStore>| {
            let mut reader = match begun {
                Some(reader) => reader,
                None => store.read(id, range).map_err(from_read)?,
            };
            Ok((next_blocks(&mut reader)?, reader))
        };
        let (first, reader) = self.run(read).await?;
        let state = ReadState { ready: first.into_iter().collect(), ..state }.read_ahead(reader).await;
        Ok(stream::unfold(state, ReadState::next).boxed())
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        self.run(move |store| store.stat(id).map(|info| stat_of(&info)).map_err(from_read)).await
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        let store = Arc::clone(&self.store);
        let delete = self.under(version, move || store.delete(id, version).map_err(from_write));
        finished(spawn(&self.threads, delete).await).await
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        self.run(move |store| {
            let page = store.list(after, limit).map_err(from_read)?;
            Ok(ChunkPage { chunks: page.chunks.iter().map(stat_of).collect(), more: page.more })
        })
        .await
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        let version = Arc::clone(&self.version);
        self.run(move |store| {
            // First: it is set only once all commits under an earlier one have ended.
            let version = *version.read();
            Ok(Holdings { version, digests: store.digests() })
        })
        .await
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        self.run(move |store| {
            let mut entries = RangeEntries::default();
            for (id, length) in store.entries(range) {
                match length {
                    Some(length) => entries.chunks.push((id, length)),
                    None => entries.deleted.push(id),
                }
            }
            Ok(entries)
        })
        .await
    }
}

/// A writer between two batches. To give a write up touches the disk, so it never happens on an asynchronous worker,
/// whoever drops this.
struct Held(Option<ChunkWriter>);

impl Held {
    fn new(writer: ChunkWriter) -> Self {
        Self(Some(writer))
    }

    fn into_inner(mut self) -> Option<ChunkWriter> {
        self.0.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(writer), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || writer.abort());
        }
    }
}

fn new_chunk(header: &WriteHeader) -> NewChunk {
    NewChunk::new(header.id, header.owner, header.length, header.version)
}

/// Writes a batch, beginning the chunk with the first one.
fn put(
    writer: Option<Held>,
    store: &ChunkStore,
    chunk: NewChunk,
    heals: bool,
    batch: Vec<Bytes>,
) -> Result<ChunkWriter, NodeError> {
    let mut writer = match writer.and_then(Held::into_inner) {
        Some(writer) => writer,
        None if heals => store.heal(chunk).map_err(from_write)?,
        None => store.begin(chunk).map_err(from_write)?,
    };
    for frame in batch {
        writer.write_shared(&frame).map_err(from_write)?;
    }
    Ok(writer)
}

fn commit(writer: ChunkWriter, checksum: u32) -> Result<(), NodeError> {
    let found = writer.checksum();
    if found != checksum {
        return Err(NodeError::Body(format!(
            "its checksum is {found:08x}, and {checksum:08x} was announced"
        )));
    }
    writer.commit().map(drop).map_err(from_write)
}

/// The state of a read between two blocks of its stream.
struct ReadState {
    threads: Arc<Semaphore>,
    ready: VecDeque<Blocks>,
    /// The reader, as long as the system has in memory what it reads.
    idle: Option<ChunkReader>,
    /// Otherwise the runs that are read while those that are ready are consumed; the reader comes back with them while
    /// there is more.
    ahead: Option<JoinHandle<ReadAhead>>,
}

type ReadAhead = Result<(VecDeque<Blocks>, ChunkReader), NodeError>;

impl ReadState {
    fn new(threads: &Arc<Semaphore>) -> Self {
        Self { threads: Arc::clone(threads), ready: VecDeque::new(), idle: None, ahead: None }
    }

    async fn read_ahead(mut self, mut reader: ChunkReader) -> Self {
        if reader.remaining() > 0 {
            let read = move || {
                let mut runs = VecDeque::with_capacity(RUNS);
                while let Some(blocks) = next_blocks(&mut reader)? {
                    runs.push_back(blocks);
                    if runs.len() == RUNS {
                        break;
                    }
                }
                Ok((runs, reader))
            };
            self.ahead = Some(spawn(&self.threads, read).await);
        }
        self
    }

    async fn next(mut self) -> Option<(Result<Blocks, NodeError>, Self)> {
        loop {
            if let Some(blocks) = self.ready.pop_front() {
                return Some((Ok(blocks), self));
            }
            if let Some(mut reader) = self.idle.take() {
                // Nothing here ever waits, and others want to get on too.
                tokio::task::consume_budget().await;
                match try_next_blocks(&mut reader) {
                    Ok(Poll::Ready(blocks)) => {
                        self.ready.extend(blocks);
                        if self.ready.is_empty() {
                            return None;
                        }
                        self.idle = Some(reader);
                    }
                    Ok(Poll::Pending) => self = self.read_ahead(reader).await,
                    Err(error) => return Some((Err(error), self)),
                }
            } else {
                match finished(self.ahead.take()?).await {
                    Ok((runs, reader)) => {
                        self.ready = runs;
                        self = self.read_ahead(reader).await;
                    }
                    Err(error) => return Some((Err(error), self)),
                }
            }
        }
    }
}

fn try_next_blocks(reader: &mut ChunkReader) -> Result<Poll<Option<Blocks>>, NodeError> {
    Ok(reader.try_next_run().map_err(from_read)?.map(|run| run.map(blocks_of)))
}

fn next_blocks(reader: &mut ChunkReader) -> Result<Option<Blocks>, NodeError> {
    Ok(reader.next_run().map_err(from_read)?.map(blocks_of))
}

fn blocks_of(run: Run) -> Blocks {
    Blocks::verified(run.offset, run.data, run.checksums)
}

fn stat_of(info: &ChunkInfo) -> ChunkStat {
    ChunkStat::new(info.id, info.owner, info.length, info.checksum)
}

fn from_write(error: WriteError) -> NodeError {
    match error {
        WriteError::Deleted(id) => NodeError::Deleted(id),
        WriteError::Conflict(id) => NodeError::Conflict(id),
        WriteError::Damaged { id, reason } => NodeError::Damaged { id, reason },
        WriteError::InvalidLength(_) => NodeError::Invalid(error.to_string()),
        WriteError::WrongLength { .. } => NodeError::Body(error.to_string()),
        WriteError::Full { .. } => NodeError::Full(error.to_string()),
        WriteError::Disk { .. } | WriteError::GaveUp { .. } | WriteError::ReadOnly => {
            NodeError::Unavailable(error.to_string())
        }
    }
}

fn from_read(error: ReadError) -> NodeError {
    match error {
        ReadError::NotFound(id) => NodeError::NotFound(id),
        ReadError::Deleted(id) => NodeError::Deleted(id),
        ReadError::Damaged { id, reason } => NodeError::Damaged { id, reason },
        ReadError::InvalidRange { .. } => NodeError::Invalid(error.to_string()),
        ReadError::Io { .. } | ReadError::Unavailable { .. } => NodeError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::checksum::crc32c;
    use crate::id::{BlobId, Owner};
    use crate::payload::BodyError;
    use crate::store::StoreOptions;

    const VERSION: GroupVersion = GroupVersion::new(5);

    fn node() -> (tempfile::TempDir, StoreNode) {
        let dir = tempfile::tempdir().unwrap();
        let node = StoreNode::new(Arc::new(ChunkStore::open(dir.path(), StoreOptions::default()).unwrap()));
        node.set_version(Some(VERSION));
        (dir, node)
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i / 251 + i) as u8).collect()
    }

    fn header(id: u64, bytes: &[u8]) -> WriteHeader {
        let owner = Owner { blob: BlobId::from_bytes([1; 16]), offset: 0 };
        WriteHeader::new(ChunkId::new(id), owner, bytes.len() as u64, crc32c(bytes), VERSION)
    }

    fn frames(bytes: &[u8], size: usize) -> Frames {
        let frames: Vec<_> = bytes.chunks(size).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
        stream::iter(frames).boxed()
    }

    async fn collect(mut stream: BlockStream) -> Result<Vec<u8>, NodeError> {
        let mut bytes = Vec::new();
        while let Some(blocks) = stream.next().await {
            bytes.extend_from_slice(&blocks?.into_bytes().unwrap());
        }
        Ok(bytes)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_does_what_every_chunk_node_must() {
        let mut directories = Vec::new();
        crate::replicate::conformance::run_all(|| {
            let (directory, node) = node();
            node.set_version(Some(GroupVersion::new(1)));
            directories.push(directory);
            async move { Arc::new(node) as Arc<dyn ChunkNode> }
        })
        .await;
    }

    #[tokio::test]
    async fn chunks_of_one_and_of_many_batches_come_back() {
        let (_dir, node) = node();
        for (id, length) in [1, 5000, BATCH, BATCH + 1, 4 << 20].into_iter().enumerate() {
            let bytes = content(length);
            let header = header(id as u64, &bytes);
            node.write(header.clone(), frames(&bytes, 16 << 10)).await.unwrap();
            node.write(header.clone(), frames(&bytes, 100_000)).await.unwrap();
            let whole = node.read(header.id, 0..header.length).await.unwrap();
            assert_eq!(collect(whole).await.unwrap(), bytes);
            let stat = node.stat(header.id).await.unwrap();
            assert_eq!(
                (stat.length, stat.checksum, stat.owner),
                (header.length, header.checksum, header.owner)
            );
        }
        let tail = node.read(ChunkId::new(4), (4 << 20) - 1..4 << 20).await.unwrap();
        assert_eq!(collect(tail).await.unwrap(), content(4 << 20)[(4 << 20) - (64 << 10)..]);
        assert_eq!(node.list(None, 3).await.unwrap().chunks.len(), 3);
        node.delete(ChunkId::new(0), VERSION).await.unwrap();
        assert_eq!(node.stat(ChunkId::new(0)).await, Err(NodeError::Deleted(ChunkId::new(0))));
    }

    #[tokio::test]
    async fn a_body_that_is_not_what_was_announced_stores_nothing() {
        let (_dir, node) = node();
        for length in [5000, 3 << 20] {
            let bytes = content(length);
            let right = header(1, &bytes);
            let mut other = right.clone();
            other.checksum ^= 1;
            let broken = frames(&bytes[..length / 2], 16 << 10)
                .chain(stream::iter([Err(BodyError("the client went away".into()))]))
                .boxed();
            let cases = [
                (other, frames(&bytes, 16 << 10)),
                (right.clone(), frames(&bytes[1..], 16 << 10)),
                (right.clone(), frames(&[&bytes[..], b"x"].concat(), 16 << 10)),
                (right.clone(), broken),
            ];
            for (header, frames) in cases {
                let error = node.write(header, frames).await.unwrap_err();
                assert!(matches!(error, NodeError::Body(_)), "{error}");
            }
            assert_eq!(node.stat(right.id).await, Err(NodeError::NotFound(right.id)));
        }
        let none = node.write(header(1, b""), frames(b"", 1)).await;
        assert!(matches!(none, Err(NodeError::Invalid(_))));
    }

    #[tokio::test]
    async fn only_the_current_version_writes_and_deletes() {
        let (_dir, node) = node();
        let id = ChunkId::new(1);
        node.set_version(None);
        let error = node.write(header(1, b"x"), frames(b"x", 1)).await.unwrap_err();
        assert!(matches!(error, NodeError::Unavailable(_)), "{error}");
        node.set_version(Some(VERSION.next()));
        let wrong = NodeError::WrongVersion { current: VERSION.next() };
        assert_eq!(node.write(header(1, b"x"), frames(b"x", 1)).await, Err(wrong.clone()));
        assert_eq!(node.delete(id, VERSION).await, Err(wrong));
        node.delete(id, VERSION.next()).await.unwrap();
    }

    #[tokio::test]
    async fn a_stalled_writer_holds_no_thread_and_leaves_nothing_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(ChunkStore::open(dir.path(), StoreOptions::default()).unwrap());
        let node = Arc::new(StoreNode::with_concurrency(Arc::clone(&store), 1));
        node.set_version(Some(VERSION));
        let bytes = content(3 << 20);
        let mut stalled = Vec::new();
        let mut senders = Vec::new();
        for id in 0..4 {
            let (sender, receiver) = mpsc::channel(200);
            for frame in bytes[..2 << 20].chunks(16 << 10) {
                sender.send(Ok(Bytes::copy_from_slice(frame))).await.unwrap();
            }
            let (node, header) = (Arc::clone(&node), header(id, &bytes));
            let frames = ReceiverStream::new(receiver).boxed();
            stalled.push(tokio::spawn(async move { node.write(header, frames).await }));
            senders.push(sender);
        }
        let healthy = node.write(header(9, &bytes), frames(&bytes, 16 << 10));
        tokio::time::timeout(Duration::from_secs(30), healthy).await.unwrap().unwrap();
        let slow = node.read(ChunkId::new(9), 0..3 << 20).await.unwrap();
        let healthy = collect(node.read(ChunkId::new(9), 0..3 << 20).await.unwrap());
        assert_eq!(tokio::time::timeout(Duration::from_secs(30), healthy).await.unwrap().unwrap(), bytes);
        assert_eq!(collect(slow).await.unwrap(), bytes);
        for write in stalled {
            write.abort();
            assert!(write.await.unwrap_err().is_cancelled());
        }
        let page = node.list(None, 10).await.unwrap();
        assert_eq!(page.chunks.iter().map(|c| c.id.get()).collect::<Vec<_>>(), [9]);
    }
}
