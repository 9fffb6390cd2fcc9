mod again;
mod bulk;
mod pending;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments, body_of, references};
use speedy_core::budget::Budget;
use speedy_core::digest::{Algorithm, Digest};
use speedy_core::meta::{
    Entry, KeyRange, MemoryMeta, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction, Write,
};

use super::*;
use crate::registry::manifest::{Manifest, OCI_MANIFEST};
use crate::registry::names::{Reference, RepositoryName, Tag};
use again::Pause;

/// A store that lets others go first, before and after each operation, so that every order is met.
#[derive(Debug, Default)]
struct Yielding(MemoryMeta, Pause);

#[async_trait]
impl MetaStore for Yielding {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.1.at_read(keys).await;
        tokio::task::yield_now().await;
        let entries = self.0.get_many(keys).await;
        tokio::task::yield_now().await;
        entries
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        tokio::task::yield_now().await;
        self.0.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.1.at_write(&transaction).await;
        tokio::task::yield_now().await;
        let outcome = self.0.transact(transaction).await;
        tokio::task::yield_now().await;
        outcome
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.0.now().await
    }
}

struct Bench {
    meta: Arc<Yielding>,
    repositories: Repositories,
    name: RepositoryName,
}

/// A manifest and its bytes.
struct Image {
    digest: Digest,
    manifest: Manifest,
    bytes: Bytes,
}

impl Bench {
    fn new() -> Self {
        let meta = Arc::new(Yielding::default());
        let blobs = BlobStore::new(
            meta.clone(),
            Arc::new(MemoryFragments::new()),
            Budget::default(),
            BlobOptions::default(),
        );
        Self { meta, repositories: Repositories::new(blobs), name: name("a/b") }
    }

    async fn push(&self, content: &[u8]) -> Digest {
        let link = Repositories::link(&self.name);
        self.repositories.blobs().put(body_of(content.to_vec()), None, &link).await.unwrap().digest
    }

    /// An image of `layers` layers, all pushed, padded to at least `length` bytes.
    async fn image(&self, layers: u32, length: usize) -> Image {
        let mut descriptors = Vec::new();
        for layer in 0..layers {
            let digest = self.push(&layer.to_be_bytes()).await;
            descriptors.push(json!({ "mediaType": "x", "digest": digest.to_string(), "size": 4 }));
        }
        let config = self.push(b"config").await;
        let document = json!({
            "schemaVersion": 2,
            "config": { "mediaType": "x", "digest": config.to_string(), "size": 6 },
            "layers": descriptors,
        });
        let document = document.to_string();
        let blanks = " ".repeat(length.saturating_sub(document.len()));
        let bytes = Bytes::from(document + &blanks);
        let manifest = Manifest::parse(Some(OCI_MANIFEST), &bytes).unwrap();
        Image { digest: Digest::sha256(&bytes), manifest, bytes }
    }

    async fn put(&self, image: &Image, tags: &[&str]) -> Result<(), PutError> {
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        self.repositories
            .put_manifest(&self.name, &image.digest, &image.manifest, &image.bytes, &tags, None)
            .await
    }

    async fn delete(&self, image: &Image) -> bool {
        self.repositories.delete_manifest(&self.name, &image.digest).await.unwrap()
    }

    async fn is_there(&self, image: &Image) -> bool {
        let reference = Reference::Digest(image.digest);
        self.repositories.manifest(&self.name, &reference).await.unwrap().is_some()
    }

    async fn count(&self, range: KeyRange) -> usize {
        self.meta.scan(range, 10_000).await.unwrap().entries.len()
    }

    /// The number of commits so far: this is one.
    async fn commits(&self) -> u64 {
        let count = Transaction::new().write(Write::Put("count".into(), Bytes::new()));
        match self.meta.transact(count).await.unwrap() {
            Outcome::Committed(version) => version.0,
            Outcome::Conflict(_) => panic!("nothing was checked"),
        }
    }

    async fn keys(&self, prefix: &'static str) -> usize {
        self.count(KeyRange::prefix(prefix)).await
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_manifest_holds_all_that_it_names_however_much_that_is() {
    // Around what fits into one transaction, and far beyond; in the record and in a blob of its own.
    for (layers, length) in
        [(0, 0), (57, 0), (58, 0), (59, 0), (60, 0), (61, 0), (300, 0), (3, 100_000), (900, 0)]
    {
        let bench = Bench::new();
        let image = bench.image(layers, length).await;
        let own = usize::from(image.bytes.len() > 64 * 1024);
        bench.put(&image, &["latest", "v1"]).await.unwrap();
        assert_eq!(bench.keys("f/").await, layers as usize + 1 + own, "{layers}");
        assert_eq!(bench.keys("R/n/").await, 0, "{layers}");
        for need in &image.manifest.needs {
            let blob = bench.repositories.blob(&bench.name, &need.digest).await.unwrap().unwrap();
            assert_eq!(bench.count(references(blob.id)).await, 1);
            let deleted = bench.repositories.blobs().delete(blob.id).await;
            assert!(matches!(deleted, Err(BlobError::Invalid(_))), "{deleted:?}");
        }
        // Again, and with another tag, and then away.
        bench.put(&image, &[]).await.unwrap();
        bench.put(&image, &["v2"]).await.unwrap();
        assert_eq!(bench.keys("R/x/").await, 3);
        assert!(bench.delete(&image).await && !bench.delete(&image).await);
        assert_eq!((bench.keys("f/").await, bench.keys("R/x/").await, bench.keys("R/t/").await), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_and_deletes_at_once_never_leave_a_manifest_without_references() {
    let bench = Arc::new(Bench::new());
    for (layers, length) in [(5, 0), (58, 0), (150, 0), (5, 100_000)] {
        let image = Arc::new(bench.image(layers, length).await);
        let held = image.manifest.needs.len() + usize::from(length > 0);
        for round in 0..60 {
            let changes = (0..6).map(|number| {
                let (bench, image) = (bench.clone(), image.clone());
                tokio::spawn(async move {
                    if number % 3 == 2 {
                        bench.delete(&image).await;
                    } else {
                        bench.put(&image, &["x", "y", "z"][..number % 3 + number / 3]).await.unwrap();
                    }
                })
            });
            for change in join_all(changes).await {
                change.unwrap();
            }
            if bench.is_there(&image).await {
                assert!(bench.keys("f/").await >= held, "round {round} of {layers} layers");
            }
            // No tag points to nothing, and the index of tags has each once.
            let tags = bench.repositories.tags(&bench.name, None, 100).await.unwrap().unwrap_or_default();
            for tag in &tags.names {
                let reference = Reference::Tag(tag.parse().unwrap());
                assert!(
                    bench.repositories.manifest(&bench.name, &reference).await.unwrap().is_some(),
                    "{tag}"
                );
            }
            assert_eq!(bench.keys("R/x/").await, tags.names.len());
        }
        bench.put(&image, &[]).await.unwrap();
        bench.delete(&image).await;
        assert_eq!((bench.keys("f/").await, bench.keys("R/n/").await), (0, 0), "{layers}");
    }
}

#[tokio::test]
async fn a_blob_that_died_is_missed() {
    let bench = Bench::new();
    let image = bench.image(3, 0).await;
    let dead = image.manifest.needs[1].digest;
    let blob = bench.repositories.blob(&bench.name, &dead).await.unwrap().unwrap();
    bench.repositories.blobs().delete(blob.id).await.unwrap();
    assert_eq!(bench.put(&image, &["latest"]).await, Err(PutError::Missing(vec![dead])));
    assert_eq!(bench.keys("f/").await, 0);

    // The same content, pushed elsewhere, is another blob: this repository does not see it.
    let elsewhere = name("elsewhere");
    let link = Repositories::link(&elsewhere);
    bench.repositories.blobs().put(body_of(0u32.to_be_bytes().to_vec()), None, &link).await.unwrap();
    assert_eq!(bench.repositories.blob(&bench.name, &dead).await.unwrap(), None);
    assert_eq!(bench.put(&image, &["latest"]).await, Err(PutError::Missing(vec![dead])));
    bench.push(&0u32.to_be_bytes()).await;
    bench.put(&image, &["latest"]).await.unwrap();
}

#[tokio::test]
async fn one_blob_under_two_digests_takes_one_reference() {
    let bench = Bench::new();
    let config = bench.push(b"config").await;
    let other = Digest::of(Algorithm::Sha512, b"config");
    let link = Repositories::link(&bench.name);
    bench.repositories.blobs().put(body_of(&b"config"[..]), Some(other), &link).await.unwrap();
    let descriptor = |digest: Digest| json!({ "mediaType": "x", "digest": digest.to_string(), "size": 6 });
    let document = json!({ "schemaVersion": 2, "config": descriptor(config), "layers": [descriptor(other)] })
        .to_string();
    let manifest = Manifest::parse(Some(OCI_MANIFEST), document.as_bytes()).unwrap();
    let image = Image { digest: Digest::sha256(document.as_bytes()), manifest, bytes: document.into() };
    bench.put(&image, &["latest"]).await.unwrap();
    assert_eq!(bench.keys("f/").await, 1);

    // Taken out under one name it is still there under the other, and its holder is known.
    assert!(bench.repositories.unlink(&bench.name, &config).await.unwrap());
    assert!(bench.repositories.blob(&bench.name, &other).await.unwrap().is_some());
    assert_eq!(bench.repositories.holders(&other, 10).await.unwrap(), std::slice::from_ref(&bench.name));
    assert!(bench.delete(&image).await);
    assert_eq!(bench.keys("f/").await, 0);
}

#[tokio::test]
async fn a_broken_manifest_can_be_deleted() {
    let bench = Bench::new();
    let image = bench.image(2, 100_000).await;
    bench.put(&image, &["latest"]).await.unwrap();
    // Its bytes are gone from storage.
    let stored = bench.repositories.manifest(&bench.name, &Reference::Digest(image.digest)).await.unwrap();
    let super::manifests::StoredContent::Blob(blob) = &stored.unwrap().content else { panic!("kept inline") };
    let layout = [b"l/", &blob.id.as_bytes()[..]].concat();
    for entry in bench.meta.scan(KeyRange::prefix(layout), 100).await.unwrap().entries {
        let gone = Transaction::new().write(Write::Delete(entry.key));
        assert!(bench.meta.transact(gone).await.unwrap().is_committed());
    }
    assert!(bench.delete(&image).await);
    assert!(!bench.is_there(&image).await);
    // What it named is kept: better too much than too little.
    assert_eq!(bench.keys("f/").await, 3);
}
