//! Garbage collection: its rules one by one, at random, on disk; and what repositories take.

mod disk;
mod images;
mod images_simulation;
mod races;
mod rules;
mod simulation;
mod storm;
mod usage;
mod v1;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use serde_json::json;
use speedy_core::blob::{BlobError, BlobOptions, BlobStore, MemoryFragments, body_of};
use speedy_core::budget::Budget;
use speedy_core::digest::Digest;
use speedy_core::meta::{
    Entry, KeyRange, MemoryMeta, MetaError, MetaStore, Outcome, Page, Timestamp, Transaction,
};
use tokio::sync::oneshot;

use super::*;
use crate::registry::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::registry::names::{Reference, RepositoryName, Tag};
use crate::registry::repositories::{PutError, StoredContent};

const HOUR: Duration = Duration::from_secs(3600);
const FRAGMENT: u64 = 1000;
/// What nobody needs is kept for so long in these tests.
const UNREFERENCED: Duration = Duration::from_secs(24 * 3600);
const UNTAGGED: Duration = Duration::from_secs(48 * 3600);

/// A metadata store in memory with a clock that the test sets. While it is closed, every operation waits until the
/// test lets it pass.
#[derive(Debug, Default)]
struct Stepped {
    inner: MemoryMeta,
    clock: AtomicU64,
    is_closed: std::sync::atomic::AtomicBool,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Stepped {
    fn advance(&self, by: Duration) {
        self.clock.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    async fn pass(&self) {
        if self.is_closed.load(Ordering::Relaxed) {
            let (go, wait) = oneshot::channel();
            self.waiting.lock().push(go);
            // Dropped without a word when the test is over.
            let _ = wait.await;
        }
    }
}

#[async_trait]
impl MetaStore for Stepped {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.pass().await;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.pass().await;
        self.inner.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.pass().await;
        self.inner.transact(transaction).await
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        Ok(self.time())
    }
}

/// What outlives a process.
#[derive(Clone, Debug)]
struct World {
    meta: Arc<Stepped>,
    fragments: Arc<MemoryFragments>,
}

/// A process: a registry and a collector over the world.
#[derive(Clone, Debug)]
struct Node {
    world: World,
    repositories: Repositories,
    gc: Gc,
}

/// A manifest with the blobs that it names.
#[derive(Clone, Debug)]
struct Image {
    digest: Digest,
    manifest: Manifest,
    bytes: Bytes,
    blobs: Vec<Bytes>,
}

impl World {
    fn new() -> Self {
        let meta = Stepped::default();
        meta.advance(1000 * HOUR);
        Self { meta: Arc::new(meta), fragments: Arc::new(MemoryFragments::new()) }
    }

    fn node(&self) -> Node {
        // Time also jumps between the writing of a chunk and the commit of its blob, which then fails and is tried again.
        let options = BlobOptions::default().fragment_size(FRAGMENT).unwrap();
        let blobs = BlobStore::new(
            Arc::clone(&self.meta) as _,
            Arc::clone(&self.fragments) as _,
            Budget::new(64 << 20),
            options,
        );
        let ages = Ages { untagged: Some(UNTAGGED), unreferenced: Some(UNREFERENCED) };
        let options = GcOptions::default().ages(ages).rate(None);
        let gc = Gc::new(blobs.clone(), options, "here");
        Node { world: self.clone(), repositories: Repositories::new(blobs), gc }
    }

    async fn keys(&self, prefix: &'static str) -> Vec<String> {
        let page = self.meta.scan(KeyRange::prefix(prefix), 10_000).await.unwrap();
        page.entries.iter().map(|entry| entry.key.escape_ascii().to_string()).collect()
    }

    /// Nothing is left of any blob, manifest or repository.
    async fn assert_empty(&self) {
        for prefix in ["R/", "V/", "b/", "d/", "f/", "l/", "q/", "u/"] {
            assert_eq!(self.keys(prefix).await, Vec::<String>::new(), "{prefix}");
        }
        assert_eq!(self.fragments.len(), 0, "chunks");
    }
}

impl Node {
    fn blobs(&self) -> &BlobStore {
        self.repositories.blobs()
    }

    async fn push_blob(&self, name: &RepositoryName, content: &Bytes) -> Result<Digest, BlobError> {
        let link = Repositories::link(name);
        Ok(self.blobs().put(body_of(content.clone()), None, &link).await?.digest)
    }

    async fn put(&self, name: &RepositoryName, image: &Image, tags: &[&str]) -> Result<(), PutError> {
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        self.repositories.put_manifest(name, &image.digest, &image.manifest, &image.bytes, &tags, None).await
    }

    async fn push(&self, name: &RepositoryName, image: &Image, tags: &[&str]) {
        for blob in &image.blobs {
            self.push_blob(name, blob).await.unwrap();
        }
        self.put(name, image, tags).await.unwrap();
    }

    async fn has(&self, name: &RepositoryName, image: &Image) -> bool {
        self.manifest(name, &image.digest).await.is_some()
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Option<crate::registry::repositories::StoredManifest> {
        self.repositories.manifest(name, &Reference::Digest(*digest)).await.unwrap()
    }

    async fn read(&self, blob: &speedy_core::blob::BlobInfo) -> Result<Vec<u8>, BlobError> {
        let runs: Vec<Bytes> = self.blobs().read(blob, 0..blob.size)?.try_collect().await?;
        Ok(runs.concat())
    }

    /// All blobs of an image are in a repository, with the right bytes.
    async fn assert_whole(&self, name: &RepositoryName, image: &Image) {
        let stored = self.manifest(name, &image.digest).await.expect("the manifest is there");
        let bytes = self.repositories.manifest_bytes(&stored).await.unwrap();
        assert_eq!(bytes, image.bytes);
        for content in &image.blobs {
            let blob = self.repositories.blob(name, &Digest::sha256(content)).await.unwrap();
            let blob = blob.unwrap_or_else(|| panic!("{} is not in {name}", Digest::sha256(content)));
            assert_eq!(self.read(&blob).await.unwrap(), content[..]);
        }
    }

    /// Walks with the policy of the process, once what it removed and what became of it no more.
    async fn collect(&self) -> Tally {
        self.gc.run_now(self.gc.ages(), None).await.unwrap().tally
    }

    /// Walks and lets time pass until there is nothing more to free.
    async fn collect_all(&self) -> Tally {
        let mut all = Tally::default();
        // What became of a chunk that came late is remembered for a month.
        for _ in 0..40 {
            let tally = self.collect().await;
            all = all.then(&tally);
            let waits = tally.waiting_manifests
                + tally.waiting_images
                + tally.waiting_links
                + tally.waiting_blobs
                + tally.spared_manifests
                + tally.spared_links
                + tally.suspects;
            // A session keeps what is in its repository, and a dead blob its chunks, until their time is over.
            let rest = self.world.keys("q/").await.len() + self.world.keys("u/").await.len();
            if tally.removed() + waits == 0 && rest == 0 {
                return all;
            }
            self.world.meta.advance(UNTAGGED + HOUR);
        }
        panic!("the collector does not come to an end: {all:?}");
    }
}

impl Image {
    /// Whether it is an index that names this one.
    fn names(&self, child: &Self) -> bool {
        self.manifest.needs.iter().any(|need| need.digest == child.digest)
    }

    fn new(blobs: Vec<Bytes>, length: usize, subject: Option<&Self>) -> Self {
        let descriptor = |content: &Bytes| {
            let digest = Digest::sha256(content).to_string();
            json!({ "mediaType": "x", "digest": digest, "size": content.len() })
        };
        let mut document = json!({
            "schemaVersion": 2,
            "config": descriptor(&blobs[0]),
            "layers": blobs[1..].iter().map(descriptor).collect::<Vec<_>>(),
        });
        if let Some(subject) = subject {
            let digest = subject.digest.to_string();
            document["subject"] =
                json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": subject.bytes.len() });
        }
        Self::of(OCI_MANIFEST, document.to_string(), length, blobs)
    }

    fn index(children: &[&Self]) -> Self {
        let descriptor = |child: &&Self| {
            let (kind, digest) = (child.manifest.media_type, child.digest.to_string());
            json!({ "mediaType": kind, "digest": digest, "size": child.bytes.len() })
        };
        let manifests: Vec<_> = children.iter().map(descriptor).collect();
        let document = json!({ "schemaVersion": 2, "manifests": manifests });
        Self::of(OCI_INDEX, document.to_string(), 0, Vec::new())
    }

    fn of(kind: &str, document: String, length: usize, blobs: Vec<Bytes>) -> Self {
        let blanks = " ".repeat(length.saturating_sub(document.len()));
        let bytes = Bytes::from(document + &blanks);
        let manifest = Manifest::parse(Some(kind), &bytes).unwrap();
        Self { digest: Digest::sha256(&bytes), manifest, bytes, blobs }
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Some bytes, others for each number.
fn content(number: u64, length: usize) -> Bytes {
    let seed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..length as u64).map(|at| (at.wrapping_add(seed).wrapping_mul(seed) >> 56) as u8).collect()
}

/// The bytes of blobs, chunks counted.
async fn stored_bytes(world: &World) -> u64 {
    use speedy_core::replicate::Fragments;
    let (mut bytes, mut cursor) = (0, None);
    loop {
        let page = world.fragments.list(cursor, 1000).await.unwrap();
        bytes += page.chunks.iter().map(|(_, chunk)| chunk.length).sum::<u64>();
        cursor = page.next;
        if cursor.is_none() {
            return bytes;
        }
    }
}

fn is_inline(stored: &crate::registry::repositories::StoredManifest) -> bool {
    matches!(stored.content, StoredContent::Inline(_))
}
