mod backup;
mod crash;
mod faults;
mod model;
mod reopening;

use std::sync::Arc as StdArc;

use super::*;
use crate::meta::{Entry, MemoryMeta, Version, Write, conformance};

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conformance::run_all(|| async { StdArc::new(MemoryMeta::new()) as StdArc<dyn MetaStore> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let stores = std::cell::Cell::new(0);
    conformance::run_all(|| async {
        stores.set(stores.get() + 1);
        let directory = directory.path().join(stores.get().to_string());
        StdArc::new(open(&directory)) as StdArc<dyn MetaStore>
    })
    .await;
}

fn open(directory: &Path) -> EmbeddedMeta {
    EmbeddedMeta::open(directory, EmbeddedOptions::default()).unwrap()
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Transaction {
    Transaction::new().write(Write::Put(key.into(), value.into()))
}

async fn commit(store: &EmbeddedMeta, transaction: Transaction) -> Version {
    match store.transact(transaction).await.unwrap() {
        Outcome::Committed(version) => version,
        Outcome::Conflict(position) => panic!("check {position} was expected to hold"),
    }
}

async fn get(store: &EmbeddedMeta, key: impl Into<Bytes>) -> Option<Entry> {
    store.get(key.into()).await.unwrap()
}
