use axum::response::Response;
use http::header::{CACHE_CONTROL, IF_RANGE, RANGE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use speedy_core::digest::Digest;

use super::error::{ApiError, Code, precondition_failed};
use super::{Call, empty, etag, name_content};
use crate::registry::access::Action;
use crate::registry::download::content;
use crate::registry::names::RepositoryName;

/// `GET` and `HEAD` of a blob.
pub(super) async fn get(call: &Call, name: &RepositoryName, digest: Digest) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let repositories = call.repositories();
    let blob = repositories.blob(name, &digest).await?.ok_or_else(|| unknown(&digest))?;
    if let Some(answer) = call.unread(&digest)? {
        return Ok(answer);
    }
    // A range is of the content that the client has seen; this digest never has another.
    let fits = call.header(IF_RANGE).is_none_or(|tag| tag == etag(&digest));
    let range = call.header(RANGE).filter(|_| fits);
    let mut response = content::<ApiError>(call, &blob, range).await?;
    let headers = response.headers_mut();
    name_content(headers, &digest);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
    Ok(response)
}

/// `DELETE` of a blob: this repository does not have it any more.
pub(super) async fn delete(call: &Call, name: &RepositoryName, digest: Digest) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    let repositories = call.repositories();
    // Under a digest there is that content or none.
    if !call.preconditions().hold(Some(&digest)) {
        let is_there = repositories.blob(name, &digest).await?.is_some();
        return Err(if is_there { precondition_failed() } else { unknown(&digest) });
    }
    if repositories.unlink(name, &digest).await? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(unknown(&digest))
    }
}

fn unknown(digest: &Digest) -> ApiError {
    ApiError::not_found(Code::BlobUnknown, "the blob is not in this repository")
        .detail(json!({ "digest": digest.to_string() }))
}
