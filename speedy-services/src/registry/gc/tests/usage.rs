//! What repositories take, beside a scan of everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use speedy_core::digest::Algorithm;

use super::*;
use crate::registry::repositories::Usage;

const NAMES: [&str; 4] = ["a", "a/b", "a-b", "z"];

#[derive(Clone, Debug)]
enum Change {
    Push { repository: usize, content: u64, by_sha512: bool },
    Mount { from: usize, to: usize, content: u64 },
    Unlink { repository: usize, content: u64 },
    Collect,
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, content) = (0..NAMES.len(), 0..6u64);
    prop_oneof![
        4 => (repository.clone(), content.clone(), any::<bool>())
            .prop_map(|(repository, content, by_sha512)| Change::Push { repository, content, by_sha512 }),
        3 => (repository.clone(), repository.clone(), content.clone())
            .prop_map(|(from, to, content)| Change::Mount { from, to, content }),
        3 => (repository, content).prop_map(|(repository, content)| Change::Unlink { repository, content }),
        1 => Just(Change::Collect),
    ]
}

/// By reading every link there is.
async fn scanned(world: &World) -> BTreeMap<String, Usage> {
    let mut blobs: BTreeMap<String, BTreeMap<Bytes, u64>> = BTreeMap::new();
    let mut holders: BTreeMap<Bytes, BTreeSet<String>> = BTreeMap::new();
    for entry in world.meta.scan(KeyRange::prefix("R/b/"), 10_000).await.unwrap().entries {
        let end = entry.key.iter().position(|&byte| byte == 0).unwrap();
        let name = String::from_utf8(entry.key[4..end].to_vec()).unwrap();
        // A blob id of 16 bytes, and the size as a varint: the fields of the record.
        let (blob, size) = (entry.value.slice(2..18), &entry.value[18..]);
        let size = match size {
            [] => 0,
            [_, varint @ ..] => varint.iter().rev().fold(0, |size, &byte| size << 7 | u64::from(byte & 0x7f)),
        };
        holders.entry(blob.clone()).or_default().insert(name.clone());
        blobs.entry(name).or_default().insert(blob, size);
    }
    let usage = |blobs: &BTreeMap<Bytes, u64>| {
        let shared = |blob: &Bytes| holders[blob].len() > 1;
        let logical: u64 = blobs.values().sum();
        let shared = blobs.iter().filter(|(blob, _)| shared(blob)).map(|(_, size)| size).sum();
        Usage { blobs: blobs.len() as u64, logical, shared, unique: logical - shared }
    };
    blobs.iter().map(|(name, blobs)| (name.clone(), usage(blobs))).collect()
}

async fn apply(node: &Node, change: &Change) {
    let bytes = |number: u64| content(number, [0, 1, 700, 999, 5000, 123][number as usize]);
    match *change {
        Change::Push { repository, content, by_sha512 } => {
            let (name, bytes) = (name(NAMES[repository]), bytes(content));
            let digest = by_sha512.then(|| Digest::of(Algorithm::Sha512, &bytes));
            node.blobs().put(body_of(bytes), digest, &Repositories::link(&name)).await.unwrap();
        }
        Change::Mount { from, to, content } => {
            let digest = Digest::sha256(&bytes(content));
            node.repositories.mount(&name(NAMES[from]), &name(NAMES[to]), &digest).await.unwrap();
        }
        Change::Unlink { repository, content } => {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Digest::of(algorithm, &bytes(content));
                node.repositories.unlink(&name(NAMES[repository]), &digest).await.unwrap();
            }
        }
        Change::Collect => {
            node.world.meta.advance(UNREFERENCED);
            node.collect().await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn usage_is_what_a_scan_of_everything_says(changes in prop::collection::vec(change(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = World::new().node();
            for change in &changes {
                apply(&node, change).await;
                let scanned = scanned(&node.world).await;
                let (mut found, mut last) = (BTreeMap::new(), None::<String>);
                while let Some(name) = node.repositories.next_repository(last.as_deref()).await.unwrap() {
                    found.insert(name.to_string(), node.repositories.usage(&name).await.unwrap());
                    last = Some(name.to_string());
                }
                assert_eq!(found, scanned, "after {change:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_repository_of_manifests_alone_is_listed_too() {
    let node = World::new().node();
    let index = Image::index(&[]);
    node.put(&name("m"), &index, &["latest"]).await.unwrap();
    node.push_blob(&name("n"), &content(1, 10)).await.unwrap();
    let mut found = Vec::new();
    let mut last = None::<String>;
    while let Some(name) = node.repositories.next_repository(last.as_deref()).await.unwrap() {
        found.push((name.to_string(), node.repositories.usage(&name).await.unwrap().logical));
        last = Some(name.to_string());
    }
    assert_eq!(found, [("m".to_owned(), 0), ("n".to_owned(), 10)]);
}
