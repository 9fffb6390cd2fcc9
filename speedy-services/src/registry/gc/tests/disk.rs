//! On disk: what is freed is free for others.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use speedy_core::embedded::{Embedded, EmbeddedOptions, OpenError};
use speedy_core::store::{CompactionOptions, StoreOptions};
use speedy_core::{meta, store};

use super::*;

/// A process over a directory, which frees at once what nobody needs.
async fn open(directory: &Path) -> (Embedded, Node) {
    let none = Duration::ZERO;
    let blobs = BlobOptions::default().fragment_size(20_000).unwrap();
    let blobs = blobs.upload_expiry(none).dead_grace(none).orphan_grace(none);
    // Small volumes, so that room which is kept for what comes next does not hide what is freed.
    let chunks = StoreOptions::default().volume_size(1 << 20).preallocation(64 << 10);
    let options = EmbeddedOptions::default().memory(64 << 20).blobs(blobs).store(chunks);
    let began = Instant::now();
    let embedded = loop {
        match Embedded::open(directory, options.clone()).await {
            // What the walk that was ended had begun on another thread goes on to its own end, and holds them so long.
            Err(
                OpenError::Store(store::OpenError::Locked { .. })
                | OpenError::Meta(meta::OpenError::Locked { .. }),
            ) if began.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(1)).await
            }
            opened => break opened.unwrap(),
        }
    };
    let gc = Gc::new(embedded.blobs().clone(), GcOptions::default(), "here");
    let node = Node { world: World::new(), repositories: Repositories::new(embedded.blobs().clone()), gc };
    (embedded, node)
}

/// Bytes of disk that the files in a directory take.
fn taken(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => taken(&entry.path()),
            metadata => metadata.blocks() * 512,
        })
        .sum()
}

async fn collect(node: &Node) -> Tally {
    let now = Ages { untagged: Some(Duration::ZERO), unreferenced: Some(Duration::ZERO) };
    let mut all = Tally::default();
    for _ in 0..3 {
        all = all.then(&node.gc.run_now(now, None).await.unwrap().tally);
        // Time is the store's: what was seen in one walk is older in the next.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_on_disk_comes_back_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let chunks = directory.path().join("chunks");
    let (a, kept) = (name("a"), Image::new(vec![content(1, 50_000), content(2, 70_000)], 0, None));
    let image = |number: u64| {
        let length = 10_000 + 7_001 * number as usize;
        let blobs = vec![content(2, 70_000), content(1000 + number, length), content(2000 + number, 100)];
        Image::new(blobs, if number.is_multiple_of(5) { 80_000 } else { 0 }, None)
    };
    let (embedded, node) = open(directory.path()).await;
    node.push(&a, &kept, &["kept"]).await;
    // Whatever there is besides, once.
    collect(&node).await;
    embedded.store().compact(&CompactionOptions::default().dead_percent(0)).unwrap();
    let baseline = (embedded.store().usage().unwrap().bytes, taken(&chunks));
    assert_eq!(baseline.0, 120_000);
    for number in 0..20 {
        let name = name(["a", "b", "c"][number as usize % 3]);
        node.push(&name, &image(number), if number.is_multiple_of(2) { &["old"] } else { &[] }).await;
    }
    let mut upload = node.blobs().begin_upload("a").await.unwrap();
    upload.append(None, body_of(content(5, 300_000))).await.unwrap();
    let full = (embedded.store().usage().unwrap().bytes, taken(&chunks));
    assert!(full.0 > baseline.0 + 1_500_000 && full.1 > baseline.1 + 1_500_000, "{baseline:?} {full:?}");
    // The process dies in the middle of a walk, and the next one does the rest.
    for text in ["a", "b", "c"] {
        node.repositories.delete_tag(&name(text), &tag("old")).await.unwrap();
    }
    let walk = tokio::spawn({
        let node = node.clone();
        async move { collect(&node).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    walk.abort();
    let _ = walk.await;
    drop((upload, node, embedded));
    let (embedded, node) = open(directory.path()).await;
    // The lease of the one that died is left to run out, or given back: here it is taken over.
    let forget =
        Transaction::new().write(speedy_core::meta::Write::Delete(Bytes::from_static(b"c/collector")));
    assert!(node.repositories.meta().transact(forget).await.unwrap().is_committed());
    collect(&node).await;
    node.assert_whole(&a, &kept).await;
    let catalog = node.repositories.catalog(None, 10).await.unwrap().names;
    assert_eq!(catalog, ["a"]);
    assert_eq!(embedded.store().usage().unwrap().bytes, baseline.0);
    embedded.store().compact(&CompactionOptions::default().dead_percent(0)).unwrap();
    let now = taken(&chunks);
    assert!(now <= baseline.1 + 300_000, "{now} bytes on disk, {} at the beginning", baseline.1);
    node.assert_whole(&a, &kept).await;
}
