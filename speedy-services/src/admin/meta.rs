//! The admin pages of a process that has a metadata store: what `speedy meta backup` asks.

use std::io::{self, Write};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use speedy_core::meta::{BackupError, EmbeddedMeta};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::drain::Drain;

/// Blocks of a backup, of a quarter of a megabyte each, that wait for the client.
const BLOCKS_AHEAD: usize = 4;

#[derive(Clone)]
struct Pages {
    meta: Arc<EmbeddedMeta>,
    drain: Drain,
    /// A second backup at the same time would only slow the first one down.
    running: Arc<Semaphore>,
}

/// `/meta/backup`.
pub fn meta_router(meta: Arc<EmbeddedMeta>, drain: Drain) -> Router {
    let running = Arc::new(Semaphore::new(1));
    Router::new().route("/meta/backup", get(backup)).with_state(Pages { meta, drain, running })
}

/// The backup file, as a stream that breaks off where it can't be completed. A client that takes nothing of it for
/// long is given up by the server below.
async fn backup(State(pages): State<Pages>) -> Response {
    let Ok(permit) = pages.running.try_acquire_owned() else {
        return (StatusCode::CONFLICT, "a backup is being taken: wait for it\n").into_response();
    };
    let (blocks, answer) = mpsc::channel(BLOCKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut out = Blocks { blocks: &blocks, drain: &pages.drain };
        match pages.meta.backup(&mut out, &mut |_, _| {}) {
            Ok(info) => tracing::info!(
                entries = info.entries,
                bytes = info.bytes,
                "a backup of the metadata was taken by a client"
            ),
            Err(error) => {
                tracing::error!(%error, "a backup of the metadata was not completed");
                if !matches!(error, BackupError::Io(_)) {
                    // Breaks the answer off, so that the client does not take it for complete.
                    let _ = blocks.blocking_send(Err(io::Error::other(error.to_string())));
                }
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, Body::from_stream(ReceiverStream::new(answer))).into_response()
}

/// Hands what is written to the client, as fast as that takes it.
struct Blocks<'a> {
    blocks: &'a mpsc::Sender<io::Result<Bytes>>,
    drain: &'a Drain,
}

impl Write for Blocks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.drain.has_started() {
            return Err(io::Error::other("the process is draining"));
        }
        let sent = self.blocks.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::other("the client has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
