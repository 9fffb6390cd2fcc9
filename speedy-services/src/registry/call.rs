//! What every request has in common, whichever interface it is of: it is counted, logged, watched while its body comes,
//! and answered, also where what serves it fails or panics.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{AsHeaderName, CONNECTION, EXPECT, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, Version};
use percent_encoding::percent_decode_str;
use speedy_core::request::RequestId;

use super::Registry;
use super::access::{Action, Caller, Denied};
use super::access_log::AccessLine;
use super::admission::{Admitted, Errand, Refusal, changes};
use super::ambiguity::contradiction;
use super::body::{Ends, RequestBody};
use super::failure::Failure;
use super::names::RepositoryName;
use super::patience::while_taken;
use super::repositories::Repositories;

/// A request and where it came in.
pub(super) struct Call {
    pub(super) registry: Registry,
    pub(super) head: Parts,
    pub(super) body: RequestBody,
    caller: Caller,
    id: RequestId,
}

impl Call {
    /// Takes a request in, and begins its line in the access log.
    pub(super) fn begin(registry: Registry, request: Request) -> (Self, AccessLine) {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body, registry.0.options.body_idle);
        let passing = Arc::new(registry.0.traffic.begin());
        body.count_in(Arc::clone(&passing));
        let client = registry.0.admission.client(&head);
        let line = AccessLine::begin(&head, passing, client);
        let (caller, id) = (Caller::of(&head), line.request_id().clone());
        (Self { registry, head, body, caller, id }, line)
    }

    /// Answers with what `work` makes of the request.
    pub(super) async fn answer<E>(&self, work: impl Future<Output = Result<Response, E>>) -> Response
    where
        E: IntoResponse + From<Failure> + AsRef<Failure>,
    {
        // A panic would end the connection without an answer, and over HTTP/2 every other request on it. Nothing that
        // outlives the request is left half changed: metadata changes by transactions, and locks are let go of.
        let done = AssertUnwindSafe(self.id.clone().scope(work));
        let done = done.catch_unwind().await;
        let answered = done.unwrap_or_else(|panic| Err(Failure::panicked(&*panic).into()));
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                error.as_ref().log(self.id.as_str());
                error.into_response()
            }
        };
        // A client that waits for `100 Continue` has sent nothing and will not.
        if !self.head.headers.contains_key(EXPECT) || self.body.received() > 0 {
            let ends = self.body.linger();
            if ends == Ends::Cut && self.head.version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.head.version == Version::HTTP_2 {
            let idle = self.registry.0.options.download_idle;
            response = response.map(|body| while_taken(body, idle));
        }
        response
    }

    /// Refuses a request that contradicts itself.
    pub(super) fn check(&self) -> Result<(), Failure> {
        contradiction(&self.head).map_or(Ok(()), Err)
    }

    /// The path, percent-decoded; `None` where that gives no text.
    pub(super) fn path(&self) -> Option<Cow<'_, str>> {
        percent_decode_str(self.head.uri.path()).decode_utf8().ok()
    }

    /// Lets the request in when it is its turn, or says why not. It counts until what this gives is dropped.
    pub(super) async fn admit(&self, errand: Errand) -> Result<Admitted, Refusal> {
        self.registry.0.admission.admit(&self.head, &self.body, errand).await
    }

    /// What is in the registry. Requests of a method that changes nothing see it unguarded: that somebody asks for a thing
    /// may move the time until it is collected, also while the registry is read-only.
    pub(super) fn repositories(&self) -> &Repositories {
        let parts = &self.registry.0;
        if changes(&self.head.method) { &parts.changed } else { &parts.repositories }
    }

    /// Refuses what the caller may not do. An image of v1 is in no repository: `name` is absent then.
    pub(super) async fn authorize(
        &self,
        action: Action,
        name: Option<&RepositoryName>,
    ) -> Result<(), Denied> {
        self.registry.0.access.authorize(&self.caller, action, name).await
    }

    /// A header as text; one that is not text counts as absent.
    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.queries(name).next()
    }

    /// All values of a query parameter.
    pub(super) fn queries(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
    }
}

/// A value that this registry has put together from parts that it has checked.
pub(super) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names, digests and numbers are printable ASCII")
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A header that has one value always.
pub(super) fn always(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
    use speedy_core::budget::Budget;
    use speedy_core::meta::MemoryMeta;

    use super::*;
    use crate::registry::RegistryOptions;

    /// Tells what it was refused with.
    #[derive(Debug)]
    struct Plain(Failure);

    impl From<Failure> for Plain {
        fn from(failure: Failure) -> Self {
            Self(failure)
        }
    }

    impl AsRef<Failure> for Plain {
        fn as_ref(&self) -> &Failure {
            &self.0
        }
    }

    impl IntoResponse for Plain {
        fn into_response(self) -> Response {
            let message = self.0.message.clone();
            self.0.answer(message)
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_the_body_read() {
        let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()));
        let blobs = BlobStore::new(meta, fragments, Budget::new(8 << 20), BlobOptions::default());
        let registry = Registry::new(blobs, RegistryOptions::default());
        let request = Request::post("/v2/").body(Body::from("sent before the answer is read")).unwrap();
        let (call, line) = Call::begin(registry, request);
        let work = async {
            if call.body.received() == 0 {
                panic!("of this test");
            }
            Ok::<_, Plain>(empty(StatusCode::OK))
        };
        let response = line.follow(call.answer(work).await);
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key("x-request-id"));
        while call.body.received() < 30 {
            // The client is heard out.
            tokio::task::yield_now().await;
        }
        let told = response.into_body().collect().await.unwrap().to_bytes();
        assert!(told.starts_with(b"the registry failed; its log has the reason"), "{told:?}");
    }
}
