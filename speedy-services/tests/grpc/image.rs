use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use speedy_core::budget::Budget;
use speedy_core::checksum::{BLOCK_SIZE, crc32c};
use speedy_core::id::{BlobId, ChunkId, FileId, GroupId, Owner};
use speedy_core::payload::Payload;
use speedy_core::replicate::{Blocks, ChunkStat};
use speedy_core::replicate::{FragmentError, FragmentPage, Fragments, ListCursor};
use speedy_proto::image::v1 as proto;
use speedy_proto::image::v1::fragment_service_client::FragmentServiceClient;
use speedy_proto::image::v1::write_request::Part;
use speedy_services::image::{ImageClient, ImageServer};
use tonic::service::Routes;

use super::{Server, list_of, nobody};

const GROUP: GroupId = GroupId::new(6);
const MIB: usize = 1 << 20;

/// Fragments in memory, whose reads may break off.
#[derive(Debug, Default)]
struct Kept {
    chunks: Mutex<BTreeMap<u64, (Owner, Bytes)>>,
    break_at: Option<u64>,
    reads: Mutex<Vec<Range<u64>>>,
}

#[async_trait]
impl Fragments for Kept {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        let mut chunks = self.chunks.lock();
        let id = chunks.len() as u64;
        chunks.insert(id, (owner, payload.frames().concat().into()));
        Ok(FileId::new(GROUP, ChunkId::new(id)))
    }

    async fn write_in(
        &self,
        group: GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        match group == GROUP {
            true => self.write(owner, payload).await,
            false => Err(FragmentError::Unavailable(format!("there is no group {group}"))),
        }
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        self.reads.lock().push(range.clone());
        let Some((_, data)) = self.chunks.lock().get(&file.chunk.get()).cloned() else {
            return Err(FragmentError::NotFound(file));
        };
        let break_at = self.break_at;
        let starts = (range.start..range.end).step_by(BLOCK_SIZE);
        let blocks = starts.map(move |start| {
            if break_at.is_some_and(|at| start >= at) {
                return Err(FragmentError::Unavailable("broke off".into()));
            }
            let run = data.slice(start as usize..data.len().min(start as usize + BLOCK_SIZE));
            let checksum = crc32c(&run);
            Ok(Blocks::verified(start, run, vec![checksum]))
        });
        Ok(stream::iter(blocks).boxed())
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.chunks.lock().remove(&file.chunk.get());
        Ok(())
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        let after = cursor.and_then(|cursor| cursor.after).map_or(0, |after| after.get() + 1);
        let chunks = self.chunks.lock();
        let stat = |(id, (owner, data)): (&u64, &(Owner, Bytes))| {
            (GROUP, ChunkStat::new(ChunkId::new(*id), *owner, data.len() as u64, crc32c(data)))
        };
        let chunks: Vec<_> = chunks.range(after..).take(limit).map(stat).collect();
        let next = chunks.last().map(|(group, stat)| ListCursor { group: *group, after: Some(stat.id) });
        Ok(FragmentPage { chunks, next })
    }
}

async fn serve_with(fragments: &Arc<Kept>, budget: Budget) -> Server {
    Server::start(Routes::new(ImageServer::new(Arc::clone(fragments) as _, budget))).await
}

async fn serve(fragments: &Arc<Kept>) -> Server {
    serve_with(fragments, Budget::default()).await
}

fn owner(offset: u64) -> Owner {
    Owner { blob: BlobId::from_bytes([3; 16]), offset }
}

fn sample(length: usize) -> Bytes {
    (0..length).map(|at| (at % 253) as u8).collect::<Vec<_>>().into()
}

async fn read(client: &ImageClient, file: FileId, range: Range<u64>) -> Result<Vec<u8>, FragmentError> {
    let blocks = client.read(file, range).await?;
    let runs: Vec<Bytes> = blocks.map_ok(|run| run.into_bytes().unwrap()).try_collect().await?;
    Ok(runs.concat())
}

#[tokio::test]
async fn fragments_cross_whole_and_are_listed() {
    let kept = Arc::new(Kept::default());
    let server = serve(&kept).await;
    let client = ImageClient::new(&server.list());
    let data = sample(2 * MIB + 5);
    let payload = Payload::new(vec![data.slice(..7), data.slice(7..)]);
    let file = client.write(owner(0), payload).await.unwrap();
    assert_eq!(file.group, GROUP);
    assert_eq!(kept.chunks.lock()[&0], (owner(0), data.clone()));
    assert_eq!(read(&client, file, 0..data.len() as u64).await.unwrap(), data);
    client.write(owner(1), Payload::new(vec![sample(3)])).await.unwrap();
    let first = client.list(None, 1).await.unwrap();
    let stat = ChunkStat::new(file.chunk, owner(0), data.len() as u64, crc32c(&data));
    assert_eq!(first.chunks, [(GROUP, stat)]);
    assert_eq!(client.list(first.next, 10).await.unwrap().chunks[0].1.owner, owner(1));
    client.delete(file).await.unwrap();
    assert_eq!(read(&client, file, 0..1).await, Err(FragmentError::NotFound(file)));
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_is_not_kept() {
    let kept = Arc::new(Kept::default());
    let server = serve(&kept).await;
    let mut raw = FragmentServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let data = sample(100);
    let owner = speedy_proto::chunk::v1::Owner { blob: vec![3; 16].into(), offset: 0 };
    for (length, checksum, expected) in [
        (99, crc32c(&data), tonic::Code::InvalidArgument),
        (101, crc32c(&data), tonic::Code::InvalidArgument),
        (0, crc32c(&data), tonic::Code::InvalidArgument),
        ((64 << 20) + 1, crc32c(&data), tonic::Code::InvalidArgument),
        // Damaged on the way: the sender still has it.
        (100, crc32c(&data) ^ 1, tonic::Code::Unavailable),
    ] {
        let header = proto::WriteHeader { owner: Some(owner.clone()), length, checksum, group: None };
        let parts = [Part::Header(header), Part::Frame(data.clone())];
        let messages = stream::iter(parts.map(|part| proto::WriteRequest { part: Some(part) }));
        let status = raw.write(messages).await.unwrap_err();
        assert_eq!(status.code(), expected, "{length} {checksum}: {status}");
    }
    assert!(kept.chunks.lock().is_empty());
}

#[tokio::test]
async fn a_write_waits_for_room_in_the_budget() {
    let kept = Arc::new(Kept::default());
    let budget = Budget::new(4 << 20);
    let server = serve_with(&kept, budget.clone()).await;
    let client = ImageClient::new(&server.list());
    let held = budget.reserve(3 << 20).await;
    let write = client.write(owner(0), Payload::new(vec![sample(2 * MIB)]));
    tokio::pin!(write);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut write).await.is_err());
    assert!(kept.chunks.lock().is_empty());
    drop(held);
    write.await.unwrap();
    assert_eq!(budget.available(), budget.total(), "what was reserved comes back");
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_elsewhere_where_it_stopped() {
    let data = sample(5 * BLOCK_SIZE + 9);
    let chunks = || Mutex::new(BTreeMap::from([(0, (owner(0), data.clone()))]));
    let at = 2 * BLOCK_SIZE as u64;
    let breaks = Arc::new(Kept { chunks: chunks(), break_at: Some(at), ..Kept::default() });
    let whole = Arc::new(Kept { chunks: chunks(), ..Kept::default() });
    let (first, second) = (serve(&breaks).await, serve(&whole).await);
    let client = ImageClient::new(&list_of(&[&first.address, &second.address]));
    let file = FileId::new(GROUP, ChunkId::new(0));
    let length = data.len() as u64;
    assert_eq!(read(&client, file, 0..length).await.unwrap(), data);
    assert_eq!(breaks.reads.lock().len(), 1);
    assert!(whole.reads.lock().iter().eq([&(at..length)]));
}

#[tokio::test]
async fn a_read_that_breaks_off_everywhere_ends_with_the_error() {
    let chunks = Mutex::new(BTreeMap::from([(0, (owner(0), sample(3 * BLOCK_SIZE)))]));
    let breaks = Arc::new(Kept { chunks, break_at: Some(BLOCK_SIZE as u64), ..Kept::default() });
    let server = serve(&breaks).await;
    let client = ImageClient::new(&server.list());
    let file = FileId::new(GROUP, ChunkId::new(0));
    let end = read(&client, file, 0..3 * BLOCK_SIZE as u64).await;
    assert_eq!(end, Err(FragmentError::Unavailable("broke off".into())));
}

#[tokio::test]
async fn load_is_spread_and_a_dead_node_is_passed_over() {
    let (one, two) = (Arc::new(Kept::default()), Arc::new(Kept::default()));
    let (first, second, dead) = (serve(&one).await, serve(&two).await, nobody().await);
    let client = ImageClient::new(&list_of(&[&first.address, &dead, &second.address]));
    for number in 0..12 {
        client.write(owner(number), Payload::new(vec![sample(10)])).await.unwrap();
    }
    let counts = [one.chunks.lock().len(), two.chunks.lock().len()];
    assert_eq!(counts.iter().sum::<usize>(), 12);
    assert!(counts.iter().all(|&count| count >= 4), "{counts:?}");
}

/// A blob is read with fragments open ahead, which nobody reads from yet. However many there are, whoever is read from
/// must not wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn reads_that_stand_open_do_not_hold_up_others() {
    let kept = Arc::new(Kept::default());
    let data = sample(8 * MIB);
    let file = kept.write(owner(0), Payload::new(vec![data.clone()])).await.unwrap();
    let server = serve(&kept).await;
    let client = ImageClient::new(&server.list());
    let all = 0..data.len() as u64;
    let reads = async {
        let mut open = Vec::new();
        for _ in 0..100 {
            let mut blocks = client.read(file, all.clone()).await.unwrap();
            blocks.next().await.unwrap().unwrap();
            open.push(blocks);
        }
        read(&client, file, all.clone()).await.unwrap()
    };
    let found = tokio::time::timeout(Duration::from_secs(30), reads)
        .await
        .expect("it waits for those that stand open");
    assert!(found == data);
}
