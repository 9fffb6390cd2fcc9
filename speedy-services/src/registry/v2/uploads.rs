use axum::response::Response;
use futures_util::StreamExt;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderValue, StatusCode};
use speedy_core::blob::{BlobError, Body, Upload};
use speedy_core::digest::{Algorithm, Digest};
use speedy_core::id::UploadId;

use super::error::{ApiError, Code};
use super::{Call, UPLOAD_ID, created, empty, value};
use crate::registry::access::Action;
use crate::registry::failure::blamed;
use crate::registry::names::RepositoryName;
use crate::registry::range::{content_range, held};
use crate::registry::repositories::Repositories;

/// Repositories that are asked for a blob whose mount names none.
const MOUNT_CANDIDATES: usize = 64;

/// `POST` to a repository's uploads: a session, a whole blob, or a mount.
pub(super) async fn begin(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let blobs = call.repositories().blobs();
    let mut named_by = call.query("digest-algorithm").map(|name| name.parse()).transpose()?;
    if let Some(digest) = call.query("mount") {
        let digest: Digest = digest.parse()?;
        if mount(call, name, &digest).await? {
            return Ok(blob_created(name, &digest));
        }
        // What could not be mounted is what will be pushed.
        named_by = named_by.or(Some(digest.algorithm()));
    } else if let Some(digest) = call.query("digest") {
        let digest = digest.parse()?;
        blobs
            .put(body(call), Some(digest), &Repositories::link(name))
            .await
            .map_err(|error| blamed::<ApiError>(error, &call.body))?;
        return Ok(blob_created(name, &digest));
    }
    let named_by = named_by.unwrap_or(Algorithm::Sha256);
    let upload = blobs.begin_upload_named_by(name.as_str(), named_by).await?;
    Ok(state(StatusCode::ACCEPTED, name, upload.id(), 0))
}

/// Links a blob that is there already; `false` where there is none that the caller may read.
async fn mount(call: &Call, name: &RepositoryName, digest: &Digest) -> Result<bool, ApiError> {
    let repositories = call.repositories();
    if repositories.blob(name, digest).await?.is_some() {
        return Ok(true);
    }
    let sources = match call.query("from") {
        // A name that can't be has no blobs; the client uploads, as for any other mount that can't be made.
        Some(from) => from.parse().into_iter().collect(),
        None => repositories.holders(digest, MOUNT_CANDIDATES).await?,
    };
    for from in sources {
        if call.authorize(Action::Pull, Some(&from)).await.is_ok()
            && repositories.mount(&from, name, digest).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `PATCH`: bytes that go on where the session stands.
pub(super) async fn append(call: &Call, name: &RepositoryName, id: UploadId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let mut upload = find(call, name, id).await?;
    let at = position(call, name, &upload)?;
    match upload.append(at, body(call)).await {
        Ok(offset) => Ok(state(StatusCode::ACCEPTED, name, id, offset)),
        Err(error) => Err(refused(call, name, &upload, error)),
    }
}

/// `PUT`: perhaps the last bytes, and the digest of all.
pub(super) async fn finish(call: &Call, name: &RepositoryName, id: UploadId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let digest = call.query("digest").ok_or_else(|| {
        ApiError::bad_request(Code::DigestInvalid, "the query has no `digest` of the whole content")
    })?;
    let digest: Digest = digest.parse()?;
    let mut upload = match find(call, name, id).await {
        Ok(upload) => upload,
        // The answer to the first try was lost: the session is gone because it became this blob.
        Err(_) if call.repositories().blob(name, &digest).await?.is_some() => {
            return Ok(blob_created(name, &digest));
        }
        Err(error) => return Err(error),
    };
    upload.will_be_named_by(digest.algorithm());
    let at = position(call, name, &upload)?;
    if (at.is_some() || !call.body.is_at_end())
        && let Err(error) = upload.append_last(at, body(call)).await
    {
        return Err(refused(call, name, &upload, error));
    }
    match upload.commit(&digest, &Repositories::link(name)).await {
        Ok(_) => Ok(blob_created(name, &digest)),
        // The first try was still at it when this one began.
        Err(BlobError::UnknownUpload(_)) if call.repositories().blob(name, &digest).await?.is_some() => {
            Ok(blob_created(name, &digest))
        }
        Err(error) => Err(error.into()),
    }
}

/// `GET`: where the session stands. Whoever asks is about to go on from there.
pub(super) async fn status(call: &Call, name: &RepositoryName, id: UploadId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let upload = find(call, name, id).await?.renew().await?;
    Ok(state(StatusCode::NO_CONTENT, name, id, upload.offset()))
}

/// `DELETE`: the session is given up.
pub(super) async fn cancel(call: &Call, name: &RepositoryName, id: UploadId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    find(call, name, id).await?.cancel().await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The session, if it is one of this repository.
async fn find(call: &Call, name: &RepositoryName, id: UploadId) -> Result<Upload, ApiError> {
    let upload = call.repositories().blobs().upload(id).await?;
    call.registry.0.admission.limit(&call.body, upload.offset());
    if upload.label() == name.as_str() { Ok(upload) } else { Err(BlobError::UnknownUpload(id).into()) }
}

/// Where the client says that its bytes belong, if it does. The body is then held to the length of that range.
fn position(call: &Call, name: &RepositoryName, upload: &Upload) -> Result<Option<u64>, ApiError> {
    if !call.head.headers.contains_key(CONTENT_RANGE) {
        return Ok(None);
    }
    let Some(range) = call.header(CONTENT_RANGE).and_then(content_range) else {
        let message =
            "the Content-Range is not FIRST-LAST, two offsets of which the second is not the smaller";
        let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, message);
        return Err(with_state(error, name, upload.id(), Some(upload.offset())));
    };
    let length = range.end - range.start;
    if let Some(announced) = call.body.announced().filter(|announced| *announced != length) {
        let message = format!("the Content-Range is of {length} bytes and the Content-Length is {announced}");
        return Err(ApiError::bad_request(Code::SizeInvalid, message));
    }
    call.body.must_have(length);
    Ok(Some(range.start))
}

/// The error of an upload that goes on: the client is told where. One that was given up meanwhile does not.
fn refused(call: &Call, name: &RepositoryName, upload: &Upload, error: BlobError) -> ApiError {
    let offset = match &error {
        BlobError::UnknownUpload(_) => return error.into(),
        BlobError::OutOfOrder { expected } => Some(*expected),
        BlobError::Body(_) => Some(upload.offset()),
        _ => None,
    };
    with_state(blamed(error, &call.body), name, upload.id(), offset)
}

fn with_state(error: ApiError, name: &RepositoryName, id: UploadId, offset: Option<u64>) -> ApiError {
    let error = error.header(LOCATION, location(name, id)).header(UPLOAD_ID, value(id.to_string()));
    match offset {
        Some(offset) => error.header(RANGE, value(held(offset))),
        None => error,
    }
}

fn state(status: StatusCode, name: &RepositoryName, id: UploadId, offset: u64) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, location(name, id));
    headers.insert(RANGE, value(held(offset)));
    headers.insert(UPLOAD_ID, value(id.to_string()));
    response
}

/// Without scheme and host: whatever proxy the client came through, it finds its way back.
fn location(name: &RepositoryName, id: UploadId) -> HeaderValue {
    value(format!("/v2/{name}/blobs/uploads/{id}"))
}

fn blob_created(name: &RepositoryName, digest: &Digest) -> Response {
    created(format!("/v2/{name}/blobs/{digest}"), digest)
}

fn body(call: &Call) -> Body {
    call.body.clone().boxed()
}
