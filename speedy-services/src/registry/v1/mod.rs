//! Docker Registry v1, index and registry in one, standalone: what Docker spoke up to 1.5, and what today's
//! `docker search` still does.
//!
//! Layers are blobs like any other, so one that is byte-identical to a blob of v2 is stored once. A repository's name is
//! one name for both interfaces; v1 lists the images that came through v1, and v2 the manifests that came through v2.

mod endpoint;
mod error;
mod files;
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

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use speedy_core::blob::BlobError;
use speedy_core::budget::Reservation;

use super::Registry;
use super::access::{Action, Caller};
use super::access_log::AccessLine;
use super::body::RequestBody;
use super::names::RepositoryName;
use super::patience::while_taken;
use error::ApiError;
use images::Images;
pub(super) use route::is_of_v1;
use route::{Part, Route};
pub(super) use search::Names;

const VERSION: HeaderName = HeaderName::from_static("x-docker-registry-version");
const STANDALONE: HeaderName = HeaderName::from_static("x-docker-registry-standalone");
/// The version of the interface: that of the last registry which spoke it.
const SPOKEN: &str = "0.9.1";

/// Answers a request: finds what it is about, logs it, and gives every answer the headers that all have.
pub(super) async fn handle(registry: Registry, request: Request) -> Response {
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
    headers.insert(VERSION, HeaderValue::from_static(SPOKEN));
    headers.insert(STANDALONE, HeaderValue::from_static("true"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head.version == Version::HTTP_2 {
        let idle = registry.0.options.download_idle;
        response = response.map(|body| while_taken(body, idle));
    }
    line.follow(response)
}

async fn dispatch(call: &Call<'_>, line: &mut AccessLine) -> Result<Response, ApiError> {
    let path = percent_decode_str(call.head.uri.path())
        .decode_utf8()
        .map_err(|_| ApiError::bad_request("the path is not UTF-8 after percent decoding"))?;
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

/// A request and where it came in.
struct Call<'a> {
    registry: &'a Registry,
    head: &'a Parts,
    body: &'a RequestBody,
    caller: Caller,
}

impl Call<'_> {
    fn images(&self) -> Images {
        Images::new(self.registry.0.repositories.blobs().clone())
    }

    /// Refuses what the caller may not do. Images are no one repository's: `name` is absent then.
    async fn authorize(&self, action: Action, name: Option<&RepositoryName>) -> Result<(), ApiError> {
        Ok(self.registry.0.access.authorize(&self.caller, action, name).await?)
    }

    /// A header as text; one that is not text, or that is empty, counts as absent.
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The first value of a query parameter.
    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Reads a body of at most `most` bytes, which are counted in the budget for as long as what comes beside them is kept.
    async fn read(&self, most: u64) -> Result<(Bytes, [Reservation; 2]), ApiError> {
        let announced = self.body.announced().unwrap_or(most);
        if announced > most {
            return Err(ApiError::too_large(most));
        }
        // Of both, in the order in which manifests reserve, and before the first byte.
        let share = self.registry.0.manifests.reserve(announced).await;
        let reserved = self.registry.0.repositories.blobs().budget().reserve(announced).await;
        match self.body.read_all(most).await {
            Ok(Some(bytes)) => Ok((bytes, [share, reserved])),
            Ok(None) => Err(ApiError::too_large(most)),
            Err(error) => Err(ApiError::of_body(BlobError::Body(error.0), self.body)),
        }
    }
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
