use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use serde_json::json;
use speedy_core::blob::BlobError;
use speedy_core::digest::{Algorithm, Digest};

use super::error::{ApiError, Code, precondition_failed};
use super::{Call, created, empty, name_content, value};
use crate::registry::access::Action;
use crate::registry::download::download;
use crate::registry::failure::blamed;
use crate::registry::manifest::{InvalidManifest, MAX_MANIFEST, Manifest};
use crate::registry::names::{InvalidReference, Reference, RepositoryName, Tag};
use crate::registry::repositories::{Condition, Removal, StoredContent};
use crate::registry::whole::Unread;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Tags that one `PUT` by digest may set.
const MAX_TAGS: usize = 16;
/// Manifests up to this are hashed and read where they are, in about 100 µs: a hop to another thread costs as much.
const PARSE_HERE: usize = 64 * 1024;
/// How many times its length a manifest takes when it has been read, if it is made to take much: of annotations with short names.
const GROWTH: u64 = 10;

/// `GET` and `HEAD` of a manifest.
pub(super) async fn get(call: &Call, name: &RepositoryName, reference: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let reference = existing(reference)?;
    let repositories = call.repositories();
    let manifest = repositories.manifest(name, &reference).await?.ok_or_else(|| unknown(&reference))?;
    if let Some(answer) = call.unread(&manifest.digest)? {
        return Ok(answer);
    }
    let mut response = empty(StatusCode::OK);
    if call.head.method == Method::GET {
        let idle = call.registry.0.options.download_idle;
        *response.body_mut() = match &manifest.content {
            StoredContent::Inline(bytes) => Body::from(bytes.clone()),
            StoredContent::Blob(blob) => download(repositories.blobs(), blob, 0..blob.size, idle).await?,
        };
    }
    let headers = response.headers_mut();
    name_content(headers, &manifest.digest);
    headers.insert(CONTENT_LENGTH, manifest.size.into());
    headers.insert(CONTENT_TYPE, value(manifest.media_type));
    Ok(response)
}

/// `PUT` of a manifest.
pub(super) async fn put(call: &Call, name: &RepositoryName, reference: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let reference: Reference = reference.parse().map_err(|error| match error {
        InvalidReference::Digest(error) => error.into(),
        InvalidReference::Tag(error) => ApiError::bad_request(Code::TagInvalid, error.to_string()),
    })?;
    let (named, mut tags) = match &reference {
        Reference::Digest(digest) => (Some(*digest), Vec::new()),
        Reference::Tag(tag) => (None, vec![tag.clone()]),
    };
    if named.is_some() {
        tags = extra_tags(call)?;
    }
    let (bytes, _held) = match call.registry.0.whole.read(&call.body, MAX_MANIFEST).await {
        Ok(read) => read,
        Err(Unread::TooLong) => return Err(too_large()),
        Err(Unread::Broken(error)) => {
            return Err(blamed::<ApiError>(BlobError::Body(error.0), &call.body).of_manifest());
        }
    };
    // Whoever has this waits for nothing of the body's share any more.
    let _parsed = call.registry.0.parsed.reserve(bytes.len() as u64 * GROWTH).await;
    let content_type = call.header(CONTENT_TYPE).map(str::to_owned);
    let algorithm = named.map_or(Algorithm::Sha256, |digest| digest.algorithm());
    let (digest, manifest) = read(content_type, algorithm, bytes.clone()).await?;
    if let Some(named) = named.filter(|named| *named != digest) {
        return Err(ApiError::bad_request(
            Code::DigestInvalid,
            "the manifest does not have the digest that it was put under",
        )
        .detail(json!({ "expected": named.to_string(), "actual": digest.to_string() })));
    }
    let manifest = manifest?;
    let preconditions = call.preconditions();
    let condition = Some(Condition { of: &reference, preconditions: &preconditions });
    call.repositories().put_manifest(name, &digest, &manifest, &bytes, &tags, condition).await?;
    let mut response = created(format!("/v2/{name}/manifests/{digest}"), &digest);
    if let Some(subject) = manifest.subject {
        response.headers_mut().insert(SUBJECT, value(subject.to_string()));
    }
    if named.is_some() {
        for tag in tags {
            response.headers_mut().append(TAG, value(tag.to_string()));
        }
    }
    Ok(response)
}

/// `DELETE` of a tag, or of a manifest with all its tags.
pub(super) async fn delete(
    call: &Call,
    name: &RepositoryName,
    reference: &str,
) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    let reference = existing(reference)?;
    let (repositories, preconditions) = (call.repositories(), call.preconditions());
    let removal = match &reference {
        Reference::Tag(tag) => repositories.delete_tag_where(name, tag, &preconditions).await?,
        // Under a digest there is that content or none.
        Reference::Digest(digest) if !preconditions.hold(Some(digest)) => {
            match repositories.manifest(name, &reference).await? {
                Some(_) => Removal::Refused,
                None => Removal::Missing,
            }
        }
        Reference::Digest(digest) => match repositories.delete_manifest(name, digest).await? {
            true => Removal::Done,
            false => Removal::Missing,
        },
    };
    match removal {
        Removal::Done => Ok(empty(StatusCode::ACCEPTED)),
        Removal::Missing => Err(unknown(&reference)),
        Removal::Refused => Err(precondition_failed()),
    }
}

/// What a client that wants something back names. Text that is no tag names nothing.
fn existing(reference: &str) -> Result<Reference, ApiError> {
    reference.parse().map_err(|error| match error {
        InvalidReference::Digest(error) => error.into(),
        InvalidReference::Tag(error) => {
            ApiError::not_found(Code::ManifestUnknown, format!("no tag can have this name: {error}"))
        }
    })
}

/// The `tag` parameters of a `PUT` by digest.
fn extra_tags(call: &Call) -> Result<Vec<Tag>, ApiError> {
    let mut tags = Vec::new();
    for tag in call.queries("tag") {
        tags.push(tag.parse().map_err(|error| ApiError::bad_request(Code::TagInvalid, format!("{error}")))?);
    }
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        let message = format!("one PUT sets at most {MAX_TAGS} tags; set the others with further ones");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, Code::TagInvalid, message));
    }
    Ok(tags)
}

/// Hashes and reads a manifest, a long one off the async workers' way.
async fn read(
    content_type: Option<String>,
    algorithm: Algorithm,
    bytes: Bytes,
) -> Result<(Digest, Result<Manifest, InvalidManifest>), ApiError> {
    let long = bytes.len() > PARSE_HERE;
    let read = move || (Digest::of(algorithm, &bytes), Manifest::parse(content_type.as_deref(), &bytes));
    if !long {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| BlobError::Unavailable(format!("reading a manifest ended: {error}")).into())
}

fn unknown(reference: &Reference) -> ApiError {
    let detail = match reference {
        Reference::Tag(tag) => json!({ "tag": tag.as_str() }),
        Reference::Digest(digest) => json!({ "digest": digest.to_string() }),
    };
    ApiError::not_found(Code::ManifestUnknown, "the manifest is not in this repository").detail(detail)
}

fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::SizeInvalid,
        format!("a manifest has at most {MAX_MANIFEST} bytes"),
    )
}
