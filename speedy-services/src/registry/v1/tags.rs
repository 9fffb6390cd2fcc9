//! Tags, and who put them.

use axum::response::Response;
use http::StatusCode;
use http::header::USER_AGENT;
use serde_json::{Value, json};

use super::error::ApiError;
use super::images::{ImageError, TagInfo};
use super::names::ImageId;
use super::{Call, done, json as json_response};
use crate::registry::access::Action;
use crate::registry::names::{RepositoryName, Tag};

/// The longest body: a JSON string of an image's id.
const MOST: u64 = 4 << 10;
/// What is kept of a client's name for itself.
const MOST_AGENT: usize = 512;

/// `GET` of a repository's tags.
pub(super) async fn list(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let tags = call.images().tags(name).await?.ok_or_else(|| ApiError::not_found("Repository not found"))?;
    let tags: serde_json::Map<String, Value> =
        tags.into_iter().map(|(tag, image)| (tag, image.to_string().into())).collect();
    Ok(json_response(StatusCode::OK, &Value::Object(tags)))
}

/// `GET` of a tag.
pub(super) async fn get(call: &Call, name: &RepositoryName, tag: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    match find(call, name, tag).await? {
        Some(tag) => Ok(json_response(StatusCode::OK, &tag.image.to_string().into())),
        None => Err(ApiError::not_found("Tag not found")),
    }
}

/// `PUT` of a tag.
pub(super) async fn put(call: &Call, name: &RepositoryName, tag: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let tag: Tag = tag.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let (body, _counted) = call.read(MOST).await?;
    let image: String = serde_json::from_slice(&body).map_err(|_| ApiError::bad_request("Invalid data"))?;
    let image: ImageId = image.parse().map_err(|_| ImageError::NotFound)?;
    let agent = call.filled_header(&USER_AGENT).filter(|agent| agent.len() <= MOST_AGENT).unwrap_or_default();
    call.images().put_tag(name, &tag, &image, agent).await?;
    Ok(done())
}

/// `DELETE` of a tag.
pub(super) async fn delete(call: &Call, name: &RepositoryName, tag: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    let there = match tag.parse() {
        Ok(tag) => call.images().delete_tag(name, &tag).await?,
        Err(_) => false,
    };
    if there { Ok(done()) } else { Err(ApiError::not_found(format!("Tag not found: {tag}"))) }
}

/// `GET` of what is known of a tag, or of a repository by its tag `latest`: when and by whom it was put. Where nothing is
/// known, that.
pub(super) async fn about(call: &Call, name: &RepositoryName, tag: &str) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let tag = find(call, name, tag).await?;
    Ok(json_response(StatusCode::OK, &known(tag.as_ref())))
}

/// What a tag is; text that is no tag names none.
async fn find(call: &Call, name: &RepositoryName, tag: &str) -> Result<Option<TagInfo>, ApiError> {
    match tag.parse() {
        Ok(tag) => Ok(call.images().tag(name, &tag).await?),
        Err(_) => Ok(None),
    }
}

fn known(tag: Option<&TagInfo>) -> Value {
    let agent = tag.map(|tag| tag.agent.as_str()).unwrap_or_default();
    // As in `docker/1.5.0 go/go1.3.3 git-commit/a8a31ef kernel/3.13.0 os/linux arch/amd64`.
    let part = |name: &str| agent.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('/'));
    json!({
        "last_update": tag.map(|tag| tag.updated / 1000),
        "docker_version": part("docker"),
        "docker_go_version": part("go"),
        "arch": part("arch").unwrap_or("amd64").to_lowercase(),
        "kernel": part("kernel"),
        "os": part("os").unwrap_or("linux").to_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_calls_itself_is_told_apart() {
        let agent = "docker/1.5.0 go/go1.3.3 git-commit/a8a31ef kernel/3.13.0-37-generic os/Linux arch/AMD64";
        let tag = TagInfo {
            image: "ab".repeat(32).parse().unwrap(),
            updated: 1_423_526_400_999,
            agent: agent.into(),
        };
        let expected = json!({
            "last_update": 1_423_526_400u64,
            "docker_version": "1.5.0",
            "docker_go_version": "go1.3.3",
            "arch": "amd64",
            "kernel": "3.13.0-37-generic",
            "os": "linux",
        });
        assert_eq!(known(Some(&tag)), expected);
        assert_eq!(known(Some(&TagInfo { agent: "curl/8 x".into(), ..tag }))["docker_version"], Value::Null);
        assert_eq!(known(None)["last_update"], Value::Null);
    }
}
