//! The admin pages of a process that has a chunk store: what `speedy store --admin` asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use speedy_core::store::{CheckOptions, ChunkStore, CompactionOptions, Control, Progress};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::drain::Drain;
use crate::tools::store::report::{Check, Compaction, Line, Stats};

/// How often a client hears how far its work is.
const TELL_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Pages {
    store: Arc<ChunkStore>,
    drain: Drain,
    /// A second check at the same time would only slow the first one down.
    checking: Arc<tokio::sync::Semaphore>,
}

/// `/store/stats`, `/store/check` and `/store/compact`.
pub fn store_router(store: Arc<ChunkStore>, drain: Drain) -> Router {
    Router::new()
        .route("/store/stats", get(stats))
        .route("/store/check", post(check))
        .route("/store/compact", post(compact))
        .with_state(Pages { store, drain, checking: Arc::new(tokio::sync::Semaphore::new(1)) })
}

async fn stats(State(pages): State<Pages>) -> Response {
    let stats = tokio::task::spawn_blocking(move || Stats::of(&pages.store)).await;
    match stats.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
        Ok(stats) => Json(stats).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckQuery {
    rate: Option<std::num::NonZeroU64>,
}

async fn check(State(pages): State<Pages>, Query(query): Query<CheckQuery>) -> Response {
    let Ok(permit) = pages.checking.clone().try_acquire_owned() else {
        return (StatusCode::CONFLICT, "a check is running: wait for it\n").into_response();
    };
    work(pages, move |store, control| {
        let _permit = permit;
        let mut options = CheckOptions::default().control(control);
        if let Some(rate) = query.rate {
            options = options.rate(rate.get());
        }
        store.check(&options).map(Check::from).map_err(|error| error.to_string())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactQuery {
    dead_percent: Option<u8>,
    rate: Option<u64>,
}

async fn compact(State(pages): State<Pages>, Query(query): Query<CompactQuery>) -> Response {
    work(pages, move |store, control| {
        let mut options = CompactionOptions::default().control(control);
        if let Some(percent) = query.dead_percent {
            options = options.dead_percent(percent);
        }
        if let Some(rate) = query.rate {
            options = options.rate(rate);
        }
        store.compact(&options).map(Compaction::from).map_err(|error| error.to_string())
    })
}

/// Cancels the work when the client has gone.
struct Cancel(Control);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Does something on a thread of its own, and answers lines of JSON that say how far it is.
fn work<T: Serialize + Send + 'static>(
    pages: Pages,
    work: impl FnOnce(&ChunkStore, Control) -> Result<T, String> + Send + 'static,
) -> Response {
    let (lines, answer) = mpsc::channel::<Bytes>(4);
    let (client, gone) = oneshot::channel::<()>();
    let control = Control::new();
    let cancel = Cancel(control.clone());
    // Dropped when the process drains, too.
    pages.drain.until(async move {
        let _ = gone.await;
        drop(cancel);
    });
    let told = Mutex::new(Instant::now());
    let progress = lines.clone();
    let control = control.on_progress(move |now: Progress| {
        let mut told = told.lock();
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            // A client that does not listen misses some.
            let _ = progress.try_send(line(&Line::<T>::Progress(now.into())));
        }
    });
    tokio::task::spawn_blocking(move || {
        let done = work(&pages.store, control);
        // Nobody may be there any more.
        let _ = lines.blocking_send(line(&done.map_or_else(Line::Error, Line::Report)));
    });
    let answer = ReceiverStream::new(answer).map(move |line| {
        let _open_as_long_as_the_answer = &client;
        Ok::<_, std::convert::Infallible>(line)
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(answer)).into_response()
}

fn line(line: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("reports have no keys but strings");
    text.push(b'\n');
    text.into()
}
