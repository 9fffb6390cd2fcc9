//! Docker Registry v1, index and registry in one, standalone: what Docker spoke up to 1.5, and what today's
//! `docker search` still does.
//!
//! Layers are blobs like any other, so one that is byte-identical to a blob of v2 is stored once. A repository's name is
//! one name for both interfaces; v1 lists the images that came through v1, and v2 the manifests that came through v2.

mod endpoint;
mod error;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod image;
mod images;
mod names;
mod repository;
mod route;
mod search;
mod sums;
mod tags;
mod tar;
#[cfg(test)]
mod tests;
mod users;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;
use speedy_core::blob::BlobError;

use super::Registry;
use super::access::Action;
use super::access_log::AccessLine;
use super::admission::Errand;
use super::call::{Call, always, empty, value};
use super::failure::blamed;
use super::whole::{Held, Unread};
use error::ApiError;
pub(super) use images::{Images, Reached, all_images, all_repositories};
pub(super) use route::is_of_v1;
use route::{Part, Route};
pub(super) use search::Names;

const VERSION: HeaderName = HeaderName::from_static("x-docker-registry-version");
const STANDALONE: HeaderName = HeaderName::from_static("x-docker-registry-standalone");
/// The version of the interface: that of the last registry which spoke it.
const SPOKEN: &str = "0.9.1";

/// Answers a request, with the headers that all answers have.
pub(super) async fn handle(registry: Registry, request: Request) -> Response {
    let (call, mut line) = Call::begin(registry, request);
    let mut response = call.answer(dispatch(&call, &mut line)).await;
    always(&mut response, VERSION, SPOKEN);
    always(&mut response, STANDALONE, "true");
    line.follow(response)
}

/// Finds what a request is about.
async fn dispatch(call: &Call, line: &mut AccessLine) -> Result<Response, ApiError> {
    let path =
        call.path().ok_or_else(|| ApiError::bad_request("the path is not UTF-8 after percent decoding"))?;
    let method = &call.head.method;
    let route = Route::parse(&path).and_then(|route| route.check(method).map(|()| route));
    if let Ok(route) = &route {
        line.set_route(route.name());
    }
    call.check()?;
    // Requests that make no sense count against a client's rate, too.
    let _admitted = call.admit(if route.is_ok() { Errand::Single } else { Errand::Stray }).await?;
    match route? {
        Route::Ping => Ok(users::ping()),
        Route::Users => users::users(call).await,
        Route::User => Ok(empty(StatusCode::NO_CONTENT)),
        Route::Search => search::search(call).await,
        Route::Repository(name) => match *method {
            Method::DELETE => repository::delete(call, &name).await,
            _ => repository::announce(call, &name, StatusCode::OK).await,
        },
        Route::Auth(name) => {
            call.authorize(Action::Push, Some(&name)).await?;
            Ok(json(StatusCode::OK, &"OK".into()))
        }
        Route::Images(name) => match *method {
            Method::PUT => repository::announce(call, &name, StatusCode::NO_CONTENT).await,
            Method::DELETE => repository::delete_list(call, &name).await,
            _ => repository::images(call, &name).await,
        },
        Route::Properties(name) => match *method {
            Method::PUT => repository::put_properties(call, &name).await,
            _ => repository::properties(call, &name).await,
        },
        Route::About(name) => tags::about(call, &name, "latest").await,
        Route::Tags(name) => match *method {
            Method::DELETE => repository::delete(call, &name).await,
            _ => tags::list(call, &name).await,
        },
        Route::Tag(name, tag) => match *method {
            Method::PUT => tags::put(call, &name, tag).await,
            Method::DELETE => tags::delete(call, &name, tag).await,
            _ => tags::get(call, &name, tag).await,
        },
        Route::AboutTag(name, tag) => tags::about(call, &name, tag).await,
        Route::Image(id, part) => {
            let id = id.map_err(|error| match *method {
                Method::PUT => ApiError::bad_request(error.to_string()),
                _ => ApiError::not_found(images::ImageError::NotFound.to_string()),
            })?;
            match (part, method) {
                (Part::Json, &Method::PUT) => image::put_json(call, &id).await,
                (Part::Layer, &Method::PUT) => image::put_layer(call, &id).await,
                (Part::Json, _) => image::get_json(call, &id).await,
                (Part::Layer, _) => image::get_layer(call, &id).await,
                (Part::Checksum, _) => image::put_checksum(call, &id).await,
                (Part::Ancestry, _) => image::ancestry(call, &id).await,
                (Part::Files, _) => files::files(call, &id).await,
                (Part::Diff, _) => files::diff(call, &id).await,
            }
        }
    }
}

impl Call {
    fn images(&self) -> Images {
        Images::new(self.repositories().clone())
    }

    /// A header as text; one that is empty counts as absent, too.
    fn filled_header(&self, name: &HeaderName) -> Option<&str> {
        self.header(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Reads a body of at most `most` bytes, which are counted in the budget for as long as what comes beside them is kept.
    async fn read(&self, most: u64) -> Result<(Bytes, Held), ApiError> {
        self.registry.0.whole.read(&self.body, most).await.map_err(|unread| match unread {
            Unread::TooLong => ApiError::too_large(most),
            Unread::Broken(error) => blamed(BlobError::Body(error.0), &self.body),
        })
    }
}

fn json(status: StatusCode, body: &Value) -> Response {
    json_bytes(status, body.to_string().into())
}

fn json_bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    *response.body_mut() = Body::from(body);
    response
}

/// What is answered where there is nothing to say.
fn done() -> Response {
    json(StatusCode::OK, &Value::Bool(true))
}
