//! Serving an axum router over HTTP/1.1 and HTTP/2 without TLS, with the limits and the drain of a public server.

mod connections;
mod progress;

use std::convert::Infallible;
use std::time::Duration;

use ::http::header::{CONNECTION, CONTENT_LENGTH};
use ::http::{HeaderValue, Request, StatusCode, Version};
use axum::Router;
use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper::rt::Timer;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::drain::Drain;
pub use connections::Connections;
use connections::Place;
use progress::Progress;

/// What a server waits for a client. Bodies of requests are timed where they are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Patience {
    /// How long the head of a request may take, idle time between two requests included; by default 60 seconds. A head
    /// is small: this measures the whole of it.
    pub head: Duration,
    /// How long an answer may lie without a byte of it being taken; by default 2 minutes.
    pub send: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(60), send: Duration::from_secs(120) }
    }
}

impl Patience {
    /// Sets [`head`](Self::head).
    #[must_use]
    pub fn head(mut self, patience: Duration) -> Self {
        self.head = patience;
        self
    }

    /// Sets [`send`](Self::send).
    #[must_use]
    pub fn send(mut self, patience: Duration) -> Self {
        self.send = patience;
        self
    }
}

/// How often an HTTP/2 connection is pinged, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);
/// Flow control windows of HTTP/2, and the largest frame.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_FRAME: u32 = 256 << 10;
/// Requests that one HTTP/2 connection may have open at a time.
const MAX_STREAMS: u32 = 128;
/// What is read from an HTTP/1 connection at once, and what is read ahead of its request: 64 KiB. Up to three times as much
/// is held for each connection with a body, outside the budget. A head may be as long. With twice as much, pushes of 64 MiB
/// blobs by four clients went 1% faster (533 and 536 MiB/s, medians of five in turns) and cost as much processor time.
const MAX_BUFFER: usize = 64 << 10;

/// Serves a router on a listener until the process drains: then it takes no new connection and no new request, and
/// returns when the requests under way have ended or the drain's patience has.
///
/// From the drain's announcement on each answer over HTTP/1 closes its connection, so that a client which keeps connections
/// goes elsewhere with its next request. Who closes one that rests could meet a request that is on its way, so those stay
/// until the drain starts; then they are closed, and HTTP/2 is told to make no more requests (`GOAWAY`).
///
/// Each request carries the client's [`SocketAddr`](std::net::SocketAddr) as axum's
/// [`ConnectInfo`](axum::extract::ConnectInfo).
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    serve_with(listener, router, drain, Patience::default(), Connections::default()).await;
}

/// Like [`serve`], with a patience of one's own and a limit on connections.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    drain: Drain,
    patience: Patience,
    connections: Connections,
) {
    let graceful = GracefulShutdown::new();
    let mut incoming = Box::pin(crate::listen::connections(listener));
    let mut drained = Box::pin(drain.started());
    loop {
        let next = async {
            let connection = incoming.next().await;
            // Above the limit this one waits here, and those behind it where the system keeps them.
            (connections.place().await, connection)
        };
        tokio::select! {
            biased;
            () = &mut drained => break,
            (place, connection) = next => match connection {
                Some(Ok(connection)) => {
                    spawn(connection, place, &router, &graceful, patience, &drain);
                }
                Some(Err(_)) => {}
                None => break,
            },
        }
    }
    // New connections are refused from here on.
    drop(incoming);
    if drain.bounded(graceful.shutdown()).await.is_none() {
        let seconds = drain.patience().as_secs();
        tracing::warn!("requests did not end within the {seconds} s of the drain and are broken off");
    }
}

fn spawn(
    connection: TcpStream,
    place: Place,
    router: &Router,
    graceful: &GracefulShutdown,
    patience: Patience,
    drain: &Drain,
) {
    // A connection that is dead already has no peer; serving it fails at once.
    let Ok(peer) = connection.peer_addr() else { return };
    let router = router.clone().layer(axum::Extension(axum::extract::ConnectInfo(peer)));
    let (connections, drain) = (place.connections().clone(), drain.clone());
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let is_version_1 = request.version() <= Version::HTTP_11;
        let (connections, drain) = (connections.clone(), drain.clone());
        let answer = router.clone().oneshot(request);
        async move {
            let mut response = answer.await?;
            // The router says 0. Of 304 it could only be the length of what is not sent, and 204 has none (RFC 9110, 8.6).
            if matches!(response.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            // Others wait, and who has been answered stands in line again; or the process is about to end.
            if is_version_1 && (connections.are_wanted() || drain.is_announced()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder(TokioTimer::new(), patience.head);
    let io = TokioIo::new(Progress::new(connection, patience));
    let watched = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service)).into_owned();
    let watched = graceful.watch(watched);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = watched.await {
            // Clients go away all the time; the request's own log line says what it cost.
            tracing::debug!(%peer, error = %innermost(&*error), "a connection ended");
        }
    });
}

fn builder(timer: impl Timer + Clone + Send + Sync + 'static, head: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(timer.clone()).header_read_timeout(head).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(timer)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PING);
    builder
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

#[cfg(test)]
mod tests;
