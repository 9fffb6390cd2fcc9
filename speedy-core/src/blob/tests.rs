mod late;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use proptest::prelude::*;

use super::*;
use crate::budget::Budget;
use crate::digest::{Algorithm, Digest};
use crate::id::{FileId, Owner, UploadId};
use crate::meta::{Check, KeyRange, MemoryMeta, MetaStore, Outcome, Transaction, Write};
use crate::payload::BodyError;
use crate::payload::Payload;
use crate::replicate::{Blocks, FragmentError, FragmentPage, Fragments, ListCursor};

/// A blob store in memory with small fragments, and the two things that it stands on.
struct Bench {
    meta: Arc<MemoryMeta>,
    fragments: Arc<Faulty>,
    store: BlobStore,
    collector: tokio::sync::Mutex<Collector>,
}

const FRAGMENT: u64 = 1000;

impl Bench {
    fn new() -> Self {
        Self::with(BlobOptions::default())
    }

    /// A store that frees at once what is dead, expired, or an orphan.
    fn impatient() -> Self {
        let none = Duration::ZERO;
        Self::with(
            BlobOptions::default().upload_expiry(none).dead_grace(none).orphan_grace(none).fence_expiry(none),
        )
    }

    fn with(options: BlobOptions) -> Self {
        let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(Faulty::default()));
        let options = options.fragment_size(FRAGMENT).unwrap();
        let store = BlobStore::new(meta.clone(), fragments.clone(), Budget::new(8 << 20), options);
        let collector = tokio::sync::Mutex::new(Collector::new(store.clone()));
        Self { meta, fragments, store, collector }
    }

    async fn read(&self, blob: &BlobInfo, range: Range<u64>) -> Result<Vec<u8>, BlobError> {
        let runs: Vec<Bytes> = self.store.read(blob, range)?.try_collect().await?;
        Ok(runs.concat())
    }

    async fn put(&self, bytes: &[u8]) -> BlobInfo {
        self.store.put(in_runs(bytes, 333), None, &no_link).await.unwrap()
    }

    async fn keys(&self, prefix: &'static str) -> usize {
        self.meta.scan(KeyRange::prefix(prefix), 10_000).await.unwrap().entries.len()
    }

    /// Collects until a pass frees nothing more.
    async fn collect(&self) {
        let mut collector = self.collector.lock().await;
        for _ in 0..10 {
            let done = collector.pass().await.unwrap().expect("no other collector runs");
            if done.uploads + done.blobs + done.chunks + done.suspects == 0 {
                return;
            }
        }
        panic!("the collector does not come to an end");
    }

    async fn assert_nothing_left(&self) {
        settle().await;
        self.collect().await;
        assert_eq!(self.fragments.inner.len(), 0, "chunks");
        for prefix in ["b/", "d/", "l/", "q/", "u/"] {
            assert_eq!(self.keys(prefix).await, 0, "{prefix}");
        }
    }
}

/// Lets tasks that nobody waits for come to their end.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn no_link(_: &BlobInfo) -> Transaction {
    Transaction::new()
}

fn in_runs(bytes: &[u8], run: usize) -> Body {
    let runs: Vec<_> = bytes.chunks(run.max(1)).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
    stream::iter(runs).boxed()
}

fn broken_after(bytes: &[u8]) -> Body {
    in_runs(bytes, 100).chain(stream::iter([Err(BodyError("connection reset".into()))])).boxed()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Fragments in memory that fail on demand.
#[derive(Debug, Default)]
struct Faulty {
    inner: MemoryFragments,
    writes: AtomicU64,
    /// The write of this number (from 1) and all after it fail; 0 for none.
    fail_from: AtomicU64,
    corrupt: AtomicU64,
}

#[async_trait]
impl Fragments for Faulty {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let fail_from = self.fail_from.load(Ordering::Relaxed);
        if fail_from != 0 && number >= fail_from {
            return Err(FragmentError::Unavailable("no complete group".into()));
        }
        // Writes end in any order.
        for _ in 0..(number * 7 % 5) {
            tokio::task::yield_now().await;
        }
        self.inner.write(owner, payload).await
    }

    async fn write_in(
        &self,
        group: crate::id::GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        self.inner.write_in(group, owner, payload).await
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        let stream = self.inner.read(file, range).await?;
        if self.corrupt.load(Ordering::Relaxed) == 0 {
            return Ok(stream);
        }
        Ok(stream
            .map_ok(|blocks| {
                let (offset, data, checksums) = blocks.into_wire();
                let mut data = data.to_vec();
                data[0] ^= 1;
                Blocks::unverified(offset, data.into(), checksums).unwrap()
            })
            .boxed())
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.inner.delete(file).await
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        self.inner.list(cursor, limit).await
    }
}

#[tokio::test]
async fn any_range_of_a_blob_comes_back() {
    let bench = Bench::new();
    let bytes = pattern(10_500);
    let blob = bench.put(&bytes).await;
    assert_eq!((blob.size, blob.digest), (10_500, Digest::sha256(&bytes)));
    assert_eq!(bench.fragments.inner.len(), 11);
    for range in [0..10_500, 0..1, 999..1001, 1000..2000, 10_499..10_500, 0..0, 10_500..10_500, 1..10_499] {
        let part = bench.read(&blob, range.clone()).await.unwrap();
        assert_eq!(part, bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    assert!(matches!(bench.store.read(&blob, 0..10_501), Err(BlobError::Invalid(_))));
}

#[tokio::test]
async fn long_blobs_have_many_rows() {
    let bench = Bench::new();
    let bytes = pattern(200 * FRAGMENT as usize + 7);
    let blob = bench.put(&bytes).await;
    assert!(bench.keys("l/").await >= 200 / ingest::ROW);
    assert_eq!(bench.read(&blob, 0..blob.size).await.unwrap(), bytes);
    assert_eq!(bench.read(&blob, 150_123..150_456).await.unwrap(), bytes[150_123..150_456]);
    assert_eq!(bench.keys("u/").await, 0);
}

#[tokio::test]
async fn an_empty_blob_has_no_fragments() {
    let bench = Bench::new();
    let blob = bench.put(b"").await;
    assert_eq!((blob.size, bench.fragments.inner.len()), (0, 0));
    assert_eq!(bench.read(&blob, 0..0).await.unwrap(), b"");
    assert!(bench.store.find(&Digest::sha256(b"")).await.unwrap().is_some());
}

#[tokio::test]
async fn the_same_content_is_stored_once() {
    let bench = Bench::impatient();
    let bytes = pattern(5000);
    let first = bench.put(&bytes).await;
    let second = bench.put(&bytes).await;
    assert_eq!(first, second);
    // By another algorithm it is one more name of the same blob.
    let sha512 = Digest::of(Algorithm::Sha512, &bytes);
    let third = bench.store.put(in_runs(&bytes, 700), Some(sha512), &no_link).await.unwrap();
    assert_eq!((third.id, third.digest), (first.id, sha512));
    settle().await;
    bench.collect().await;
    assert_eq!(bench.fragments.inner.len(), 5);
    assert_eq!(bench.store.find(&sha512).await.unwrap().unwrap().info, third);

    bench.store.delete(first.id).await.unwrap();
    assert!(bench.store.find(&sha512).await.unwrap().is_none());
    assert!(bench.store.find(&first.digest).await.unwrap().is_none());
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_blob_first_named_by_sha512_is_found_by_both() {
    let bench = Bench::new();
    let bytes = pattern(2500);
    let sha512 = Digest::of(Algorithm::Sha512, &bytes);
    let blob = bench.store.put(in_runs(&bytes, 64), Some(sha512), &no_link).await.unwrap();
    let by_sha256 = bench.store.find(&Digest::sha256(&bytes)).await.unwrap().unwrap();
    assert_eq!(by_sha256.info.id, blob.id);
}

#[tokio::test]
async fn wrong_digests_leave_nothing() {
    let bench = Bench::impatient();
    let wrong = Digest::sha256(b"something else");
    let bytes = pattern(40_000);
    let error = bench.store.put(in_runs(&bytes, 512), Some(wrong), &no_link).await.unwrap_err();
    assert_eq!(
        error,
        BlobError::DigestMismatch { expected: wrong.into(), actual: Digest::sha256(&bytes).into() }
    );
    let mut upload = bench.store.begin_upload("a/b").await.unwrap();
    upload.append(None, in_runs(&bytes, 512)).await.unwrap();
    let id = upload.id();
    upload.commit(&Digest::of(Algorithm::Sha512, b"no"), &no_link).await.unwrap_err();
    assert_eq!(bench.store.upload(id).await.unwrap_err(), BlobError::UnknownUpload(id));
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn a_session_goes_on_in_another_process() {
    let bench = Bench::new();
    let bytes = pattern(9_876);
    let mut upload = bench.store.begin_upload("library/hello").await.unwrap();
    assert_eq!(upload.append(Some(0), in_runs(&bytes[..4321], 50)).await.unwrap(), 4321);
    let id = upload.id();

    let elsewhere = BlobStore::new(
        bench.meta.clone(),
        bench.fragments.clone(),
        Budget::default(),
        BlobOptions::default(),
    );
    let mut upload = elsewhere.upload(id).await.unwrap();
    assert_eq!((upload.offset(), upload.label()), (4321, "library/hello"));
    assert_eq!(
        upload.append(Some(4000), in_runs(b"x", 1)).await.unwrap_err(),
        BlobError::OutOfOrder { expected: 4321 }
    );
    upload.append_last(4321, in_runs(&bytes[4321..], 5000)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..blob.size).await.unwrap(), bytes);
    assert_eq!(bench.keys("u/").await, 0);
    assert_eq!(elsewhere.upload(id).await.unwrap_err(), BlobError::UnknownUpload(id));
}

#[tokio::test]
async fn what_came_before_a_break_is_kept() {
    let bench = Bench::new();
    let bytes = pattern(3_700);
    let mut upload = bench.store.begin_upload("r").await.unwrap();
    let error = upload.append(None, broken_after(&bytes[..2_500])).await.unwrap_err();
    assert_eq!(error, BlobError::Body("connection reset".into()));
    assert_eq!(upload.offset(), 2_500);
    let mut upload = bench.store.upload(upload.id()).await.unwrap();
    assert_eq!(upload.offset(), 2_500);
    upload.append(None, in_runs(&bytes[2_500..], 10)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..3_700).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_put_whose_body_breaks_leaves_nothing() {
    let bench = Bench::impatient();
    for length in [0, 10, 30_000] {
        let error = bench.store.put(broken_after(&pattern(length)), None, &no_link).await.unwrap_err();
        assert!(matches!(error, BlobError::Body(_)), "{error}");
    }
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn of_two_writers_of_a_session_one_goes_on() {
    let bench = Bench::impatient();
    let (ours, theirs) = (pattern(5_000), vec![7; 5_000]);
    let mut one = bench.store.begin_upload("r").await.unwrap();
    let mut two = bench.store.upload(one.id()).await.unwrap();
    let id = one.id();
    one.append(Some(0), in_runs(&ours, 400)).await.unwrap();
    assert_eq!(two.append(Some(0), in_runs(&theirs, 400)).await.unwrap_err(), BlobError::UploadBusy(id));
    assert_eq!(two.commit(&Digest::sha256(&theirs), &no_link).await.unwrap_err(), BlobError::UploadBusy(id));
    let blob = one.commit(&Digest::sha256(&ours), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..5_000).await.unwrap(), ours);
    settle().await;
    bench.collect().await;
    assert_eq!(bench.fragments.inner.len(), 5);
}

#[tokio::test]
async fn two_commits_of_one_content_end_in_one_blob() {
    let bench = Bench::impatient();
    let bytes = pattern(2_000);
    let digest = Digest::sha256(&bytes);
    let put = || bench.store.put(in_runs(&bytes, 64), Some(digest), &no_link);
    let (a, b, c) = tokio::join!(put(), put(), put());
    assert_eq!(a.as_ref().unwrap(), b.as_ref().unwrap());
    assert_eq!(b.unwrap(), c.unwrap());
    settle().await;
    bench.collect().await;
    assert_eq!((bench.fragments.inner.len(), bench.keys("b/").await), (2, 1));
}

#[tokio::test]
async fn a_failed_write_keeps_what_was_in_order_before_it() {
    let bench = Bench::impatient();
    let bytes = pattern(40_000);
    let mut upload = bench.store.begin_upload("r").await.unwrap();
    bench.fragments.fail_from.store(20, Ordering::Relaxed);
    let error = upload.append(None, in_runs(&bytes, 999)).await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable(_)), "{error}");
    let kept = upload.offset();
    assert!(kept > 0 && kept <= 19 * FRAGMENT, "{kept}");
    bench.fragments.fail_from.store(0, Ordering::Relaxed);
    let mut upload = bench.store.upload(upload.id()).await.unwrap();
    upload.append(Some(kept), in_runs(&bytes[kept as usize..], 999)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..blob.size).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_link_commits_with_the_blob_or_not_at_all() {
    let bench = Bench::new();
    let link = |info: &BlobInfo| {
        Transaction::new().write(Write::Put("R/link".into(), Bytes::copy_from_slice(info.id.as_bytes())))
    };
    let blob = bench.store.put(body_of("abc"), None, &link).await.unwrap();
    let linked = bench.meta.get("R/link".into()).await.unwrap().unwrap();
    assert_eq!(linked.value[..], blob.id.as_bytes()[..]);
    let impossible = |_: &BlobInfo| Transaction::new().check(Check::Absent("R/link".into()));
    bench.store.put(body_of("other"), None, &impossible).await.unwrap_err();
    assert!(bench.store.find(&Digest::sha256(b"other")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_dead_blob_fails_the_check_of_whoever_relied_on_it() {
    let bench = Bench::new();
    let blob = bench.put(&pattern(10)).await;
    let live = bench.store.find(&blob.digest).await.unwrap().unwrap();
    bench.store.delete(blob.id).await.unwrap();
    let rely = Transaction::new().check(live.check_live()).write(Write::Put("R/x".into(), Bytes::new()));
    assert_eq!(bench.meta.transact(rely).await.unwrap(), Outcome::Conflict(0));
    bench.store.delete(blob.id).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_is_referred_to_is_not_deleted() {
    let bench = Bench::new();
    let blob = bench.put(&pattern(10)).await;
    let refer = Transaction::new().write(Write::Put(reference_key(blob.id, b"manifest"), Bytes::new()));
    assert!(bench.meta.transact(refer).await.unwrap().is_committed());
    assert!(matches!(bench.store.delete(blob.id).await, Err(BlobError::Invalid(_))));
    assert!(bench.store.find(&blob.digest).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_unverified_is_returned() {
    let bench = Bench::new();
    let blob = bench.put(&pattern(3_000)).await;
    bench.fragments.corrupt.store(1, Ordering::Relaxed);
    for range in [0..3_000, 5..6, 1_500..1_501] {
        assert!(matches!(bench.read(&blob, range).await, Err(BlobError::Damaged { .. })));
    }
}

#[tokio::test]
async fn abandoned_and_cancelled_uploads_are_freed() {
    let bench = Bench::impatient();
    let mut abandoned = bench.store.begin_upload("r").await.unwrap();
    abandoned.append(None, in_runs(&pattern(30_000), 100)).await.unwrap();
    let mut cancelled = bench.store.begin_upload("r").await.unwrap();
    cancelled.append(None, in_runs(&pattern(20_000), 100)).await.unwrap();
    let id = cancelled.id();
    cancelled.cancel().await.unwrap();
    assert_eq!(bench.store.upload(id).await.unwrap_err(), BlobError::UnknownUpload(id));
    bench.store.begin_upload("only begun").await.unwrap();
    let mut not_committed = bench.store.begin_upload("r").await.unwrap();
    not_committed.append_last(0, in_runs(&pattern(5_000), 100)).await.unwrap();
    drop(not_committed);
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn the_collector_spares_what_is_in_use_and_runs_once_at_a_time() {
    let bench = Bench::with(BlobOptions::default().orphan_grace(Duration::ZERO).dead_grace(Duration::ZERO));
    let live = bench.put(&pattern(5_000)).await;
    let mut upload = bench.store.begin_upload("r").await.unwrap();
    upload.append(None, in_runs(&pattern(7_000), 100)).await.unwrap();
    // A chunk whose write was tried twice: the layout names the other.
    let orphan = Owner { blob: live.id, offset: 1000 };
    bench.fragments.write(orphan, Payload::new(vec![Bytes::from_static(b"twice")])).await.unwrap();
    let mut collector = Collector::new(bench.store.clone());
    let first = collector.pass().await.unwrap().unwrap();
    assert_eq!((first.chunks, first.suspects, first.uploads), (0, 1, 0));
    assert_eq!(Collector::new(bench.store.clone()).pass().await.unwrap(), None);
    let second = collector.pass().await.unwrap().unwrap();
    assert_eq!((second.chunks, second.suspects), (1, 0));
    assert_eq!(bench.fragments.inner.len(), 12);
    assert_eq!(bench.read(&live, 0..5_000).await.unwrap(), pattern(5_000));
    upload.commit(&Digest::sha256(&pattern(7_000)), &no_link).await.unwrap();
}

#[tokio::test]
async fn an_unknown_upload_is_unknown() {
    let bench = Bench::new();
    let id = UploadId::random();
    assert_eq!(bench.store.upload(id).await.unwrap_err(), BlobError::UnknownUpload(id));
}

#[tokio::test]
async fn the_budget_comes_back_whole() {
    let bench = Bench::new();
    let blob = bench.put(&pattern(50_000)).await;
    bench.read(&blob, 0..blob.size).await.unwrap();
    drop(bench.store.read(&blob, 0..blob.size).unwrap().next().await);
    bench.store.put(broken_after(&pattern(9_000)), None, &no_link).await.unwrap_err();
    settle().await;
    assert_eq!(bench.store.budget().available(), bench.store.budget().total());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any way of cutting an upload into requests and runs, with breaks, ends in the same blob.
    #[test]
    fn any_cut_of_an_upload_gives_the_same_blob(
        len in 0usize..30_000,
        cuts in prop::collection::vec((1usize..9_000, 1usize..3_000, any::<bool>()), 1..12),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let bytes = pattern(len);
            let mut upload = bench.store.begin_upload("r").await.unwrap();
            for (length, run, breaks) in cuts {
                let at = upload.offset() as usize;
                let part = &bytes[at..len.min(at + length)];
                if breaks {
                    let body = in_runs(part, run).chain(stream::iter([Err(BodyError("gone".into()))])).boxed();
                    upload.append(Some(at as u64), body).await.unwrap_err();
                } else {
                    upload.append(None, in_runs(part, run)).await.unwrap();
                }
                assert_eq!(upload.offset() as usize, at + part.len());
                upload = bench.store.upload(upload.id()).await.unwrap();
            }
            let rest = upload.offset();
            upload.append_last(rest, in_runs(&bytes[rest as usize..], 2_048)).await.unwrap();
            let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
            let (a, b) = (from.index(len + 1), to.index(len + 1));
            let range = a.min(b)..a.max(b);
            let part = bench.read(&blob, range.start as u64..range.end as u64).await.unwrap();
            assert_eq!(part, &bytes[range]);
        });
    }
}
