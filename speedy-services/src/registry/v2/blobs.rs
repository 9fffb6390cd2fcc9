use axum::response::Response;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use speedy_core::digest::Digest;

use super::error::{ApiError, Code};
use super::range::{Requested, requested};
use super::{Call, empty, etag, name_content, not_modified, value};
use crate::registry::access::Action;
use crate::registry::download::download;
use crate::registry::names::RepositoryName;

/// `GET` and `HEAD` of a blob.
pub(super) async fn get(
    call: &Call<'_>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let repositories = call.repositories();
    let blob = repositories.blob(name, &digest).await?.ok_or_else(|| unknown(&digest))?;
    if call.has_content(&digest) {
        return Ok(not_modified(&digest));
    }
    // A range is of the content that the client has seen; this digest never has another.
    let fits = call.header(IF_RANGE).is_none_or(|tag| tag == etag(&digest));
    let range = call.header(RANGE).filter(|_| fits && call.head.method == Method::GET);
    let (status, range) = match range.map_or(Requested::Whole, |range| requested(range, blob.size)) {
        Requested::Whole => (StatusCode::OK, 0..blob.size),
        Requested::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Requested::Unsatisfiable => {
            let message = format!("the blob has {} bytes, and none of those asked for", blob.size);
            return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, message)
                .header(CONTENT_RANGE, value(format!("bytes */{}", blob.size))));
        }
    };
    let mut response = empty(status);
    let headers = response.headers_mut();
    name_content(headers, &digest);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, value(format!("bytes {first}-{last}/{}", blob.size)));
    }
    if call.head.method == Method::GET {
        let idle = call.registry.0.options.download_idle;
        *response.body_mut() = download(repositories.blobs(), &blob, range, idle).await?;
    }
    Ok(response)
}

/// `DELETE` of a blob: this repository does not have it any more.
pub(super) async fn delete(
    call: &Call<'_>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    if call.repositories().unlink(name, &digest).await? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(unknown(&digest))
    }
}

fn unknown(digest: &Digest) -> ApiError {
    ApiError::not_found(Code::BlobUnknown, "the blob is not in this repository")
        .detail(json!({ "digest": digest.to_string() }))
}
