//! Errors as the distribution specification writes them, and the table of what each error of storage is to a client.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use speedy_core::blob::BlobError;
use speedy_core::digest::ParseDigestError;

use crate::registry::access::Denied;
use crate::registry::admission::Refusal;
use crate::registry::body::{BodyFailure, RequestBody};
use crate::registry::manifest::InvalidManifest;
use crate::registry::names::InvalidName;
use crate::registry::repositories::PutError;

/// The codes of the specification that this registry uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    TooManyRequests,
    Unavailable,
    Unknown,
    Unsupported,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

/// What a request is refused with.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    /// One error each in the answer.
    details: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the log says and the client does not get to see.
    cause: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Vec::new(), headers: Vec::new(), cause: None }
    }

    pub(super) fn bad_request(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            format!("here only {allow} are supported"),
        )
        .header(ALLOW, HeaderValue::from_static(allow))
    }

    pub(super) fn detail(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn cause(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Writes what the client is not told into the log.
    pub(super) fn log(&self, request_id: &str) {
        if let Some(cause) = &self.cause {
            tracing::error!(request_id, status = self.status.as_u16(), cause, "a request failed");
        }
    }

    /// What became of a write whose body is at hand to tell why it failed.
    pub(super) fn of_upload(error: BlobError, body: &RequestBody) -> Self {
        match (body.failure(), error) {
            (Some(failure), BlobError::Body(_)) => failure.into(),
            (_, error) => error.into(),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::UnknownUpload(_) => Self::not_found(Code::BlobUploadUnknown, error.to_string()),
            BlobError::OutOfOrder { .. } => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, error.to_string())
            }
            BlobError::UploadBusy(_) => Self::new(
                StatusCode::CONFLICT,
                Code::BlobUploadInvalid,
                "another request is writing to this upload; ask where it stands and go on from there",
            ),
            BlobError::DigestMismatch { expected, actual } => {
                Self::bad_request(Code::DigestInvalid, "the content does not have the digest that was given")
                    .detail(json!({ "expected": expected.to_string(), "actual": actual.to_string() }))
            }
            BlobError::Body(reason) => Self::bad_request(Code::BlobUploadInvalid, reason),
            BlobError::NotFound(_) => {
                Self::not_found(Code::BlobUnknown, "the blob is not there").cause(error)
            }
            BlobError::Full(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                Code::Unavailable,
                "storage is full; pulls go on, pushes need more room",
            )
            .cause(error),
            BlobError::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "storage is not available at the moment; try again",
            )
            .header(RETRY_AFTER, HeaderValue::from_static("5"))
            .cause(error),
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the registry failed; its log has the reason under this request's X-Request-Id",
            )
            .cause(error),
        }
    }
}

impl From<BodyFailure> for ApiError {
    fn from(failure: BodyFailure) -> Self {
        let message = failure.to_string();
        match failure {
            BodyFailure::Broken => Self::bad_request(Code::BlobUploadInvalid, message),
            BodyFailure::Idle(_) => Self::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, message),
            BodyFailure::Large(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message),
            BodyFailure::Long(_) | BodyFailure::Short(_) => Self::bad_request(Code::SizeInvalid, message),
        }
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::Missing(digests) => {
                let mut answer = Self::bad_request(Code::ManifestBlobUnknown, message);
                answer.details =
                    digests.iter().map(|digest| json!({ "digest": digest.to_string() })).collect();
                answer
            }
            PutError::Size { digest, named, actual } => Self::bad_request(Code::ManifestInvalid, message)
                .detail(json!({ "digest": digest.to_string(), "size": named, "actual": actual })),
            PutError::Storage(error) => error.into(),
        }
    }
}

impl From<InvalidManifest> for ApiError {
    fn from(error: InvalidManifest) -> Self {
        Self::bad_request(Code::ManifestInvalid, error.to_string())
    }
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::bad_request(Code::NameInvalid, error.to_string())
    }
}

impl From<ParseDigestError> for ApiError {
    fn from(error: ParseDigestError) -> Self {
        Self::bad_request(Code::DigestInvalid, error.to_string())
    }
}

impl From<Denied> for ApiError {
    fn from(error: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Denied, error.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            // Clients take it for final and show the message, where 503 would make them try again for minutes.
            Refusal::ReadOnly(_) => Code::Unsupported,
            Refusal::Exceeded(_) => Code::TooManyRequests,
        };
        let headers = refusal.headers();
        Self { headers, ..Self::new(refusal.status(), code, refusal.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error =
            |detail: Value| json!({ "code": self.code.name(), "message": self.message, "detail": detail });
        let errors: Vec<Value> = match self.details.is_empty() {
            true => vec![error(Value::Null)],
            false => self.details.iter().cloned().map(error).collect(),
        };
        let mut response = Response::new(Body::from(json!({ "errors": errors }).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use speedy_core::digest::Digest;
    use speedy_core::id::{BlobId, UploadId};

    #[test]
    fn every_error_of_storage_has_a_status_and_a_code() {
        let digest = || Box::new(Digest::sha256(b"x"));
        let table = [
            (BlobError::UnknownUpload(UploadId::random()), 404, "BLOB_UPLOAD_UNKNOWN"),
            (BlobError::OutOfOrder { expected: 1 }, 416, "RANGE_INVALID"),
            (BlobError::UploadBusy(UploadId::random()), 409, "BLOB_UPLOAD_INVALID"),
            (BlobError::DigestMismatch { expected: digest(), actual: digest() }, 400, "DIGEST_INVALID"),
            (BlobError::Body("x".into()), 400, "BLOB_UPLOAD_INVALID"),
            (BlobError::NotFound(BlobId::random()), 404, "BLOB_UNKNOWN"),
            (BlobError::Damaged { blob: BlobId::random(), reason: "x".into() }, 500, "UNKNOWN"),
            (BlobError::Invalid("x".into()), 500, "UNKNOWN"),
            (BlobError::Full("x".into()), 507, "UNAVAILABLE"),
            (BlobError::Unavailable("x".into()), 503, "UNAVAILABLE"),
        ];
        for (error, status, code) in table {
            let answer = ApiError::from(error.clone());
            assert_eq!((answer.status.as_u16(), answer.code.name()), (status, code), "{error}");
            assert_eq!(answer.headers.iter().any(|(name, _)| name == RETRY_AFTER), status == 503, "{error}");
        }
    }

    #[tokio::test]
    async fn what_happened_inside_stays_out_of_the_answer() {
        let error = ApiError::from(BlobError::Unavailable("10.1.2.3 refused the connection".into()));
        let body = error.into_response().into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let message = "storage is not available at the moment; try again";
        assert_eq!(
            body,
            json!({ "errors": [{ "code": "UNAVAILABLE", "message": message, "detail": null }] })
        );
    }
}
