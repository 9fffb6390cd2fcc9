//! Errors as v1 clients read them, and the table of what each error of storage is to them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use speedy_core::blob::BlobError;

use super::images::ImageError;
use crate::registry::access::Denied;
use crate::registry::admission::Refusal;
use crate::registry::body::{BodyFailure, RequestBody};
use crate::registry::names::InvalidName;

/// What a request is refused with: `{"error": …}`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the log says and the client does not get to see.
    cause: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new(), cause: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn too_large(most: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes"))
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("here only {allow} are supported"))
            .header(ALLOW, HeaderValue::from_static(allow))
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

    /// What became of a read of a body which is at hand to tell why it failed.
    pub(super) fn of_body(error: impl Into<BlobError>, body: &RequestBody) -> Self {
        match (body.failure(), error.into()) {
            (Some(failure), BlobError::Body(_)) => failure.into(),
            (_, error) => error.into(),
        }
    }
}

impl From<BodyFailure> for ApiError {
    fn from(failure: BodyFailure) -> Self {
        let status = match failure {
            BodyFailure::Idle(_) => StatusCode::REQUEST_TIMEOUT,
            BodyFailure::Large(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyFailure::Broken | BodyFailure::Long(_) | BodyFailure::Short(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, failure.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let headers = refusal.headers();
        Self { headers, ..Self::new(refusal.status(), refusal.to_string()) }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Body(reason) => Self::bad_request(reason),
            BlobError::NotFound(_) => Self::not_found("Image not found").cause(error),
            BlobError::Full(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage is full; pulls go on, pushes need more room",
            )
            .cause(error),
            BlobError::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "storage is not available at the moment; try again",
            )
            .header(RETRY_AFTER, HeaderValue::from_static("5"))
            .cause(error),
            // The rest can't come from what this interface asks for, or is damage.
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the registry failed; its log has the reason under this request's X-Request-Id",
            )
            .cause(error),
        }
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        let message = error.to_string();
        match error {
            ImageError::NotFound => Self::not_found(message),
            ImageError::Exists | ImageError::Settled | ImageError::HasChildren | ImageError::Changed => {
                Self::new(StatusCode::CONFLICT, message)
            }
            ImageError::Uploading
            | ImageError::NoParent
            | ImageError::Deep
            | ImageError::NoLayer
            | ImageError::Mismatch
            | ImageError::Unverifiable(_) => Self::bad_request(message),
            ImageError::Storage(error) => error.into(),
        }
    }
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<Denied> for ApiError {
    fn from(error: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(json!({ "error": self.message }).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use speedy_core::id::{BlobId, UploadId};

    use super::*;

    #[test]
    fn every_error_of_storage_has_a_status() {
        for (error, status) in [
            (BlobError::Body("x".into()), 400),
            (BlobError::NotFound(BlobId::random()), 404),
            (BlobError::Damaged { blob: BlobId::random(), reason: "x".into() }, 500),
            (BlobError::Invalid("x".into()), 500),
            (BlobError::UploadBusy(UploadId::random()), 500),
            (BlobError::Full("x".into()), 507),
            (BlobError::Unavailable("x".into()), 503),
        ] {
            let answer = ApiError::from(ImageError::Storage(error.clone()));
            assert_eq!(answer.status.as_u16(), status, "{error}");
            assert_eq!(answer.headers.iter().any(|(name, _)| name == RETRY_AFTER), status == 503, "{error}");
        }
    }

    #[tokio::test]
    async fn what_happened_inside_stays_out_of_the_answer() {
        let error = ApiError::from(BlobError::Unavailable("10.1.2.3 refused the connection".into()));
        let body = error.into_response().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], br#"{"error":"storage is not available at the moment; try again"}"#);
    }
}
