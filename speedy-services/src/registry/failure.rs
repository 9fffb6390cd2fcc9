//! What a request is refused with, whichever interface it came through, and the table of what each error of storage is to
//! a client. An interface adds how its clients read it, and what only it can be asked for.

use std::any::Any;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use speedy_core::blob::BlobError;

use super::access::Denied;
use super::admission::{READS, Refusal};
use super::body::{BodyFailure, RequestBody};

/// Status, message and headers of an error.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the parameter of the query that is at fault is about, if one is.
    pub(super) parameter: Option<Parameter>,
    /// What the log says and the client does not get to see.
    cause: Option<String>,
}

/// What a parameter of a query is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parameter {
    Digest,
    Filter,
    Page,
    Repository,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new(), parameter: None, cause: None }
    }

    pub(super) fn of_parameter(mut self, parameter: Parameter) -> Self {
        self.parameter = Some(parameter);
        self
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow} only"))
            .header(ALLOW, HeaderValue::from_static(allow))
    }

    /// A fault of the registry itself.
    fn internal(cause: impl std::fmt::Display) -> Self {
        let message = "the registry failed; its log has the reason under this request's X-Request-Id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message).cause(cause)
    }

    /// What served the request panicked. Where in the code that was, the panic itself has told on stderr.
    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::internal(format_args!("a panic: {}", text.unwrap_or("without words")))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn cause(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Writes what the client is not told into the log.
    pub(super) fn log(&self, request_id: &str) {
        if let Some(cause) = &self.cause {
            tracing::error!(request_id, status = self.status.as_u16(), cause, "a request failed");
        }
    }

    /// The answer, with a document of the interface as its body.
    pub(super) fn answer(self, document: String) -> Response {
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

/// What became of something that read the body of a request, which is at hand to tell why it failed.
pub(super) fn blamed<E: From<BodyFailure> + From<BlobError>>(error: BlobError, body: &RequestBody) -> E {
    match (body.failure(), error) {
        (Some(failure), BlobError::Body(_)) => failure.into(),
        (_, error) => error.into(),
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Body(reason) => Self::new(StatusCode::BAD_REQUEST, reason),
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
            // The registry became read-only while the request was served.
            BlobError::Refused(reason) => Self::new(StatusCode::METHOD_NOT_ALLOWED, reason)
                .header(ALLOW, HeaderValue::from_static(READS)),
            // The rest an interface knows better, or it is damage.
            error => Self::internal(error),
        }
    }
}

impl From<BodyFailure> for Failure {
    fn from(failure: BodyFailure) -> Self {
        let status = match failure {
            BodyFailure::Idle(_) | BodyFailure::Slow => StatusCode::REQUEST_TIMEOUT,
            BodyFailure::Large(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyFailure::Broken | BodyFailure::Long(_) | BodyFailure::Short(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, failure.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let headers = refusal.headers();
        Self { headers, ..Self::new(refusal.status(), refusal.to_string()) }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, denied.to_string())
    }
}

#[cfg(test)]
mod tests {
    use speedy_core::digest::Digest;
    use speedy_core::id::{BlobId, UploadId};

    use super::*;

    impl Failure {
        /// Status, and whether the client is told when to come back.
        pub(in crate::registry) fn told(&self) -> (u16, bool) {
            (self.status.as_u16(), self.headers.iter().any(|(name, _)| name == RETRY_AFTER))
        }
    }

    #[test]
    fn what_no_interface_knows_better_has_a_status() {
        let digest = || Box::new(Digest::sha256(b"x"));
        for (error, told) in [
            (BlobError::Body("x".into()), (400, false)),
            (BlobError::Damaged { blob: BlobId::random(), reason: "x".into() }, (500, false)),
            (BlobError::Invalid("x".into()), (500, false)),
            (BlobError::UploadBusy(UploadId::random()), (500, false)),
            (BlobError::DigestMismatch { expected: digest(), actual: digest() }, (500, false)),
            (BlobError::Full("x".into()), (507, false)),
            (BlobError::Unavailable("x".into()), (503, true)),
            (BlobError::Refused("x".into()), (405, false)),
        ] {
            let failure = Failure::from(error.clone());
            assert_eq!(failure.told(), told, "{error}");
            // A fault of this side is explained in the log, and there alone.
            assert_eq!(failure.cause.is_some(), told.0 >= 500, "{error}");
        }
    }

    #[test]
    fn a_panic_is_a_fault_of_this_side_whatever_it_says() {
        for (panic, cause) in [
            (Box::new("words") as Box<dyn Any + Send>, "a panic: words"),
            (Box::new("7 words".to_owned()), "a panic: 7 words"),
            (Box::new(7), "a panic: without words"),
        ] {
            let failure = Failure::panicked(&*panic);
            assert_eq!((failure.told(), failure.cause.as_deref()), ((500, false), Some(cause)));
            assert!(!failure.message.contains("words"), "{}", failure.message);
        }
    }
}
