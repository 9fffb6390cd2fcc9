//! A blob's bytes on their way to a client.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use speedy_core::blob::{BlobError, BlobInfo, BlobReader, BlobStore};
use tokio::time::Instant;

/// The body that sends `range` of a blob. The first bytes have been read when this returns, so that storage which
/// fails can still be answered with an error.
///
/// A client that takes nothing for `idle` loses the rest: what is read ahead for it would be held in memory for ever.
pub(crate) async fn download(
    blobs: &BlobStore,
    blob: &BlobInfo,
    range: std::ops::Range<u64>,
    idle: Duration,
) -> Result<Body, BlobError> {
    let length = range.end - range.start;
    if length == 0 {
        return Ok(Body::empty());
    }
    let mut reader = blobs.read(blob, range)?;
    let first = reader.next().await.transpose()?.unwrap_or_default();
    if first.len() as u64 == length {
        return Ok(Body::from(first));
    }
    let reading = Arc::new(Mutex::new(Reading { reader: Some(reader), offered: Some(Instant::now()) }));
    tokio::spawn(watch(Arc::downgrade(&reading), idle));
    Ok(Body::new(Download { first: Some(first), reading, left: length, blob: *blob }))
}

struct Reading {
    /// `None` once the client has been given up.
    reader: Option<BlobReader>,
    /// Since when the client could have asked for more; `None` while it waits for storage.
    offered: Option<Instant>,
}

struct Download {
    first: Option<Bytes>,
    reading: Arc<Mutex<Reading>>,
    left: u64,
    blob: BlobInfo,
}

/// Drops the reader of a client that does not ask for more.
async fn watch(reading: Weak<Mutex<Reading>>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(reading) = reading.upgrade() else { return };
        let mut reading = reading.lock();
        next = reading.offered.unwrap_or_else(Instant::now) + idle;
        if next <= Instant::now() {
            reading.reader = None;
            return;
        }
    }
}

impl Download {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let mut reading = self.reading.lock();
        if let Some(first) = self.first.take() {
            reading.offered = Some(Instant::now());
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(reader) = &mut reading.reader else {
            return Poll::Ready(Some(Err("the client took no bytes for too long".into())));
        };
        let polled = Pin::new(reader).poll_next(cx);
        reading.offered = polled.is_ready().then(Instant::now);
        polled.map(|item| match item {
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(error)) => Some(Err(error.to_string())),
            None => Some(Err("its layout ends too early".into())),
        })
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.poll_bytes(cx).map(|item| {
            item.map(|item| match item {
                Ok(bytes) => {
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    Ok(Frame::data(bytes))
                }
                Err(reason) => {
                    tracing::warn!(blob = %self.blob.digest, left = self.left, reason, "a download broke off");
                    Err(std::io::Error::other(reason))
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use speedy_core::blob::{BlobOptions, MemoryFragments, body_of};
    use speedy_core::budget::Budget;
    use speedy_core::meta::{MemoryMeta, Transaction};

    use super::*;

    async fn store() -> (BlobStore, BlobInfo) {
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let meta = Arc::new(MemoryMeta::new());
        let store = BlobStore::new(meta, Arc::new(MemoryFragments::new()), Budget::new(8 << 20), options);
        let blob = store.put(body_of(vec![7; 10_000]), None, &|_| Transaction::new()).await.unwrap();
        (store, blob)
    }

    #[tokio::test]
    async fn a_body_knows_its_length_and_delivers_it() {
        let (store, blob) = store().await;
        for range in [0..10_000, 0..0, 5..6, 999..5001] {
            let body = download(&store, &blob, range.clone(), Duration::from_secs(60)).await.unwrap();
            assert_eq!(body.size_hint().exact(), Some(range.end - range.start));
            assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, range.end - range.start);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_gives_back_the_memory() {
        let (store, blob) = store().await;
        let budget = store.budget().clone();
        let mut body = download(&store, &blob, 0..10_000, Duration::from_secs(60)).await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert!(budget.available() < budget.total());
        tokio::time::sleep(Duration::from_secs(121)).await;
        assert_eq!(budget.available(), budget.total());
        assert!(body.frame().await.unwrap().is_err());
    }
}
