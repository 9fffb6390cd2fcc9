//! Transactions that come late, and those whose answers are lost.

use parking_lot::Mutex;

use super::*;
use crate::blob::transfer::TransferOptions;
use crate::id::{BlobId, GroupId};
use crate::meta::{Entry, MetaError, Page, Timestamp};

/// A metadata store to which something happens at the next transaction that changes a layout.
#[derive(Debug)]
struct Eventful {
    inner: Arc<MemoryMeta>,
    next: Mutex<Option<Event>>,
}

#[derive(Debug)]
enum Event {
    /// It is applied, and nobody hears of it.
    AnswerLost,
    /// It comes after passes of this collector.
    Late(Collector),
}

#[async_trait]
impl MetaStore for Eventful {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.inner.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        let changes_a_layout = transaction.writes.iter().any(|write| write.key().starts_with(b"l/"));
        let event = if changes_a_layout { self.next.lock().take() } else { None };
        if let Some(Event::Late(mut collector)) = event {
            for _ in 0..3 {
                collector.pass().await.unwrap().expect("no other collector runs");
            }
            collector.release().await;
            return self.inner.transact(transaction).await;
        }
        let outcome = self.inner.transact(transaction).await?;
        match event {
            None => Ok(outcome),
            Some(_) => Err(MetaError::Unavailable("no answer".into())),
        }
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.inner.now().await
    }
}

/// A store that frees orphans at once, one over the same that is quiet, and what happens to the first.
fn eventful() -> (BlobStore, Bench, Arc<Eventful>) {
    let none = Duration::ZERO;
    let bench = Bench::with(BlobOptions::default().orphan_grace(none).dead_grace(none));
    let meta = Arc::new(Eventful { inner: bench.meta.clone(), next: Mutex::new(None) });
    let store = BlobStore::new(
        meta.clone(),
        bench.fragments.clone(),
        Budget::new(8 << 20),
        bench.store.options().clone(),
    );
    (store, bench, meta)
}

impl Eventful {
    fn arm(&self, event: Event) {
        *self.next.lock() = Some(event);
    }

    #[track_caller]
    fn assert_happened(&self) {
        assert!(self.next.lock().is_none(), "nothing has changed a layout");
    }
}

fn late(bench: &Bench) -> Event {
    Event::Late(Collector::new(bench.store.clone()))
}

#[tokio::test]
async fn a_first_commit_that_comes_after_its_chunks_were_freed_fails() {
    let (store, bench, meta) = eventful();
    let bytes = pattern(5_000);
    meta.arm(late(&bench));
    let error = store.put(in_runs(&bytes, 100), None, &no_link).await.unwrap_err();
    meta.assert_happened();
    assert!(
        matches!(&error, BlobError::Unavailable(reason) if reason.contains("send them again")),
        "{error}"
    );
    assert_eq!(bench.fragments.inner.len(), 0);
    assert_eq!(store.find(&Digest::sha256(&bytes)).await.unwrap(), None);
    let blob = store.put(in_runs(&bytes, 100), None, &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..5_000).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_session_whose_first_chunks_were_freed_begins_anew() {
    let (store, bench, meta) = eventful();
    let bytes = pattern(5_000);
    let mut upload = store.begin_upload("r").await.unwrap();
    let id = upload.id();
    meta.arm(late(&bench));
    let error = upload.append(None, in_runs(&bytes, 100)).await.unwrap_err();
    meta.assert_happened();
    assert!(
        matches!(&error, BlobError::Unavailable(reason) if reason.contains("send them again")),
        "{error}"
    );

    let mut upload = store.upload(id).await.unwrap();
    assert_eq!(upload.offset(), 0);
    upload.append_last(0, in_runs(&bytes, 100)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    bench.collect().await;
    assert_eq!(bench.read(&blob, 0..5_000).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_transfer_that_switches_late_does_not_name_freed_chunks() {
    let (store, bench, meta) = eventful();
    let bytes = pattern(5_000);
    let blob = bench.put(&bytes).await;
    let elsewhere = TransferOptions::default().to(GroupId::new(7));
    meta.arm(late(&bench));
    let transfer = Transfer::new(store, MemoryFragments::GROUP, elsewhere);
    let done = transfer.pass().await.unwrap();
    meta.assert_happened();
    assert_eq!((done.fragments, done.conflicts), (0, 1), "{done:?}");
    assert_eq!(bench.read(&blob, 0..5_000).await.unwrap(), bytes);
    assert_eq!(transfer.pass().await.unwrap().fragments, 5);
    bench.collect().await;
    assert_eq!(bench.read(&blob, 0..5_000).await.unwrap(), bytes);
    assert_eq!(bench.fragments.inner.len(), 5);
}

#[tokio::test]
async fn what_a_fence_leaves_is_forgotten_in_the_end() {
    let none = Duration::ZERO;
    let bench = Bench::with(BlobOptions::default().orphan_grace(none).dead_grace(none));
    // Chunk 1 of a group says that the group is known.
    bench.put(&pattern(1)).await;
    let owner = |blob| Owner { blob, offset: 0 };
    for _ in 0..100 {
        let payload = Payload::new(vec![Bytes::from_static(b"whose?")]);
        bench.fragments.write(owner(BlobId::fresh()), payload).await.unwrap();
    }
    bench.collect().await;
    assert_eq!(bench.fragments.inner.len(), 1);
    assert_eq!((bench.keys("b/").await, bench.keys("q/").await), (101, 100));

    let options = bench.store.options().clone().dead_grace(none);
    let later = Arc::new(Later { inner: bench.meta.clone(), by: options.fence_expiry });
    let store = BlobStore::new(later, bench.fragments.clone(), Budget::new(8 << 20), options);
    Collector::new(store).pass().await.unwrap().expect("no other collector runs");
    assert_eq!((bench.keys("b/").await, bench.keys("q/").await), (1, 0));
}

/// The same store at a later time.
#[derive(Debug)]
struct Later {
    inner: Arc<MemoryMeta>,
    by: Duration,
}

#[async_trait]
impl MetaStore for Later {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.inner.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.inner.transact(transaction).await
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        Ok(self.inner.now().await?.after(self.by))
    }
}

/// Rows are written while bytes come, and the answer to the write of one is lost: its chunks are named, whatever follows.
#[tokio::test]
async fn chunks_of_a_row_of_which_nothing_was_heard_are_kept() {
    let (store, bench, meta) = eventful();
    let bytes = pattern(200_000);
    let mut upload = store.begin_upload("r").await.unwrap();
    let id = upload.id();
    meta.arm(Event::AnswerLost);
    let error = upload.append(None, in_runs(&bytes, 1000)).await.unwrap_err();
    meta.assert_happened();
    assert!(matches!(error, BlobError::Unavailable(_)), "{error}");
    settle().await;

    let mut upload = store.upload(id).await.unwrap();
    let at = upload.offset();
    assert!(at > 0, "the row was written");
    upload.append_last(at, in_runs(&bytes[at as usize..], 1000)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..blob.size).await.unwrap(), bytes);
    bench.collect().await;
    assert_eq!(bench.read(&blob, 0..blob.size).await.unwrap(), bytes);
}

/// The same where a chunk can't be written and the last thing tried is to keep what came before.
#[tokio::test]
async fn chunks_before_a_failure_of_which_nothing_was_heard_are_kept() {
    let (store, bench, meta) = eventful();
    let bytes = pattern(10_000);
    let mut upload = store.begin_upload("r").await.unwrap();
    let id = upload.id();
    bench.fragments.fail_from.store(6, Ordering::Relaxed);
    meta.arm(Event::AnswerLost);
    upload.append(None, in_runs(&bytes, 1000)).await.unwrap_err();
    meta.assert_happened();
    settle().await;
    bench.fragments.fail_from.store(0, Ordering::Relaxed);

    let mut upload = store.upload(id).await.unwrap();
    assert_eq!(upload.offset(), 5_000);
    upload.append_last(5_000, in_runs(&bytes[5_000..], 1000)).await.unwrap();
    let blob = upload.commit(&Digest::sha256(&bytes), &no_link).await.unwrap();
    assert_eq!(bench.read(&blob, 0..10_000).await.unwrap(), bytes);
}
