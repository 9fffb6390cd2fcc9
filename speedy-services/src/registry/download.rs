//! A blob's bytes on their way to a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use speedy_core::blob::{BlobError, BlobInfo, BlobReader, BlobStore};

use super::call::{Call, empty, value};
use super::failure::Failure;
use super::patience::Lent;
use super::range::{Requested, requested};

/// The body that sends `range` of a blob. The first bytes have been read when this returns, so that storage which
/// fails can still be answered with an error.
///
/// A client that takes nothing for `idle` loses the rest: what is read ahead for it would be held in memory for ever. Where
/// others wait for memory it is taken from clients that rest much sooner, and they don't notice.
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
    let reader = Lent::within(reader, idle, blobs.budget().clone(), BlobReader::rest);
    Ok(Body::new(Download { first: Some(first), reader, left: length, blob: *blob }))
}

/// The answer to a GET or HEAD of a blob's bytes: all of them, or for a GET those of the range that it asks for.
pub(super) async fn content<E: From<Failure> + From<BlobError>>(
    call: &Call,
    blob: &BlobInfo,
    range: Option<&str>,
) -> Result<Response, E> {
    let is_get = call.head.method == Method::GET;
    let asked = range.filter(|_| is_get).map_or(Requested::Whole, |range| requested(range, blob.size));
    let (status, range) = match asked {
        Requested::Whole => (StatusCode::OK, 0..blob.size),
        Requested::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Requested::Unsatisfiable => {
            let message = format!("the blob has {} bytes, and none of those asked for", blob.size);
            let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, message);
            return Err(failure.header(CONTENT_RANGE, value(format!("bytes */{}", blob.size))).into());
        }
    };
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, value(format!("bytes {first}-{last}/{}", blob.size)));
    }
    if is_get {
        let idle = call.registry.0.options.download_idle;
        *response.body_mut() = download(call.repositories().blobs(), blob, range, idle).await?;
    }
    Ok(response)
}

struct Download {
    first: Option<Bytes>,
    reader: Lent<BlobReader>,
    left: u64,
    blob: BlobInfo,
}

impl Download {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let first = &mut self.first;
        let polled = self.reader.poll(|reader| match first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(reader).poll_next(cx),
        });
        polled.map(|item| match item {
            Some(Some(Ok(bytes))) => Some(Ok(bytes)),
            Some(Some(Err(error))) => Some(Err(error.to_string())),
            Some(None) => Some(Err("its layout ends too early".into())),
            None => Some(Err("the client took no bytes for too long".into())),
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
    use std::sync::Arc;

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

    /// Downloads that nobody takes hold all that they may: a push does not wait, another download is served in seconds, and they go
    /// on where they were.
    #[tokio::test(start_paused = true)]
    async fn clients_that_rest_keep_nobody_waiting() {
        let options = BlobOptions::default().fragment_size(1 << 20).unwrap();
        let meta = Arc::new(MemoryMeta::new());
        let store = BlobStore::new(meta, Arc::new(MemoryFragments::new()), Budget::new(4 << 20), options);
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7 + at / 1013) as u8).collect();
        let link = |_: &BlobInfo| Transaction::new();
        let blob = store.put(body_of(content.clone()), None, &link).await.unwrap();
        let idle = Duration::from_secs(300);
        let mut downloads = Vec::new();
        for _ in 0..3 {
            downloads.push(download(&store, &blob, 0..3_000_000, idle).await.unwrap());
        }
        assert_eq!(store.budget().available(), 1 << 20);
        let begun = tokio::time::Instant::now();
        let other = store.put(body_of(content[..500_000].to_vec()), None, &link).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let body = download(&store, &other, 0..500_000, idle).await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), content[..500_000]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        for body in downloads {
            assert_eq!(body.collect().await.unwrap().to_bytes(), content);
        }
        assert_eq!(store.budget().available(), store.budget().total());
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_ended_leaves_no_task_behind() {
        let (store, blob) = store().await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        for _ in 0..3 {
            let body = download(&store, &blob, 0..10_000, Duration::from_secs(300)).await.unwrap();
            assert!(tasks() > before);
            assert_eq!(body.collect().await.unwrap().to_bytes().len(), 10_000);
        }
        // One that the client gives up, too.
        let mut given_up = download(&store, &blob, 0..10_000, Duration::from_secs(300)).await.unwrap();
        assert!(given_up.frame().await.unwrap().is_ok());
        drop(given_up);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(tasks(), before);
    }
}
