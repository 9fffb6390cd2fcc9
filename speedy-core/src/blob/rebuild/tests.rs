use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::*;
use crate::blob::{BlobOptions, Collected, MemoryFragments, Upload, body_of};
use crate::budget::Budget;
use crate::id::{ChunkId, FileId, Owner};
use crate::meta::{KeyRange, MemoryMeta, MetaStore, Transaction, Write};
use crate::payload::Payload;
use crate::replicate::{Blocks, FragmentError, FragmentPage, Fragments, ListCursor};

const FRAGMENT: u64 = 1000;

/// Fragments in memory of which one chunk can be damaged.
#[derive(Debug, Default)]
struct Disk {
    memory: MemoryFragments,
    damaged: AtomicU64,
}

#[async_trait]
impl Fragments for Disk {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.memory.write(owner, payload).await
    }

    async fn write_in(
        &self,
        group: crate::id::GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        self.memory.write_in(group, owner, payload).await
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        if file.chunk.get() == self.damaged.load(Ordering::Relaxed) {
            return Err(FragmentError::Damaged { file, reason: "a bit flipped".into() });
        }
        self.memory.read(file, range).await
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.memory.delete(file).await
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        // So that there is more than one page.
        self.memory.list(cursor, limit.min(7)).await
    }
}

/// A store whose metadata can be lost, or go back to what it was.
struct Bench {
    disk: Arc<Disk>,
    store: BlobStore,
}

fn store(meta: MemoryMeta, disk: &Arc<Disk>) -> BlobStore {
    let none = Duration::ZERO;
    let options = BlobOptions::default().dead_grace(none).orphan_grace(none).fragment_size(FRAGMENT).unwrap();
    BlobStore::new(Arc::new(meta), Arc::clone(disk) as _, Budget::new(8 << 20), options)
}

impl Bench {
    fn new() -> Self {
        let disk = Arc::new(Disk::default());
        Self { store: store(MemoryMeta::new(), &disk), disk }
    }

    fn lose(&mut self) {
        self.store = store(MemoryMeta::new(), &self.disk);
    }

    /// What a backup would hold.
    async fn entries(&self) -> Vec<Entry> {
        self.store.meta().scan(KeyRange::prefix(Bytes::new()), 10_000).await.unwrap().entries
    }

    async fn restore(&mut self, backup: Vec<Entry>) {
        let meta = MemoryMeta::new();
        for entry in backup {
            let put = Transaction::new().write(Write::Put(entry.key, entry.value));
            assert!(meta.transact(put).await.unwrap().is_committed());
        }
        crate::blob::distrust(&meta).await.unwrap();
        self.store = store(meta, &self.disk);
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let body = body_of(bytes.to_vec());
        self.store.put(body, None, &|_| Transaction::new()).await.unwrap().digest
    }

    async fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let live = self.store.find(digest).await.unwrap()?;
        let runs: Vec<Bytes> =
            self.store.read(&live.info, 0..live.info.size).unwrap().try_collect().await.unwrap();
        Some(runs.concat())
    }

    async fn write(&self, blob: BlobId, offset: u64, bytes: &[u8]) -> FileId {
        let payload = Payload::new(vec![Bytes::copy_from_slice(bytes)]);
        self.disk.write(Owner { blob, offset }, payload).await.unwrap()
    }

    async fn rebuild(&self, options: RebuildOptions) -> Rebuilt {
        self.store.rebuild(options, &Silent).await.unwrap()
    }

    /// Two passes of a collector, which are what it takes to free an orphan. Its lease ends with it, as after a minute.
    async fn collect(&self) -> Collected {
        let mut collector = Collector::new(self.store.clone());
        collector.pass().await.unwrap().expect("a rebuild gives the lease back");
        let collected = collector.pass().await.unwrap().unwrap();
        let free = Transaction::new().write(Write::Delete(keys::COLLECTOR));
        assert!(self.store.meta().transact(free).await.unwrap().is_committed());
        collected
    }
}

struct Silent;

impl RebuildObserver for Silent {}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8 ^ seed).collect()
}

fn now() -> RebuildOptions {
    RebuildOptions { idle: Duration::ZERO, ..RebuildOptions::default() }
}

#[tokio::test]
async fn blobs_come_back_after_all_metadata_is_lost() {
    let mut bench = Bench::new();
    // Less than a fragment, a row and more, and many rows.
    let contents: Vec<Vec<u8>> =
        [1, 999, 1000, 17_500, 90_001].into_iter().zip(1..).map(|(len, seed)| bytes(len, seed)).collect();
    for content in &contents {
        bench.put(content).await;
    }
    bench.lose();
    let dry = bench.rebuild(RebuildOptions { dry_run: true, ..now() }).await;
    assert_eq!((dry.rebuilt, dry.failed, dry.left), (5, 0, 0));
    assert_eq!(bench.entries().await, [], "a dry run writes nothing");

    let report = bench.rebuild(now()).await;
    assert_eq!(Rebuilt { known: 0, ..report.clone() }, dry);
    assert_eq!((report.chunks, report.bytes), (1 + 1 + 1 + 18 + 91, 109_501));
    assert_eq!((report.rebuilt_bytes, report.groups), (109_501, vec![MemoryFragments::GROUP]));
    for content in &contents {
        assert_eq!(bench.read(&Digest::sha256(content)).await.as_ref(), Some(content));
    }
    let before = bench.entries().await.len();
    let again = bench.rebuild(now()).await;
    assert_eq!((again.known, again.rebuilt, again.left), (5, 0, 0), "it can be run again");
    assert_eq!(bench.entries().await.len(), before);
    // Who pushes one of them again stores nothing.
    let held = bench.disk.memory.len();
    bench.put(&contents[2]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bench.disk.memory.len(), held);
}

#[tokio::test]
async fn what_an_old_backup_lacks_is_added_and_nothing_else_is_changed() {
    let mut bench = Bench::new();
    let (old, new, long) = (bytes(5_000, 1), bytes(6_000, 2), bytes(60_000, 3));
    bench.put(&old).await;
    // One upload that ends after the backup, and two that never do, one of which goes on after it.
    let mut ends = bench.store.begin_upload("r").await.unwrap();
    ends.append(None, body_of(long[..20_300].to_vec())).await.unwrap();
    let mut rests = bench.store.begin_upload("r").await.unwrap();
    rests.append(None, body_of(bytes(2_500, 9))).await.unwrap();
    let backup = bench.entries().await;
    bench.put(&new).await;
    ends.append(None, body_of(long[20_300..].to_vec())).await.unwrap();
    ends.commit(&Digest::sha256(&long), &|_| Transaction::new()).await.unwrap();

    bench.restore(backup).await;
    let young = bench.rebuild(RebuildOptions::default()).await;
    assert_eq!(
        (young.known, young.rebuilt, young.uploading),
        (1, 1, 2),
        "a session that may go on is left alone"
    );
    let report = bench.rebuild(now()).await;
    assert_eq!((report.known, report.rebuilt, report.uploading), (2, 1, 1));
    for content in [&old, &new, &long] {
        assert_eq!(bench.read(&Digest::sha256(content)).await.as_ref(), Some(content));
    }
    let upload: Upload = bench.store.upload(rests.id()).await.unwrap();
    assert_eq!(upload.offset(), 2_500, "the other upload can go on");
    let blob = upload.commit(&Digest::sha256(&bytes(2_500, 9)), &|_| Transaction::new()).await.unwrap();
    assert_eq!(blob.size, 2_500);
    bench.collect().await;
    assert_eq!(bench.read(&Digest::sha256(&long)).await, Some(long), "nothing of it was taken for an orphan");
}

#[tokio::test]
async fn what_is_not_whole_is_named_and_kept() {
    let mut bench = Bench::new();
    let whole = bytes(3_000, 1);
    bench.put(&whole).await;
    let [gap, headless, damaged] = [1, 2, 3].map(|number| BlobId::from_bytes([number; 16]));
    for (blob, offsets) in [(gap, vec![0, 1000, 3000]), (headless, vec![1000]), (damaged, vec![0, 1000])] {
        for offset in offsets {
            let file = bench.write(blob, offset, &[blob.as_bytes()[0]; 1000]).await;
            if blob == damaged && offset == 1000 {
                bench.disk.damaged.store(file.chunk.get(), Ordering::Relaxed);
            }
        }
    }
    bench.lose();
    let report = bench.rebuild(now()).await;
    assert_eq!((report.rebuilt, report.failed, report.left), (1, 3, 6));
    let reasons: Vec<_> = report.not_rebuilt.iter().map(|blob| (blob.blob, blob.reason.as_str())).collect();
    assert!(
        matches!(&reasons[..], [(one, a), (two, b), (three, c)]
        if (*one, *two, *three) == (gap, headless, damaged)
            && a.contains("from 2000 on") && b.contains("from 0 on") && c.contains("a bit flipped")),
        "{reasons:?}"
    );
    assert_eq!(report.not_rebuilt[0].bytes, 3_000);
    assert_eq!(bench.collect().await.unknown, 6);
    assert_eq!(bench.disk.memory.len(), 9, "nothing was freed");
    // Until it is said that they may go.
    bench.rebuild(RebuildOptions { release: true, ..now() }).await;
    bench.collect().await;
    assert_eq!(bench.disk.memory.len(), 3);
    assert_eq!(bench.read(&Digest::sha256(&whole)).await, Some(whole));
}

#[tokio::test]
async fn fragments_that_were_moved_after_the_backup_are_named_where_they_are() {
    let mut bench = Bench::new();
    let (moved, gone) = (bytes(20_500, 1), bytes(3_000, 2));
    bench.put(&moved).await;
    bench.put(&gone).await;
    let backup = bench.entries().await;
    let of = |content: &[u8]| Digest::sha256(content);
    let listed = bench.disk.list(None, 7).await.unwrap().chunks;
    let id = bench.store.find(&of(&moved)).await.unwrap().unwrap().info.id;
    let other = bench.store.find(&of(&gone)).await.unwrap().unwrap().info.id;
    for (group, chunk) in listed.iter().filter(|(_, chunk)| chunk.owner.blob == id).take(3) {
        let at = chunk.owner.offset as usize;
        bench.write(id, chunk.owner.offset, &moved[at..at + chunk.length as usize]).await;
        bench.disk.delete(FileId::new(*group, chunk.id)).await.unwrap();
    }
    // 21 fragments came before: this is the second of the other blob's three.
    bench.disk.delete(FileId::new(MemoryFragments::GROUP, ChunkId::new(23))).await.unwrap();
    bench.restore(backup).await;
    let dry = bench.rebuild(RebuildOptions { dry_run: true, ..now() }).await;
    let report = bench.rebuild(now()).await;
    assert_eq!(report, dry);
    assert_eq!((report.known, report.moved, report.rebuilt, report.failed), (2, 3, 0, 1));
    assert_eq!(report.not_rebuilt[0].blob, other);
    assert!(report.not_rebuilt[0].reason.contains("1 of its chunks"), "{:?}", report.not_rebuilt);
    assert_eq!(bench.read(&of(&moved)).await, Some(moved));
    assert_eq!(bench.rebuild(now()).await.moved, 0);
}

#[tokio::test]
async fn tries_that_were_given_up_are_no_part_of_the_blob() {
    let mut bench = Bench::new();
    let (content, blob) = (bytes(2_500, 4), BlobId::random());
    bench.write(blob, 0, &content[..1000]).await;
    for range in [0..400, 400..1400, 1400..2400, 2400..2500] {
        bench.write(blob, range.start as u64, &content[range]).await;
    }
    bench.lose();
    let report = bench.rebuild(now()).await;
    assert_eq!((report.rebuilt, report.left), (1, 1));
    assert_eq!(bench.read(&Digest::sha256(&content)).await, Some(content));
}

#[tokio::test]
async fn content_that_is_live_comes_back_once() {
    let mut bench = Bench::new();
    let content = bytes(2_500, 4);
    for _ in 0..2 {
        let blob = BlobId::random();
        for range in [0..1000, 1000..2500] {
            bench.write(blob, range.start as u64, &content[range]).await;
        }
    }
    bench.lose();
    let report = bench.rebuild(now()).await;
    assert_eq!((report.rebuilt + report.duplicates, report.failed), (2, 0));
    assert_eq!(bench.read(&Digest::sha256(&content)).await, Some(content));
    assert_eq!(bench.rebuild(now()).await.duplicates, report.duplicates);
}

#[tokio::test]
async fn the_collector_spares_what_lost_metadata_has_no_owner_for() {
    let mut bench = Bench::new();
    let content = bytes(5_000, 1);
    bench.put(&content).await;
    let orphan = bench.write(BlobId::random(), 0, b"never named").await;
    bench.collect().await;
    assert_eq!(
        bench.disk.memory.len(),
        5,
        "a store that knows its group from the first chunk on frees orphans"
    );
    assert!(orphan.chunk > ChunkId::new(1));

    bench.lose();
    assert_eq!(bench.collect().await.unknown, 5);
    // Pushes go on in the meantime.
    bench.put(&bytes(2_000, 2)).await;
    assert_eq!(bench.collect().await.unknown, 5);
    assert_eq!(bench.disk.memory.len(), 7);
    bench.rebuild(now()).await;
    assert_eq!(bench.read(&Digest::sha256(&content)).await, Some(content));
    // Now all owners are known, and orphans are orphans again.
    bench.collect().await;
    bench.write(BlobId::random(), 0, b"never named").await;
    bench.collect().await;
    assert_eq!(bench.disk.memory.len(), 7);
}

#[tokio::test]
async fn a_restored_store_gives_uploads_their_time_again() {
    let mut bench = Bench::new();
    let mut upload = bench.store.begin_upload("r").await.unwrap();
    upload.append(None, body_of(bytes(2_500, 9))).await.unwrap();
    let mut backup = bench.entries().await;
    // As if the backup were two days old.
    for entry in backup.iter_mut().filter(|entry| entry.key.starts_with(b"u/")) {
        let record: UploadRecord = decode(entry).unwrap();
        let active = record.active - 48 * 3600 * 1000;
        entry.value = crate::blob::records::encode(&UploadRecord { active, ..record });
    }
    bench.restore(backup).await;
    assert_eq!(bench.collect().await.uploads, 0);
    assert_eq!(bench.store.upload(upload.id()).await.unwrap().offset(), 2_500);
}

/// Asks for a pass of a collector in the middle of a rebuild.
struct Meddling<'a> {
    bench: &'a Bench,
    live: Mutex<Vec<Digest>>,
    last: Mutex<(u64, u64)>,
}

#[async_trait]
impl RebuildObserver for Meddling<'_> {
    fn progress(&self, done: u64, of: u64) {
        *self.last.lock() = (done, of);
    }

    async fn live(&self, blob: &BlobInfo) -> Result<(), BlobError> {
        assert_eq!(
            Collector::new(self.bench.store.clone()).pass().await?,
            None,
            "no collector works meanwhile"
        );
        assert!(self.bench.store.find(&blob.digest).await?.is_some());
        self.live.lock().push(blob.digest);
        Ok(())
    }
}

#[tokio::test]
async fn who_follows_it_hears_of_every_live_blob_and_of_all_progress() {
    let mut bench = Bench::new();
    let mut expected = Vec::new();
    for seed in 1..6 {
        expected.push(bench.put(&bytes(1_500, seed)).await);
    }
    bench.lose();
    let meddling = Meddling { bench: &bench, live: Mutex::default(), last: Mutex::default() };
    for _ in 0..2 {
        // The second one finds them known.
        bench.store.rebuild(now(), &meddling).await.unwrap();
    }
    let mut live = meddling.live.into_inner();
    live.sort();
    expected.extend(expected.clone());
    expected.sort();
    assert_eq!(live, expected);
    assert_eq!(*meddling.last.lock(), (7_500, 7_500));
}
