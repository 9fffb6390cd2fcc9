//! Whether this is a registry, and who its users are: everyone.

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Call, SPOKEN, json as json_response};

/// The longest body of a request for an account.
const MOST: u64 = 64 << 10;

/// `GET /v1/_ping`
pub(super) fn ping() -> Response {
    json_response(StatusCode::OK, &json!({ "standalone": true, "version": SPOKEN }))
}

/// `GET /v1/users` is how Docker logs in, `POST` how it makes an account first. There are no accounts: both are well.
pub(super) async fn users(call: &Call) -> Result<Response, ApiError> {
    if call.head.method != Method::POST {
        return Ok(json_response(StatusCode::OK, &"OK".into()));
    }
    let (body, _counted) = call.read(MOST).await?;
    match serde_json::from_slice::<Value>(&body) {
        Ok(_) => Ok(json_response(StatusCode::CREATED, &"User Created".into())),
        Err(_) => Err(ApiError::bad_request("Error Decoding JSON")),
    }
}
