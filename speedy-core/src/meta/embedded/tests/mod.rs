use super::*;

use std::sync::Arc as StdArc;

use crate::meta::{MemoryMeta, conformance};

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
        StdArc::new(EmbeddedMeta::open(directory, EmbeddedOptions::default()).unwrap())
            as StdArc<dyn MetaStore>
    })
    .await;
}
