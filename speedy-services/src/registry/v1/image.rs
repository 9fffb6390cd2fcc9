//! Images: JSON, layer, checksum and ancestry.

use axum::response::Response;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, ETAG, RANGE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::error::ApiError;
use super::images::{Claim, Image, ImageError};
use super::names::{Checksum, ImageId};
use super::{Call, done, json_bytes, value};
use crate::registry::access::Action;
use crate::registry::download::content;
use crate::registry::failure::blamed;
use crate::registry::object::{Misspelt, taken_for};

const CHECKSUM: HeaderName = HeaderName::from_static("x-docker-checksum");
const PAYLOAD: HeaderName = HeaderName::from_static("x-docker-checksum-payload");
const SIZE: HeaderName = HeaderName::from_static("x-docker-size");
const PAYLOAD_KNOWN: HeaderName = HeaderName::from_static("x-docker-payload-checksum");

/// The longest JSON of an image: what fits into its record.
const MOST_JSON: u64 = 96 << 10;
/// An image never changes once it is complete.
const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000");

/// `GET` of an image's JSON. Before a push it is the question whether the image is there.
pub(super) async fn get_json(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
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
pub(super) async fn put_json(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
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
    for name in json.keys() {
        if let Some(known) = taken_for(name, &["id", "parent"]) {
            return Err(ApiError::bad_request(Misspelt { name: name.clone(), known }.to_string()));
        }
    }
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
pub(super) async fn put_layer(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, None).await?;
    match call.images().put_layer(id, call.body.clone().boxed()).await {
        Ok(()) => Ok(done()),
        Err(ImageError::Storage(error)) => Err(blamed(error, &call.body)),
        Err(error) => Err(error.into()),
    }
}

/// `PUT` of an image's checksum, in headers: the image is complete if it is right.
pub(super) async fn put_checksum(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Push, None).await?;
    let said = |name: HeaderName| -> Result<Option<Checksum>, ApiError> {
        let refused = |reason: &dyn std::fmt::Display| ApiError::bad_request(format!("{name}: {reason}"));
        let mut values = call.head.headers.get_all(&name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        // Which of them would be compared is not for this registry to choose.
        if values.next().is_some() {
            return Err(refused(&"there is more than one"));
        }
        let text = value.to_str().map_err(|_| refused(&"it is no text"))?.trim();
        let parsed = (!text.is_empty()).then(|| text.parse::<Checksum>()).transpose();
        parsed.map_err(|error| refused(&error))
    };
    let claim = Claim { checksum: said(CHECKSUM)?, payload: said(PAYLOAD)? };
    if claim == Claim::default() {
        return Err(ApiError::bad_request("Missing Image's checksum"));
    }
    call.images().put_checksum(id, claim).await?;
    Ok(done())
}

/// `GET` of an image's ancestry.
pub(super) async fn ancestry(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let ancestry = call.images().ancestry(id).await?;
    let ids: Value = ancestry.iter().map(ToString::to_string).collect();
    let mut response = json_bytes(StatusCode::OK, ids.to_string().into());
    response.headers_mut().insert(CACHE_CONTROL, FOR_A_YEAR);
    Ok(response)
}

/// `GET` of an image's layer, or of a range of it: Docker takes up a download that broke off.
pub(super) async fn get_layer(call: &Call, id: &ImageId) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, None).await?;
    let layer = call.images().image(id).await?.layer;
    let mut response = content::<ApiError>(call, &layer, call.filled_header(&RANGE)).await?;
    let headers = response.headers_mut();
    headers.insert(ETAG, value(format!("\"{}\"", layer.digest)));
    headers.insert(CACHE_CONTROL, FOR_A_YEAR);
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
            (format!(r#"{{"id":"{id}","Parent":"{of}"}}"#), "must be written"),
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
