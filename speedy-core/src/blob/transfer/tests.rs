use std::sync::Arc;

use futures_util::StreamExt;

use super::*;
use crate::blob::{BlobInfo, BlobOptions, Collector, MemoryFragments, body_of};
use crate::budget::Budget;
use crate::meta::MemoryMeta;
use crate::replicate::Fragments;

const FRAGMENT: usize = 1000;
const ELSEWHERE: GroupId = GroupId::new(7);

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 977 + seed) as u8).collect()
}

fn store() -> (Arc<MemoryFragments>, BlobStore) {
    let fragments = Arc::new(MemoryFragments::new());
    let none = Duration::ZERO;
    let options = BlobOptions::default().fragment_size(FRAGMENT as u64).unwrap();
    let options = options.dead_grace(none).orphan_grace(none);
    let meta = Arc::new(MemoryMeta::new());
    (fragments.clone(), BlobStore::new(meta, fragments, Budget::new(1 << 20), options))
}

async fn put(store: &BlobStore, content: &[u8]) -> BlobInfo {
    store.put(body_of(content.to_vec()), None, &|_| Transaction::new()).await.unwrap()
}

async fn read(store: &BlobStore, blob: &BlobInfo) -> Result<Vec<u8>, BlobError> {
    let runs: Vec<bytes::Bytes> = store.read(blob, 0..blob.size)?.try_collect().await?;
    Ok(runs.concat())
}

async fn groups(fragments: &MemoryFragments) -> Vec<u32> {
    let page = fragments.list(None, 10_000).await.unwrap();
    page.chunks.iter().map(|(group, _)| group.get()).collect()
}

#[tokio::test]
async fn a_group_is_emptied_while_blobs_are_read_and_its_chunks_are_freed_later() {
    let (fragments, store) = store();
    let contents: Vec<Vec<u8>> = (0..20).map(|seed| bytes(seed * 1234 + 1, seed)).collect();
    let mut blobs = Vec::new();
    for content in &contents {
        blobs.push(put(&store, content).await);
    }
    let transfer =
        Transfer::new(store.clone(), MemoryFragments::GROUP, TransferOptions::default().to(ELSEWHERE));
    let before = transfer.measure().await.unwrap();
    let total: usize = contents.iter().map(Vec::len).sum();
    assert_eq!(before.bytes, total as u64);
    // Open before, read to the end after.
    let mut early: Vec<_> = Vec::new();
    for blob in &blobs {
        let mut reader = store.read(blob, 0..blob.size).unwrap();
        let first = reader.next().await.unwrap().unwrap();
        early.push((first, reader));
    }
    let done = transfer.pass().await.unwrap();
    assert_eq!(
        (done.fragments, done.bytes, done.conflicts, done.failures),
        (before.fragments, total as u64, 0, 0)
    );
    assert_eq!(
        (transfer.moved_bytes(), transfer.measure().await.unwrap()),
        (total as u64, InGroup::default())
    );
    for ((first, rest), content) in early.into_iter().zip(&contents) {
        let rest: Vec<bytes::Bytes> = rest.try_collect().await.unwrap();
        assert_eq!([first.to_vec(), rest.concat()].concat(), *content);
    }
    let mut collector = Collector::new(store.clone());
    for _ in 0..3 {
        collector.pass().await.unwrap();
    }
    assert!(groups(&fragments).await.iter().all(|&group| group == ELSEWHERE.get()));
    for (blob, content) in blobs.iter().zip(&contents) {
        assert_eq!(read(&store, blob).await.unwrap(), *content);
    }
}

#[tokio::test]
async fn a_reader_whose_chunks_are_gone_finds_where_they_went_once() {
    let (fragments, store) = store();
    let content = bytes(20 * FRAGMENT, 3);
    let blob = put(&store, &content).await;
    let mut reader = store.read(&blob, 0..blob.size).unwrap();
    let mut found = reader.next().await.unwrap().unwrap().to_vec();
    let transfer =
        Transfer::new(store.clone(), MemoryFragments::GROUP, TransferOptions::default().to(ELSEWHERE));
    transfer.pass().await.unwrap();
    let page = fragments.list(None, 1000).await.unwrap();
    for (group, stat) in page.chunks.iter().filter(|(group, _)| *group != ELSEWHERE) {
        fragments.delete(FileId::new(*group, stat.id)).await.unwrap();
    }
    while let Some(bytes) = reader.next().await {
        found.extend_from_slice(&bytes.unwrap());
    }
    assert_eq!(found, content);
    // One that is really gone is not looked for again and again.
    let page = fragments.list(None, 1000).await.unwrap();
    fragments.delete(FileId::new(page.chunks[5].0, page.chunks[5].1.id)).await.unwrap();
    assert!(matches!(read(&store, &blob).await, Err(BlobError::Damaged { .. })));
}

#[tokio::test]
async fn a_row_that_changes_meanwhile_is_left_to_the_next_pass() {
    let (fragments, store) = store();
    let blob = put(&store, &bytes(3 * FRAGMENT, 1)).await;
    let transfer =
        Transfer::new(store.clone(), MemoryFragments::GROUP, TransferOptions::default().to(ELSEWHERE));
    let page = store.meta().scan(KeyRange::prefix(keys::LAYOUTS), 10).await.unwrap();
    let entry = &page.entries[0];
    let touch = Transaction::new().write(Write::Put(entry.key.clone(), entry.value.clone()));
    assert!(store.meta().transact(touch).await.unwrap().is_committed());
    let mut done = Transferred::default();
    transfer.move_row(entry, &mut done).await.unwrap();
    assert_eq!((done.conflicts, done.fragments), (1, 0));
    assert_eq!((transfer.moved_bytes(), transfer.switched_bytes()), (3 * FRAGMENT as u64, 0));
    assert!(
        groups(&fragments).await.iter().all(|&group| group != ELSEWHERE.get()),
        "its copies are gone again"
    );
    assert_eq!(transfer.pass().await.unwrap().fragments, 3);
    assert_eq!(transfer.switched_bytes(), 3 * FRAGMENT as u64);
    assert_eq!(read(&store, &blob).await.unwrap(), bytes(3 * FRAGMENT, 1));
}

#[tokio::test]
async fn damage_is_not_moved_and_a_limit_ends_a_pass() {
    let (fragments, store) = store();
    let blob = put(&store, &bytes(40 * FRAGMENT, 1)).await;
    let options = TransferOptions::default().to(ELSEWHERE).most_bytes(FRAGMENT as u64);
    let some = Transfer::new(store.clone(), MemoryFragments::GROUP, options).pass().await.unwrap();
    assert!((1..40).contains(&some.fragments), "{some:?}");
    let page = fragments.list(None, 1000).await.unwrap();
    let (group, stat) = page.chunks.iter().rfind(|(group, _)| *group != ELSEWHERE).unwrap();
    fragments.delete(FileId::new(*group, stat.id)).await.unwrap();
    let rest = Transfer::new(store.clone(), MemoryFragments::GROUP, TransferOptions::default().to(ELSEWHERE));
    let done = rest.pass().await.unwrap();
    assert_eq!((done.failures, done.fragments), (1, 39 - some.fragments));
    let reasons = rest.reasons();
    assert!(reasons.len() == 1 && reasons[0].contains("damaged"), "{reasons:?}");
    let left = store.in_groups().await.unwrap();
    assert_eq!(left[&MemoryFragments::GROUP], InGroup { fragments: 1, bytes: FRAGMENT as u64 });
    assert_eq!(left[&ELSEWHERE].fragments, 39);
    assert!(read(&store, &blob).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn it_keeps_to_its_rate() {
    let (_fragments, store) = store();
    put(&store, &bytes(20 * FRAGMENT, 1)).await;
    let options = TransferOptions::default().to(ELSEWHERE).bytes_per_second(Some(FRAGMENT as u64));
    let start = Instant::now();
    Transfer::new(store, MemoryFragments::GROUP, options).pass().await.unwrap();
    assert!((Duration::from_secs(18)..Duration::from_secs(21)).contains(&start.elapsed()));
}
