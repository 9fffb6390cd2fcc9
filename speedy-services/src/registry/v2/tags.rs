//! Lists of names: the tags of a repository, and the repositories.

use axum::response::Response;
use serde_json::json;

use super::error::{ApiError, Code};
use super::{Call, json as json_response, link_next};
use crate::registry::access::Action;
use crate::registry::names::RepositoryName;
use crate::registry::repositories::Listing;

/// The most names in one answer; a client that wants more follows the link.
const MOST: usize = 10_000;

/// `GET /v2/NAME/tags/list`
pub(super) async fn list(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let (n, last) = (limit(call)?, call.query("last"));
    let listing = call.repositories().tags(name, last.as_deref(), n).await?.ok_or_else(|| {
        ApiError::not_found(Code::NameUnknown, "there is no such repository")
            .detail(json!({ "name": name.as_str() }))
    })?;
    let body = json!({ "name": name.as_str(), "tags": listing.names }).to_string();
    Ok(page(body, &format!("/v2/{name}/tags/list"), n, &listing))
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(call: &Call) -> Result<Response, ApiError> {
    call.authorize(Action::Catalog, None).await?;
    let (n, last) = (limit(call)?, call.query("last"));
    let listing = call.repositories().catalog(last.as_deref(), n).await?;
    let body = json!({ "repositories": listing.names }).to_string();
    Ok(page(body, "/v2/_catalog", n, &listing))
}

/// How many names the client wants.
fn limit(call: &Call) -> Result<usize, ApiError> {
    let Some(n) = call.query("n").filter(|n| !n.is_empty()) else { return Ok(MOST) };
    if !n.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::bad_request(Code::PaginationNumberInvalid, "`n` is not a number of entries")
            .detail(json!({ "n": n })));
    }
    // More digits than fit are more than there are.
    Ok(n.parse().unwrap_or(MOST).min(MOST))
}

fn page(body: String, path: &str, n: usize, listing: &Listing) -> Response {
    let mut response = json_response(body.into());
    if let Some(last) = listing.names.last().filter(|_| listing.more) {
        link_next(&mut response, path, &[("last", last), ("n", &n.to_string())]);
    }
    response
}
