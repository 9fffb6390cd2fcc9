//! Several nodes of a kind: one that stands still, one that comes back, and the request that all of them work for.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use speedy_core::budget::Budget;
use speedy_core::checksum::crc32c;
use speedy_core::id::{BlobId, ChunkId, FileId, GroupId, Owner};
use speedy_core::meta::{MemoryMeta, MetaStore};
use speedy_core::payload::Payload;
use speedy_core::placement::{Master, MasterOptions, StoredMaster};
use speedy_core::replicate::{Blocks, FragmentError, FragmentPage, Fragments, ListCursor};
use speedy_core::request::RequestId;
use speedy_services::address::HostPort;
use speedy_services::image::{ImageClient, ImageServer};
use speedy_services::master::{MasterClient, MasterServer};
use speedy_services::meta::{MetaClient, MetaServer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::service::Routes;

use super::{Server, list_of, nobody};

/// Accepts connections and says nothing, as a process that is stopped does.
async fn silent() -> (HostPort, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().into(), listener)
}

async fn master() -> Server {
    let master = StoredMaster::new(Arc::new(MemoryMeta::new()), MasterOptions::default()).await.unwrap();
    Server::start(Routes::new(MasterServer::new(Arc::new(master)))).await
}

fn owner() -> Owner {
    Owner { blob: BlobId::from_bytes([3; 16]), offset: 0 }
}

/// Keeps nothing, notes for which request it was asked, and gives the same byte for whatever is read.
#[derive(Debug, Default)]
struct Noting {
    asked: Mutex<Vec<Option<String>>>,
}

impl Noting {
    fn note(&self) {
        self.asked.lock().push(RequestId::current().map(|id| id.to_string()));
    }
}

#[async_trait]
impl Fragments for Noting {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.write_in(GroupId::new(1), owner, payload).await
    }

    async fn write_in(&self, group: GroupId, _: Owner, _: Payload) -> Result<FileId, FragmentError> {
        self.note();
        Ok(FileId::new(group, ChunkId::new(1)))
    }

    async fn read(
        &self,
        _: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        let blocks = Blocks::verified(range.start, vec![7].into(), vec![crc32c(&[7])]);
        // Asked again when the stream is read, which is after the call was answered.
        let at_poll = RequestId::current().map(|id| id.to_string());
        self.note();
        Ok(stream::once(async move {
            let now = RequestId::current().map(|id| id.to_string());
            assert_eq!(now, at_poll, "the body of an answer is made for the same request");
            Ok(blocks)
        })
        .boxed())
    }

    async fn delete(&self, _: FileId) -> Result<(), FragmentError> {
        self.note();
        Ok(())
    }

    async fn list(&self, _: Option<ListCursor>, _: usize) -> Result<FragmentPage, FragmentError> {
        self.note();
        Ok(FragmentPage { chunks: Vec::new(), next: None })
    }
}

async fn image(fragments: &Arc<Noting>) -> Server {
    Server::start(Routes::new(ImageServer::new(Arc::clone(fragments) as _, Budget::default()))).await
}

#[tokio::test]
async fn a_master_that_stands_still_costs_less_than_a_second_once() {
    let ((stuck, _listener), well) = (silent().await, master().await);
    let client = MasterClient::new(&list_of(&[&stuck, &well.address]));
    let begun = Instant::now();
    client.topology().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..20 {
        client.topology().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
}

/// An address that no connection can be made to: whoever tries waits.
async fn unreachable() -> (HostPort, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Once its queue is full, further attempts get no answer at all.
    let mut held = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        held.push(connected.unwrap());
        assert!(held.len() < 100, "the queue takes any number of connections");
    }
    // As long as the listener is there.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(listener);
    });
    (address.into(), held)
}

#[tokio::test]
async fn a_master_and_an_image_node_that_cannot_be_reached_cost_a_short_time_once() {
    let ((away, _held), well, noting) = (unreachable().await, master().await, Arc::new(Noting::default()));
    let client = MasterClient::new(&list_of(&[&away, &well.address]));
    let begun = Instant::now();
    client.topology().await.unwrap();
    client.topology().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let well = image(&noting).await;
    let client = ImageClient::new(&list_of(&[&away, &well.address]));
    let begun = Instant::now();
    for _ in 0..8 {
        client.write(owner(), Payload::new(vec![vec![1; 1 << 20].into()])).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn when_all_were_away_the_first_that_is_back_is_asked_at_once() {
    let (one, two) = (nobody().await, nobody().await);
    let client = MasterClient::new(&list_of(&[&one, &two]));
    for _ in 0..3 {
        client.topology().await.unwrap_err();
    }
    let stored = StoredMaster::new(Arc::new(MemoryMeta::new()), MasterOptions::default()).await.unwrap();
    let _server = Server::start_at(two, Routes::new(MasterServer::new(Arc::new(stored)))).await;
    let begun = Instant::now();
    client.topology().await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_meta_node_that_stands_still_is_found_out() {
    let (stuck, _listener) = silent().await;
    let well = Server::start(Routes::new(MetaServer::new(Arc::new(MemoryMeta::new())))).await;
    let client = MetaClient::new(&list_of(&[&stuck, &well.address]));
    let begun = Instant::now();
    client.now().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn of_all_image_nodes_that_stand_still_each_is_named() {
    let ((one, _first), (two, _second)) = (silent().await, silent().await);
    let client = ImageClient::new(&list_of(&[&one, &two]));
    let lacks = client.ready().await.unwrap_err();
    for address in [&one, &two] {
        assert!(lacks.contains(&format!("{address} does not answer (no answer in 1 s)")), "{lacks}");
    }
    let noting = Arc::new(Noting::default());
    let well = image(&noting).await;
    assert_eq!(ImageClient::new(&list_of(&[&one, &well.address])).ready().await, Ok(()));
}

#[tokio::test]
async fn writes_go_on_beside_a_node_that_stands_still_and_come_back_to_it() {
    let (stuck, listener) = silent().await;
    let noting = Arc::new(Noting::default());
    let well = image(&noting).await;
    let client = ImageClient::new(&list_of(&[&stuck, &well.address]));
    let write = || client.write(owner(), Payload::new(vec![vec![1; 3 << 20].into()]));
    let begun = Instant::now();
    for _ in 0..8 {
        write().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(noting.asked.lock().len(), 8);
    // It comes back, as a node at the same address.
    drop(listener);
    let back = Arc::new(Noting::default());
    let routes = Routes::new(ImageServer::new(Arc::clone(&back) as _, Budget::default()));
    let _back = Server::start_at(stuck, routes).await;
    let begun = Instant::now();
    while back.asked.lock().is_empty() {
        write().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "it is never asked again");
    }
}

#[tokio::test]
async fn every_call_says_which_request_it_is_for() {
    let noting = Arc::new(Noting::default());
    let server = image(&noting).await;
    let client = ImageClient::new(&server.list());
    let file = FileId::new(GroupId::new(1), ChunkId::new(1));
    let all = async || {
        client.write(owner(), Payload::new(vec![vec![1; 10].into()])).await.unwrap();
        client.delete(file).await.unwrap();
        client.list(None, 1).await.unwrap();
        let runs: Vec<Blocks> = client.read(file, 0..1).await.unwrap().try_collect().await.unwrap();
        assert_eq!(runs.len(), 1);
    };
    let id = RequestId::parse(b"from-the-registry").unwrap();
    id.scope(all()).await;
    all().await;
    let named = vec![Some("from-the-registry".to_owned()); 4];
    assert_eq!(*noting.asked.lock(), [named, vec![None; 4]].concat());
}
