//! Docker Registry v2, the OCI distribution specification 1.1.

mod blobs;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod manifests;
mod referrers;
mod route;
mod tags;
#[cfg(test)]
mod tests;
mod uploads;

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_TYPE, ETAG, LINK, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use speedy_core::digest::Digest;

use super::Registry;
use super::access_log::AccessLine;
use super::admission::Errand;
use super::call::{Call, always, empty, value};
use super::preconditions::Preconditions;
use error::{ApiError, Code};
use route::Route;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Answers a request, with the headers that all answers have.
pub(super) async fn handle(registry: Registry, request: Request) -> Response {
    let (call, mut line) = Call::begin(registry, request);
    let mut response = call.answer(dispatch(&call, &mut line)).await;
    always(&mut response, API_VERSION, "registry/2.0");
    line.follow(response)
}

/// Finds what a request is about.
async fn dispatch(call: &Call, line: &mut AccessLine) -> Result<Response, ApiError> {
    let path = call.path().ok_or_else(|| {
        ApiError::bad_request(Code::NameInvalid, "the path is not UTF-8 after percent decoding")
    })?;
    let method = &call.head.method;
    let route = Route::parse(&path).and_then(|route| route.check(method).map(|()| route));
    if let Ok(route) = &route {
        line.set_route(route.name());
    }
    call.check().map_err(|failure| match &route {
        Ok(Route::Manifest(..)) => ApiError::from(failure).of_manifest(),
        _ => failure.into(),
    })?;
    // Requests that make no sense count against a client's rate, too.
    let _admitted = call.admit(route.as_ref().map_or(Errand::Stray, Route::errand)).await?;
    match route? {
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

impl Call {
    /// What has to be there, or not, for this request to be carried out.
    fn preconditions(&self) -> Preconditions {
        Preconditions::of(&self.head.headers)
    }

    /// The answer to who need not read this content, because it has it already.
    ///
    /// # Errors
    /// Where the client wants other content or none.
    fn unread(&self, digest: &Digest) -> Result<Option<Response>, ApiError> {
        let preconditions = self.preconditions();
        if !preconditions.match_holds(Some(digest)) {
            return Err(error::precondition_failed());
        }
        Ok((!preconditions.none_match_holds(Some(digest))).then(|| not_modified(digest)))
    }
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
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
