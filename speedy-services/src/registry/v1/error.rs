//! Errors as v1 clients read them, and what some errors of storage are to them. The others are the same
//! [for all](crate::registry::failure).

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use speedy_core::blob::BlobError;

use super::images::ImageError;
use crate::registry::access::Denied;
use crate::registry::admission::Refusal;
use crate::registry::body::BodyFailure;
use crate::registry::failure::Failure;
use crate::registry::names::InvalidName;

/// What a request is refused with: `{"error": …}`.
#[derive(Debug)]
pub(super) struct ApiError(Failure);

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(Failure::new(status, message))
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
        Self(Failure::method_not_allowed(allow))
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl AsRef<Failure> for ApiError {
    fn as_ref(&self) -> &Failure {
        &self.0
    }
}

impl From<BodyFailure> for ApiError {
    fn from(failure: BodyFailure) -> Self {
        Self(failure.into())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound(_) => {
                Self(Failure::new(StatusCode::NOT_FOUND, "Image not found").cause(error))
            }
            BlobError::UnknownUpload(_) => {
                Self::new(StatusCode::CONFLICT, "this upload was given up meanwhile; send the layer again")
            }
            error => Self(error.into()),
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
    fn from(denied: Denied) -> Self {
        Self(denied.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let document = json!({ "error": self.0.message }).to_string();
        self.0.answer(document)
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
            assert_eq!(answer.0.told(), (status, status == 503), "{error}");
        }
    }

    #[tokio::test]
    async fn what_happened_inside_stays_out_of_the_answer() {
        let error = ApiError::from(BlobError::Unavailable("10.1.2.3 refused the connection".into()));
        let body = error.into_response().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], br#"{"error":"storage is not available at the moment; try again"}"#);
    }
}
