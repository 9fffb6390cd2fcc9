//! The admin pages of a process with a registry: what `speedy read-only` and `speedy uploads` ask.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use speedy_core::blob::{BlobError, UploadInfo};
use speedy_core::id::UploadId;
use speedy_core::meta::{MetaError, Timestamp};

use crate::registry::{MAX_REASON, ReadOnly, Registry};

/// Uploads in one answer.
const PAGE: usize = 1000;

/// Whether pushes and deletes are refused.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ReadOnlyState {
    /// Whether they are.
    pub read_only: bool,
    /// Why; absent where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
}

/// An upload that has begun and not ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct UploadState {
    /// Its id.
    pub id: String,
    /// The repository that it goes to; absent where one request brings a whole blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Bytes on stable storage.
    pub bytes: u64,
    /// Since it began, in seconds; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Since it last grew, in seconds.
    pub idle_seconds: u64,
}

/// Some uploads, and where the list goes on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct UploadPage {
    /// In order of their ids.
    pub uploads: Vec<UploadState>,
    /// The id after which the list goes on; absent at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What became of an upload that was to be given up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Aborted {
    /// What it was; absent where there is none.
    pub upload: Option<UploadState>,
}

/// `/registry/read-only`, `/registry/uploads` and `/registry/uploads/abort`.
pub fn registry_router(registry: Registry) -> Router {
    Router::new()
        .route("/registry/read-only", get(read_only).post(set_read_only))
        .route("/registry/uploads", get(uploads))
        .route("/registry/uploads/abort", post(abort))
        .with_state(registry)
}

async fn read_only(State(registry): State<Registry>) -> Response {
    match registry.look_up_read_only().await {
        Ok(mode) => state(&registry, mode.as_deref()).await,
        Err(error) => unavailable(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
    #[serde(default)]
    reason: String,
}

async fn set_read_only(State(registry): State<Registry>, Query(switch): Query<Switch>) -> Response {
    let Switch { on, reason } = switch;
    if reason.len() > MAX_REASON || reason.contains(char::is_control) {
        let text = format!("a reason is one line of at most {MAX_REASON} bytes\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match registry.set_read_only(on.then_some(reason)).await {
        Ok(mode) => state(&registry, mode.as_deref()).await,
        Err(error) => unavailable(&error),
    }
}

async fn state(registry: &Registry, mode: Option<&ReadOnly>) -> Response {
    let Some(mode) = mode else {
        return Json(ReadOnlyState { read_only: false, reason: None, for_seconds: None }).into_response();
    };
    match registry.blobs().meta().now().await {
        Ok(now) => Json(ReadOnlyState {
            read_only: true,
            reason: (!mode.reason.is_empty()).then(|| mode.reason.clone()),
            for_seconds: Some(now.since(mode.since).as_secs()),
        })
        .into_response(),
        Err(error) => unavailable(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<String>,
    repository: Option<String>,
    idle_seconds: Option<u64>,
}

async fn uploads(State(registry): State<Registry>, Query(query): Query<ListQuery>) -> Response {
    let after = match query.after.as_deref().map(str::parse::<UploadId>).transpose() {
        Ok(after) => after,
        Err(error) => return bad_id(&error),
    };
    let now = match registry.blobs().meta().now().await {
        Ok(now) => now,
        Err(error) => return unavailable(&error),
    };
    let found = match registry.blobs().uploads(after, PAGE).await {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    let next = found.last().filter(|_| found.len() == PAGE).map(|last| last.id.to_string());
    let idle = Duration::from_secs(query.idle_seconds.unwrap_or(0));
    let wanted = |upload: &&UploadInfo| {
        query.repository.as_ref().is_none_or(|repository| upload.label == *repository)
            && now.since(upload.active) >= idle
    };
    let uploads = found.iter().filter(wanted).map(|upload| described(upload, now)).collect();
    Json(UploadPage { uploads, next }).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbortQuery {
    id: String,
}

async fn abort(State(registry): State<Registry>, Query(query): Query<AbortQuery>) -> Response {
    let id = match query.id.parse::<UploadId>() {
        Ok(id) => id,
        Err(error) => return bad_id(&error),
    };
    let now = match registry.blobs().meta().now().await {
        Ok(now) => now,
        Err(error) => return unavailable(&error),
    };
    match registry.blobs().abort_upload(id).await {
        Ok(upload) => {
            let upload = upload.map(|upload| described(&upload, now));
            if let Some(upload) = &upload {
                tracing::info!(upload = %id, repository = upload.repository, bytes = upload.bytes, "an upload was given up");
            }
            Json(Aborted { upload }).into_response()
        }
        Err(error) => failed(&error),
    }
}

fn described(upload: &UploadInfo, now: Timestamp) -> UploadState {
    UploadState {
        id: upload.id.to_string(),
        repository: (!upload.label.is_empty()).then(|| upload.label.clone()),
        bytes: upload.offset,
        age_seconds: upload.begun.map(|begun| now.since(begun).as_secs()),
        idle_seconds: now.since(upload.active).as_secs(),
    }
}

fn bad_id(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

fn unavailable(error: &MetaError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

fn failed(error: &BlobError) -> Response {
    let status = match error {
        BlobError::UploadBusy(_) => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}
