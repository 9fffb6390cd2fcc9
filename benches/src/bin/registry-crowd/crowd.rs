//! Many uploads side by side, each at its share of a rate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use speedy_benches::blobs::{Blob, Blobs};
use speedy_benches::server::Server;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant as Moment, sleep_until};

/// Bytes that a client sends at a time.
const PIECE: usize = 256 << 10;

type Body = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

/// Pushes blobs of this size all at once, at `rate` bytes a second together, and gives the seconds it took.
pub(crate) async fn push(server: &Server, uploads: usize, size: usize, rate: usize) -> Result<f64> {
    let blobs = Blobs::alike("bench/crowd", uploads, size, uploads);
    let pause = Duration::from_secs_f64(PIECE as f64 * uploads as f64 / rate as f64);
    server.take_peak_memory();
    let (began, start) = (Instant::now(), Moment::now());
    let mut running = JoinSet::new();
    for (number, blob) in (0..).zip(blobs.blobs) {
        // Spread over the first pause, so that they don't all send in the same instant.
        let first = start + pause * number / u32::try_from(uploads)?;
        running.spawn(push_paced(server.address(), blobs.repository, blob, first, pause));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// One POST with the whole blob.
async fn push_paced(
    server: SocketAddr,
    repository: &'static str,
    blob: Blob,
    first: Moment,
    pause: Duration,
) -> Result<()> {
    let stream = TcpStream::connect(server).await.context("connecting to the registry")?;
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest))
        .header(HOST, server.to_string())
        .header(CONTENT_LENGTH, blob.length())
        .body(StreamBody::new(paced(blob, first, pause)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status == StatusCode::CREATED, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(())
}

/// The blob's bytes, a piece at a time, each not before its time.
fn paced(
    blob: Blob,
    first: Moment,
    pause: Duration,
) -> Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>> {
    Box::pin(stream::unfold((blob.body(), first), move |(mut left, at)| async move {
        let length = left.remaining().min(PIECE);
        if length == 0 {
            return None;
        }
        sleep_until(at).await;
        // Shared with the blob, but for the last piece.
        let piece = left.copy_to_bytes(length);
        Some((Ok(Frame::data(piece)), (left, at + pause)))
    }))
}
