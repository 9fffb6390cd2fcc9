use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use speedy_core::digest::Digest;

use super::error::ApiError;
use super::{Call, json as json_response, link_next};
use crate::registry::access::Action;
use crate::registry::manifest::OCI_INDEX;
use crate::registry::names::RepositoryName;
use crate::registry::repositories::Referrer;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The most bytes of one list, well below the 4 MiB that clients take as an index.
const MAX_LIST: usize = 1 << 20;

/// `GET /v2/NAME/referrers/DIGEST`: always an index, empty for what is not there.
pub(super) async fn list(call: &Call, name: &RepositoryName, subject: Digest) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    // No media type has a blank: one that comes out of decoding was a plus that had not been encoded.
    let filter =
        call.query("artifactType").filter(|kind| !kind.is_empty()).map(|kind| kind.replace(' ', "+"));
    let last = call.query("last").filter(|last| !last.is_empty()).map(|last| last.parse()).transpose()?;
    let referrers =
        call.repositories().referrers(name, &subject, filter.as_deref(), last.as_ref(), MAX_LIST).await?;
    let manifests: Vec<Value> = referrers.list.iter().map(descriptor).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut response = json_response(index.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if filter.is_some() {
        response.headers_mut().insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = referrers.next {
        let next = next.to_string();
        let mut pairs = vec![("last", next.as_str())];
        pairs.extend(filter.as_deref().map(|kind| ("artifactType", kind)));
        link_next(&mut response, &format!("/v2/{name}/referrers/{subject}"), &pairs);
    }
    Ok(response)
}

fn descriptor(referrer: &Referrer) -> Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest.to_string(),
        "size": referrer.size,
    });
    if let Some(kind) = &referrer.artifact_type {
        descriptor["artifactType"] = kind.as_str().into();
    }
    if !referrer.annotations.is_empty() {
        descriptor["annotations"] = json!(referrer.annotations);
    }
    descriptor
}
