use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

use super::calls::Calls;
use super::{CONNECTION_WINDOW, MAX_FRAME, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW};
use crate::admin::Traffic;
use crate::drain::Drain;
use crate::listen::connections;

/// Streams that one connection may have open at a time. More wait their turn at the sender.
const MAX_STREAMS: u32 = 1024;

/// Serves gRPC services on a listener until the process drains: then it takes no new call, and returns when the
/// calls under way have ended or the drain's patience has.
///
/// # Errors
/// Where the transport fails as a whole.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    drain: Drain,
) -> Result<(), tonic::transport::Error> {
    serve_counted(listener, routes, drain, Traffic::grpc()).await
}

/// [`serve`], counting the calls.
///
/// # Errors
/// As [`serve`].
pub async fn serve_counted(
    listener: TcpListener,
    routes: Routes,
    drain: Drain,
    traffic: Traffic,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .layer(Calls(traffic))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections(listener), drain.started());
    drain.bounded(server).await.unwrap_or(Ok(()))
}
