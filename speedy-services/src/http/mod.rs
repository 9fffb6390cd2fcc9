//! Serving an axum router over HTTP/1.1 and HTTP/2 without TLS, with the limits and the drain of a public server.

mod progress;

use std::time::Duration;

use axum::Router;
use futures_util::StreamExt;
use hyper::rt::Timer;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::drain::Drain;
use crate::listen::connections;
use progress::Progress;

/// How long a client may take for the head of a request, idle time between two requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may leave an answer lying without taking a byte of it.
const SEND_PATIENCE: Duration = Duration::from_secs(120);
/// How often an HTTP/2 connection is pinged, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);
/// Flow control windows of HTTP/2, and the largest frame.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_FRAME: u32 = 256 << 10;
/// Requests that one HTTP/2 connection may have open at a time.
const MAX_STREAMS: u32 = 128;

/// Serves a router on a listener until the process drains: then it takes no new connection and no new request, and
/// returns when the requests under way have ended or the drain's patience has.
///
/// Each request carries the client's [`SocketAddr`](std::net::SocketAddr) as axum's
/// [`ConnectInfo`](axum::extract::ConnectInfo).
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let graceful = GracefulShutdown::new();
    let mut incoming = Box::pin(connections(listener));
    let mut drained = Box::pin(drain.started());
    loop {
        tokio::select! {
            biased;
            () = &mut drained => break,
            connection = incoming.next() => match connection {
                Some(Ok(connection)) => spawn(connection, &router, &graceful),
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

fn spawn(connection: TcpStream, router: &Router, graceful: &GracefulShutdown) {
    // A connection that is dead already has no peer; serving it fails at once.
    let Ok(peer) = connection.peer_addr() else { return };
    let service = router.clone().layer(axum::Extension(axum::extract::ConnectInfo(peer)));
    let builder = builder(TokioTimer::new());
    let io = TokioIo::new(Progress::new(connection, SEND_PATIENCE));
    let watched = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service)).into_owned();
    let watched = graceful.watch(watched);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            // Clients go away all the time; the request's own log line says what it cost.
            tracing::debug!(%peer, error = %innermost(&*error), "a connection ended");
        }
    });
}

fn builder(timer: impl Timer + Clone + Send + Sync + 'static) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(timer.clone()).header_read_timeout(HEAD_TIMEOUT);
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
