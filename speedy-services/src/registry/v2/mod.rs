//! Docker Registry v2, the OCI distribution specification 1.1.

mod blobs;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod manifests;
pub(super) mod range;
mod referrers;
mod route;
mod tags;
#[cfg(test)]
mod tests;
mod uploads;

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG, EXPECT, IF_NONE_MATCH, LINK, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use percent_encoding::percent_decode_str;
use speedy_core::digest::Digest;

use super::Registry;
use super::access::{Action, Caller};
use super::access_log::AccessLine;
use super::body::RequestBody;
use super::names::RepositoryName;
use super::patience::while_taken;
use super::repositories::Repositories;
use error::{ApiError, Code};
use route::Route;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Answers a request: finds what it is about, logs it, and gives every answer the headers that all have.
pub(super) async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = RequestBody::new(body, registry.0.options.body_idle);
    let passing = Arc::new(registry.0.traffic.begin());
    body.count_in(Arc::clone(&passing));
    let client = registry.0.admission.client(&head);
    let mut line = AccessLine::begin(&head, passing, client);
    let id = line.request_id().clone();
    let call = Call { registry: &registry, head: &head, body: &body, caller: Caller::of(&head) };
    let mut response = match id.scope(dispatch(&call, &mut line)).await {
        Ok(response) => response,
        Err(error) => {
            error.log(line.request_id().as_str());
            // A client that waits for `100 Continue` has sent nothing and will not.
            if !head.headers.contains_key(EXPECT) || body.received() > 0 {
                body.drain().await;
            }
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head.version == Version::HTTP_2 {
        let idle = registry.0.options.download_idle;
        response = response.map(|body| while_taken(body, idle));
    }
    line.follow(response)
}

async fn dispatch(call: &Call<'_>, line: &mut AccessLine) -> Result<Response, ApiError> {
    let path = percent_decode_str(call.head.uri.path()).decode_utf8().map_err(|_| {
        ApiError::bad_request(Code::NameInvalid, "the path is not UTF-8 after percent decoding")
    })?;
    let route = Route::parse(&path);
    let method = &call.head.method;
    let checked = route.as_ref().map_or(Ok(()), |route| route.check(method));
    if let (Ok(route), Ok(())) = (&route, &checked) {
        line.set_route(route.name());
    }
    // Requests that make no sense count against a client's rate, too.
    let _admitted = call.registry.0.admission.admit(call.head, call.body)?;
    let route = route?;
    checked?;
    match route {
        Route::Base => Ok(json(Cow::Borrowed("{}"))),
        Route::Catalog => tags::catalog(call).await,
        Route::Tags(name) => tags::list(call, &name).await,
        Route::Referrers(name, subject) => referrers::list(call, &name, subject.parse()?).await,
        Route::Blob(name, digest) => match *method {
            Method::DELETE => blobs::delete(call, &name, digest.parse()?).await,
            _ => blobs::get(call, &name, digest.parse()?).await,
        },
        Route::Manifest(name, reference) => match *method {
            Method::PUT => manifests::put(call, &name, reference).await,
            Method::DELETE => manifests::delete(call, &name, reference).await,
            _ => manifests::get(call, &name, reference).await,
        },
        Route::Uploads(name) => uploads::begin(call, &name).await,
        Route::Upload(name, id) => match *method {
            Method::PATCH => uploads::append(call, &name, id).await,
            Method::PUT => uploads::finish(call, &name, id).await,
            Method::DELETE => uploads::cancel(call, &name, id).await,
            _ => uploads::status(call, &name, id).await,
        },
    }
}

/// A request and where it came in.
struct Call<'a> {
    registry: &'a Registry,
    head: &'a Parts,
    body: &'a RequestBody,
    caller: Caller,
}

impl Call<'_> {
    fn repositories(&self) -> &Repositories {
        &self.registry.0.repositories
    }

    /// Refuses what the caller may not do.
    async fn authorize(&self, action: Action, name: Option<&RepositoryName>) -> Result<(), ApiError> {
        Ok(self.registry.0.access.authorize(&self.caller, action, name).await?)
    }

    /// A header as text; one that is not text counts as absent.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The first value of a query parameter.
    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.queries(name).next()
    }

    /// All values of a query parameter.
    fn queries(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    /// Whether the client has the content of this digest already.
    fn has_content(&self, digest: &Digest) -> bool {
        let etag = etag(digest);
        self.header(IF_NONE_MATCH).is_some_and(|tags| {
            tags.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == "*" || tag == etag)
        })
    }
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// A value that this registry has put together from parts that it has checked.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names, digests and numbers are printable ASCII")
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json(body: Cow<'static, str>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 304: what the client has is what it would get.
fn not_modified(digest: &Digest) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    name_content(response.headers_mut(), digest);
    response
}

fn name_content(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(CONTENT_DIGEST, value(digest.to_string()));
    headers.insert(ETAG, value(etag(digest)));
}

/// 201: content is there now, under `location`.
fn created(location: String, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    response.headers_mut().insert(LOCATION, value(location));
    response.headers_mut().insert(CONTENT_DIGEST, value(digest.to_string()));
    response
}

/// Where a list goes on. `pairs` are query parameters.
fn link_next(response: &mut Response, path: &str, pairs: &[(&str, &str)]) {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    response.headers_mut().insert(LINK, value(format!("<{path}?{query}>; rel=\"next\"")));
}
