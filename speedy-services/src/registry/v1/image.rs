//! Images: JSON, layer, checksum and ancestry.

use axum::response::Response;
use futures_util::StreamExt;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};

use super::error::ApiError;
use super::images::{Claim, Image, ImageError};
use super::names::{Checksum, ImageId};
use super::{Call, done, empty, json_bytes, value};
use crate::registry::access::Action;
use crate::registry::download::download;
use crate::registry::v2::range::{Requested, requested};

const CHECKSUM: HeaderName = HeaderName::from_static("x-docker-checksum");
const PAYLOAD: HeaderName = HeaderName::from_static("x-docker-checksum-payload");
const SIZE: HeaderName = HeaderName::from_static("x-docker-size");
const PAYLOAD_KNOWN: HeaderName = HeaderName::from_static("x-docker-payload-checksum");

/// The longest JSON of an image: what fits into its record.
const MOST_JSON: u64 = 96 << 10;
/// An image never changes once it is complete.
const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000");

/// `GET` of an image's JSON. Before a push it is the question whether the image is there.
pub(super) async fn get_json(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let Image { json, layer, payload } = call.images().image(id).await?;
    let mut response = json_bytes(StatusCode::OK, json);
    let headers = response.headers_mut();
    headers.insert(SIZE, layer.size.into());
    headers.insert(PAYLOAD_KNOWN, value(format!("sha256:{}", hex::encode(payload))));
    headers.insert(CACHE_CONTROL, FOR_A_YEAR);
    Ok(response)
}

/// `PUT` of an image's JSON.
pub(super) async fn put_json(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, None).await?;
    let (body, _counted) = call.read(MOST_JSON).await?;
    let parent = parent(id, &body)?;
    call.images().put_json(id, parent, &body).await?;
    Ok(done())
}

/// Reads in an image's JSON which image it is built on, if any.
fn parent(id: &ImageId, json: &[u8]) -> Result<Option<ImageId>, ApiError> {
    let json: Map<String, Value> =
        serde_json::from_slice(json).map_err(|_| ApiError::bad_request("Invalid JSON"))?;
    match json.get("id") {
        None => return Err(ApiError::bad_request("Missing key `id' in JSON")),
        Some(named) if *named != Value::String(id.to_string()) => {
            return Err(ApiError::bad_request("JSON data contains invalid id"));
        }
        Some(_) => {}
    }
    match json.get("parent") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(parent)) if parent.is_empty() => Ok(None),
        Some(Value::String(parent)) => {
            let parent: Result<ImageId, _> = parent.parse();
            parent.map(Some).map_err(|_| ImageError::NoParent.into())
        }
        Some(_) => Err(ApiError::bad_request("JSON data contains invalid parent")),
    }
}

/// `PUT` of an image's layer, of any length.
pub(super) async fn put_layer(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, None).await?;
    match call.images().put_layer(id, call.body.clone().boxed()).await {
        Ok(()) => Ok(done()),
        Err(ImageError::Storage(error)) => Err(ApiError::of_body(error, call.body)),
        Err(error) => Err(error.into()),
    }
}

/// `PUT` of an image's checksum, in headers: the image is complete if it is right.
pub(super) async fn put_checksum(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, None).await?;
    let said = |name: HeaderName| -> Result<Option<Checksum>, ApiError> {
        let parsed = call.header(&name).map(str::parse).transpose();
        parsed.map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
    };
    let claim = Claim { checksum: said(CHECKSUM)?, payload: said(PAYLOAD)? };
    if claim == Claim::default() {
        return Err(ApiError::bad_request("Missing Image's checksum"));
    }
    call.images().put_checksum(id, claim).await?;
    Ok(done())
}

/// `GET` of an image's ancestry.
pub(super) async fn ancestry(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let ancestry = call.images().ancestry(id).await?;
    let ids: Value = ancestry.iter().map(ToString::to_string).collect();
    let mut response = json_bytes(StatusCode::OK, ids.to_string().into());
    response.headers_mut().insert(CACHE_CONTROL, FOR_A_YEAR);
    Ok(response)
}

/// `GET` of an image's layer, or of a range of it: Docker takes up a download that broke off.
pub(super) async fn get_layer(call: &Call<'_>, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let layer = call.images().image(id).await?.layer;
    let range = call.header(&RANGE).filter(|_| call.head.method == Method::GET);
    let (status, range) = match range.map_or(Requested::Whole, |range| requested(range, layer.size)) {
        Requested::Whole => (StatusCode::OK, 0..layer.size),
        Requested::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Requested::Unsatisfiable => {
            let message = format!("the layer has {} bytes, and none of those asked for", layer.size);
            return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message)
                .header(CONTENT_RANGE, value(format!("bytes */{}", layer.size))));
        }
    };
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, value(format!("\"{}\"", layer.digest)));
    headers.insert(CACHE_CONTROL, FOR_A_YEAR);
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, value(format!("bytes {first}-{last}/{}", layer.size)));
    }
    if call.head.method == Method::GET {
        let idle = call.registry.0.options.download_idle;
        *response.body_mut() = download(call.registry.0.repositories.blobs(), &layer, range, idle).await?;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_names_the_image_and_what_it_is_built_on() {
        let (id, of) = ("ab".repeat(32), "cd".repeat(32));
        let image: ImageId = id.parse().unwrap();
        let read = |text: &str| parent(&image, text.as_bytes()).map_err(|error| format!("{error:?}"));
        assert_eq!(read(&format!(r#"{{"id":"{id}"}}"#)), Ok(None));
        assert_eq!(read(&format!(r#"{{"id":"{id}","parent":""}}"#)), Ok(None));
        assert_eq!(read(&format!(r#"{{"id":"{id}","parent":null}}"#)), Ok(None));
        assert_eq!(read(&format!(r#"{{"id":"{id}","parent":"{of}"}}"#)), Ok(of.parse().ok()));
        for (text, reason) in [
            (String::new(), "Invalid JSON"),
            (format!(r#"["{id}",null]"#), "Invalid JSON"),
            ("{}".into(), "Missing key `id' in JSON"),
            (r#"{"id":7}"#.into(), "JSON data contains invalid id"),
            (format!(r#"{{"id":"{of}"}}"#), "JSON data contains invalid id"),
            (format!(r#"{{"id":"{id}","parent":"x"}}"#), "non existing parent"),
            (format!(r#"{{"id":"{id}","parent":["{of}"]}}"#), "JSON data contains invalid parent"),
        ] {
            assert!(read(&text).unwrap_err().contains(reason), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_json_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), depth in 0..300usize) {
            let image: ImageId = "ab".repeat(32).parse().unwrap();
            prop_assert!(parent(&image, &bytes).is_err());
            let nested = format!(r#"{{"id":"{image}","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            let _ = parent(&image, nested.as_bytes());
        }
    }
}
