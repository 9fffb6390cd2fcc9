//! How a body becomes fragments: cut, hashed in order, written several at once, and named in the layout in order.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::hashes::Hashes;
use super::{BlobError, Body, Fragment, Upload, trust};
use crate::id::{FileId, Owner};
use crate::payload::BodyError;
use crate::payload::Payload;
use crate::request::carried;
use crate::split::{Piece, Splitter};

/// What becomes of the fragments at the end of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    /// They are written into the layout.
    Persist,
    /// They are kept for the transaction that commits the blob.
    Keep,
}

/// Fragments in a row of the layout.
pub(super) const ROW: usize = 16;
/// The longest that a fragment on stable storage waits for its row: what a crash of this process may cost a client
/// that asks where its upload stands.
const ROW_DELAY: Duration = Duration::from_secs(5);
/// Runs up to this are hashed where they are, in about 50 µs: a hop to another thread costs as much.
const HASH_HERE: u64 = 64 * 1024;

type Written = Result<(Fragment, Hashes), BlobError>;

/// Takes a body into an upload. When it fails, what had been written in order before is kept in the upload.
pub(super) async fn ingest(upload: &mut Upload, body: Body, tail: Tail) -> Result<(), BlobError> {
    let options = upload.store.options();
    let limit = options.writes_in_flight;
    let mut splitter =
        Splitter::starting_at(upload.received(), body, upload.store.budget().clone(), options.split);
    let hashing = Hashing::start(upload.hashes.clone());
    let mut in_flight: FuturesOrdered<JoinHandle<Written>> = FuturesOrdered::new();
    let mut source: Option<Result<(), BodyError>> = None;
    let mut due = Instant::now() + ROW_DELAY;

    let result = loop {
        tokio::select! {
            biased;
            Some(written) = in_flight.next() => match flatten(written) {
                Ok((fragment, hashes)) => {
                    if upload.pending.is_empty() {
                        due = Instant::now() + ROW_DELAY;
                    }
                    upload.pending.push(fragment);
                    upload.hashes = hashes;
                    let last = source.is_some() && in_flight.is_empty();
                    if upload.pending.len() >= ROW && !(last && tail == Tail::Keep)
                        && let Err(error) = upload.persist().await
                    {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            },
            piece = splitter.next(), if source.is_none() && in_flight.len() < limit => match piece {
                Some(Ok(piece)) => in_flight.push_back(write(upload, &hashing, piece)),
                Some(Err(error)) => source = Some(Err(error)),
                None => source = Some(Ok(())),
            },
            () = tokio::time::sleep_until(due), if !upload.pending.is_empty() && source.is_none() => {
                if let Err(error) = upload.persist().await {
                    break Err(error);
                }
            }
            else => break Ok(()),
        }
    };
    let source = source.unwrap_or(Ok(())).map_err(|error| BlobError::Body(error.0));
    let result = match (result, source) {
        (Ok(()), Ok(())) if tail == Tail::Keep => Ok(()),
        (Ok(()), source) => upload.persist().await.and(source),
        (Err(error), _) => {
            drop_rest(upload, in_flight, &error).await;
            Err(error)
        }
    };
    if result.as_ref().is_err_and(is_lost) {
        upload.drop_pending();
    }
    result
}

/// Whether the session is another's now, or nobody's.
fn is_lost(error: &BlobError) -> bool {
    matches!(error, BlobError::UploadBusy(_) | BlobError::UnknownUpload(_))
}

/// Writes a piece and hashes it, at once, in a task that holds the piece's share of the budget until both are done.
fn write(upload: &Upload, hashing: &Hashing, piece: Piece) -> JoinHandle<Written> {
    let Piece { offset, payload, reservation } = piece;
    let owner = Owner { blob: upload.blob, offset };
    let hashed = hashing.add(payload.clone());
    let store = upload.store.clone();
    tokio::spawn(carried(async move {
        let fragments = store.fragments();
        let (length, checksum) = (payload.len(), payload.checksum());
        let written = fragments.write(owner, payload);
        let (file, hashes) = tokio::join!(written, hashed);
        // Named here, or else the task would not have it: the memory is free only now.
        drop(reservation);
        let file = file.map_err(|error| BlobError::of_fragment(owner.blob, error))?;
        trust::note(&store, file).await;
        let hashes = hashes.map_err(|_| BlobError::Unavailable("the hash task ended".into()))?;
        Ok((Fragment { offset: owner.offset, length, file, checksum }, hashes))
    }))
}

/// After a failure: what was in order before it goes into the layout; what comes after it has no place.
async fn drop_rest(
    upload: &mut Upload,
    mut in_flight: FuturesOrdered<JoinHandle<Written>>,
    error: &BlobError,
) {
    if !upload.pending.is_empty()
        && !is_lost(error)
        && let Err(error) = upload.persist().await
    {
        tracing::debug!(upload = %upload.id, %error, "an upload could not keep what came before a failure");
        upload.drop_pending();
    }
    let mut placeless: Vec<FileId> = Vec::new();
    while let Some(written) = in_flight.next().await {
        placeless.extend(flatten(written).ok().map(|(fragment, _)| fragment.file));
    }
    upload.store.discard(placeless);
}

fn flatten(joined: Result<Written, tokio::task::JoinError>) -> Written {
    joined.unwrap_or_else(|error| Err(BlobError::Unavailable(format!("a write ended: {error}"))))
}

/// Hashes payloads one after the other, off the async workers' way.
struct Hashing(mpsc::UnboundedSender<(Payload, oneshot::Sender<Hashes>)>);

impl Hashing {
    fn start(mut hashes: Hashes) -> Self {
        // Bounded by the number of writes in flight: one payload each.
        let (sender, mut payloads) = mpsc::unbounded_channel::<(Payload, oneshot::Sender<Hashes>)>();
        tokio::spawn(async move {
            while let Some((payload, done)) = payloads.recv().await {
                if payload.len() <= HASH_HERE {
                    payload.frames().iter().for_each(|frame| hashes.update(frame));
                } else {
                    match hash_off_worker(hashes, payload.frames().to_vec(), Hashes::update).await {
                        Ok(after) => hashes = after,
                        // The runtime is shutting down; whoever waits sees its sender dropped.
                        Err(_) => return,
                    }
                }
                // Nobody waits any more when the upload has failed.
                let _ = done.send(hashes.clone());
            }
        });
        Self(sender)
    }

    fn add(&self, payload: Payload) -> oneshot::Receiver<Hashes> {
        let (done, hashed) = oneshot::channel();
        // A failed send drops `done`, which is what the receiver then sees.
        let _ = self.0.send((payload, done));
        hashed
    }
}

/// Hashes runs on the blocking pool.
pub(super) async fn hash_off_worker<H: Send + 'static>(
    mut hasher: H,
    runs: Vec<Bytes>,
    update: fn(&mut H, &[u8]),
) -> Result<H, BlobError> {
    tokio::task::spawn_blocking(move || {
        runs.iter().for_each(|run| update(&mut hasher, run));
        hasher
    })
    .await
    .map_err(|error| BlobError::Unavailable(format!("hashing ended: {error}")))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::future::join_all;
    use futures_util::stream::{self, BoxStream, StreamExt};

    use crate::blob::{BlobOptions, BlobStore, MemoryFragments};
    use crate::budget::Budget;
    use crate::id::{FileId, GroupId, Owner};
    use crate::meta::{MemoryMeta, Transaction};
    use crate::payload::Payload;
    use crate::replicate::{Blocks, FragmentError, FragmentPage, Fragments, ListCursor};

    /// Fragments that take their time, and know what all payloads under way hold.
    #[derive(Debug)]
    struct Slow {
        inner: MemoryFragments,
        budget: Budget,
        under_way: AtomicU64,
        most: AtomicU64,
    }

    #[async_trait]
    impl Fragments for Slow {
        async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
            let held = self.under_way.fetch_add(payload.len(), Ordering::Relaxed) + payload.len();
            self.most.fetch_max(held, Ordering::Relaxed);
            for _ in 0..50 {
                let held = self.under_way.load(Ordering::Relaxed);
                let counted = self.budget.total() - self.budget.available();
                assert!(counted >= held, "{held} bytes are held, and {counted} are counted");
                tokio::task::yield_now().await;
            }
            self.under_way.fetch_sub(payload.len(), Ordering::Relaxed);
            self.inner.write(owner, payload).await
        }

        async fn write_in(
            &self,
            group: GroupId,
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
            self.inner.read(file, range).await
        }

        async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
            self.inner.delete(file).await
        }

        async fn list(
            &self,
            cursor: Option<ListCursor>,
            limit: usize,
        ) -> Result<FragmentPage, FragmentError> {
            self.inner.list(cursor, limit).await
        }
    }

    #[tokio::test]
    async fn what_is_being_written_is_counted_until_it_is_written() {
        let budget = Budget::new(1 << 20);
        let (inner, none) = (MemoryFragments::new(), AtomicU64::default);
        let slow = Arc::new(Slow { inner, budget: budget.clone(), under_way: none(), most: none() });
        let options = BlobOptions::default().fragment_size(256 << 10).unwrap();
        let store = BlobStore::new(Arc::new(MemoryMeta::new()), slow.clone(), budget.clone(), options);
        let puts = (0..8).map(|_| {
            let body = stream::iter((0..64).map(|_| Ok(Bytes::from(vec![7; 50_000])))).boxed();
            async { store.put(body, None, &|_| Transaction::new()).await }
        });
        for put in join_all(puts).await {
            assert_eq!(put.unwrap().size, 64 * 50_000);
        }
        let most = slow.most.load(Ordering::Relaxed);
        assert!((budget.total() / 2..=budget.total()).contains(&most), "{most} bytes were under way at once");
        assert_eq!(budget.available(), budget.total());
    }
}
