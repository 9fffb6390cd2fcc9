//! Errors as the distribution specification writes them, and what some errors of storage are to its clients. The others
//! are the same [for all](crate::registry::failure).

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use speedy_core::blob::BlobError;
use speedy_core::digest::ParseDigestError;

use crate::registry::access::Denied;
use crate::registry::admission::Refusal;
use crate::registry::body::BodyFailure;
use crate::registry::failure::{Failure, Parameter};
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
    PreconditionFailed,
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
    /// The code of what both interfaces refuse alike.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT => Self::BlobUploadInvalid,
            StatusCode::FORBIDDEN => Self::Denied,
            // Of read-only mode, too: clients take it for final and show the message, where 503 would make them try again
            // for minutes.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Self::Unsupported,
            StatusCode::PAYLOAD_TOO_LARGE => Self::SizeInvalid,
            StatusCode::PRECONDITION_FAILED => Self::PreconditionFailed,
            StatusCode::RANGE_NOT_SATISFIABLE => Self::RangeInvalid,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The code of what is wrong with a parameter of the query.
    fn of_parameter(parameter: Parameter) -> Self {
        match parameter {
            Parameter::Digest => Self::DigestInvalid,
            Parameter::Filter => Self::Unsupported,
            Parameter::Page => Self::PaginationNumberInvalid,
            Parameter::Repository => Self::NameInvalid,
        }
    }

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
            Self::PreconditionFailed => "PRECONDITION_FAILED",
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
    failure: Failure,
    code: Code,
    /// One error each in the answer.
    details: Vec<Value>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(status, message), code, details: Vec::new() }
    }

    pub(super) fn bad_request(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Failure::method_not_allowed(allow).into()
    }

    pub(super) fn detail(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    /// The same of a manifest, where it is the body that was refused.
    pub(super) fn of_manifest(self) -> Self {
        let code = match self.code {
            Code::BlobUploadInvalid => Code::ManifestInvalid,
            code => code,
        };
        Self { code, ..self }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.failure = self.failure.header(name, value);
        self
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let code = failure.parameter.map_or_else(|| Code::of(failure.status), Code::of_parameter);
        Self { code, failure, details: Vec::new() }
    }
}

impl AsRef<Failure> for ApiError {
    fn as_ref(&self) -> &Failure {
        &self.failure
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
            BlobError::NotFound(_) => {
                let mut answer = Self::not_found(Code::BlobUnknown, "the blob is not there");
                answer.failure = answer.failure.cause(error);
                answer
            }
            error => Failure::from(error).into(),
        }
    }
}

impl From<BodyFailure> for ApiError {
    fn from(failure: BodyFailure) -> Self {
        let is_of_length = matches!(failure, BodyFailure::Long(_) | BodyFailure::Short(_));
        let answer = Self::from(Failure::from(failure));
        if is_of_length { Self { code: Code::SizeInvalid, ..answer } } else { answer }
    }
}

/// Most things that are named in one answer.
const MOST_DETAILS: usize = 1000;

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let mut message = error.to_string();
        match error {
            PutError::Missing(digests) => {
                if digests.len() > MOST_DETAILS {
                    message += &format!("; these are the first {MOST_DETAILS}");
                }
                let mut answer = Self::bad_request(Code::ManifestBlobUnknown, message);
                // Manifests that name more are made to make such answers.
                let named = digests.iter().take(MOST_DETAILS);
                answer.details = named.map(|digest| json!({ "digest": digest.to_string() })).collect();
                answer
            }
            PutError::Size { digest, named, actual } => Self::bad_request(Code::ManifestInvalid, message)
                .detail(json!({ "digest": digest.to_string(), "size": named, "actual": actual })),
            PutError::Precondition => {
                Self::new(StatusCode::PRECONDITION_FAILED, Code::PreconditionFailed, message)
            }
            PutError::Storage(error) => error.into(),
        }
    }
}

/// 412: what is there is not what the client says that it is.
pub(super) fn precondition_failed() -> ApiError {
    PutError::Precondition.into()
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
    fn from(denied: Denied) -> Self {
        Failure::from(denied).into()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, message) = (self.code.name(), &self.failure.message);
        let error = |detail: Value| json!({ "code": code, "message": message, "detail": detail });
        let errors: Vec<Value> = match self.details.is_empty() {
            true => vec![error(Value::Null)],
            false => self.details.iter().cloned().map(error).collect(),
        };
        let document = json!({ "errors": errors }).to_string();
        self.failure.answer(document)
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
            assert_eq!(
                (answer.failure.told(), answer.code.name()),
                ((status, status == 503), code),
                "{error}"
            );
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
