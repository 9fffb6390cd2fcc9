use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use speedy_core::meta::{
    Check, Entry, KeyRange, MemoryMeta, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction, Write,
};
use speedy_services::meta::{MetaClient, MetaServer};
use tonic::service::Routes;

use super::{Server, list_of, nobody};

async fn serve(store: impl MetaStore) -> (Server, MetaClient) {
    let server = Server::start(Routes::new(MetaServer::new(Arc::new(store)))).await;
    let client = MetaClient::new(&server.list());
    (server, client)
}

fn put(key: &'static str, value: &'static str) -> Transaction {
    Transaction::new().write(Write::Put(key.into(), value.into()))
}

#[tokio::test]
async fn what_is_written_is_read_and_scanned() {
    let (_server, client) = serve(MemoryMeta::new()).await;
    let Outcome::Committed(version) = client.transact(put("b", "2")).await.unwrap() else {
        panic!("commits")
    };
    assert!(client.transact(put("a", "1").relaxed()).await.unwrap().is_committed());
    let entry = Entry { key: "b".into(), value: "2".into(), version };
    let found = client.get_many(&["x".into(), "b".into()]).await.unwrap();
    assert_eq!(found, [None, Some(entry.clone())]);
    let page = client.scan(KeyRange::prefix(Bytes::new()), 1).await.unwrap();
    assert_eq!((page.entries.len(), &page.entries[0].key[..]), (1, &b"a"[..]));
    let rest = client.scan(page.next.unwrap(), 10).await.unwrap();
    assert_eq!((rest.entries, rest.next), (vec![entry], None));
    let now = client.now().await.unwrap();
    assert!(client.now().await.unwrap() >= now);
}

#[tokio::test]
async fn checks_decide_and_the_failed_one_is_named() {
    let (_server, client) = serve(MemoryMeta::new()).await;
    let Outcome::Committed(version) = client.transact(put("a", "1")).await.unwrap() else {
        panic!("commits")
    };
    let change = || put("a", "2").check(Check::Version("a".into(), version));
    let empty = Check::RangeEmpty(KeyRange::new("b", "c"));
    assert!(client.transact(change().check(empty)).await.unwrap().is_committed());
    assert_eq!(client.transact(change()).await.unwrap(), Outcome::Conflict(0));
    let late = Transaction::new().check(Check::Absent("z".into())).check(Check::Absent("a".into()));
    assert_eq!(client.transact(late).await.unwrap(), Outcome::Conflict(1));
    let delete = Transaction::new().write(Write::Delete("a".into()));
    assert!(client.transact(delete).await.unwrap().is_committed());
    assert_eq!(client.get("a".into()).await.unwrap(), None);
}

#[tokio::test]
async fn limits_are_refused_as_the_store_refuses_them() {
    let (_server, client) = serve(MemoryMeta::new()).await;
    let local = MemoryMeta::new();
    assert_eq!(client.get(Bytes::new()).await, local.get(Bytes::new()).await);
    let all = || KeyRange::prefix(Bytes::new());
    assert_eq!(client.scan(all(), 0).await, local.scan(all(), 0).await);
    // Larger than a message may be: refused before it reaches the store, and not as something to try again.
    let huge = Transaction::new().write(Write::Put("k".into(), vec![0; 8 << 20].into()));
    assert!(matches!(client.transact(huge).await, Err(MetaError::Invalid(_))));
}

#[tokio::test]
async fn the_largest_answer_arrives() {
    let (_server, client) = serve(MemoryMeta::new()).await;
    let keys: Vec<Bytes> = (0..100).map(|number| format!("key {number}").into()).collect();
    for key in &keys {
        let value = vec![7; speedy_core::meta::MAX_VALUE_LEN];
        let write = Transaction::new().write(Write::Put(key.clone(), value.into()));
        assert!(client.transact(write).await.unwrap().is_committed());
    }
    let found = client.get_many(&keys).await.unwrap();
    assert!(
        found.iter().all(|entry| entry.as_ref().unwrap().value.len() == speedy_core::meta::MAX_VALUE_LEN)
    );
}

/// Commits, and then says that it can't be reached, as often as it is told.
#[derive(Debug)]
struct LosesAnswers {
    store: MemoryMeta,
    lose: AtomicU32,
}

#[async_trait]
impl MetaStore for LosesAnswers {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.store.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.store.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        let outcome = self.store.transact(transaction).await?;
        match self.lose.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(MetaError::Unavailable("the answer was lost".into())),
            Err(_) => Ok(outcome),
        }
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.store.now().await
    }
}

#[tokio::test]
async fn a_lost_answer_is_resolved_under_the_same_id() {
    let (_server, client) = serve(LosesAnswers { store: MemoryMeta::new(), lose: 2.into() }).await;
    let create = put("a", "1").check(Check::Absent("a".into()));
    // Applied twice it would meet its own entry.
    let Outcome::Committed(version) = client.transact(create).await.unwrap() else { panic!("commits once") };
    assert_eq!(client.get("a".into()).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn a_transaction_is_given_up_in_the_end() {
    let (_server, client) = serve(LosesAnswers { store: MemoryMeta::new(), lose: 1000.into() }).await;
    let lost = MetaError::Unavailable("the answer was lost".into());
    assert_eq!(client.transact(put("a", "1")).await, Err(lost));
}

#[tokio::test]
async fn another_address_answers_when_the_first_does_not() {
    let (server, _) = serve(MemoryMeta::new()).await;
    let dead = nobody().await;
    let client = MetaClient::new(&list_of(&[&dead, &server.address]));
    assert!(client.transact(put("a", "1")).await.unwrap().is_committed());
}

#[tokio::test]
async fn who_cannot_be_reached_is_named() {
    let dead = nobody().await;
    let Err(MetaError::Unavailable(text)) = MetaClient::new(&dead.clone().into()).now().await else {
        panic!("nobody answers")
    };
    assert!(text.starts_with(&format!("{dead}: ")) && text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn a_client_outlives_a_restart_of_its_peer() {
    let store = Arc::new(MemoryMeta::new());
    let routes = || Routes::new(MetaServer::new(Arc::clone(&store) as _));
    let server = Server::start(routes()).await;
    let client = MetaClient::new(&server.list());
    assert!(client.transact(put("a", "1")).await.unwrap().is_committed());
    let address = server.address.clone();
    server.stop().await;
    assert!(matches!(client.now().await, Err(MetaError::Unavailable(_))));
    let _server = Server::start_at(address, routes()).await;
    assert!(client.transact(put("b", "2")).await.unwrap().is_committed());
}

#[tokio::test]
async fn an_address_of_another_service_says_so() {
    let server = Server::start(Routes::default()).await;
    let Err(MetaError::Unavailable(text)) = MetaClient::new(&server.list()).now().await else {
        panic!("no such service")
    };
    assert!(text.contains("does not offer this service"), "{text}");
}
