//! Repositories: the list of images that a push begins and ends with, and properties.

use std::fmt;

use axum::response::Response;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, StatusCode};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::endpoint::endpoint;
use super::error::ApiError;
use super::images::Announced;
use super::{Call, done, empty, json as json_response, value};
use crate::registry::access::Action;
use crate::registry::names::RepositoryName;

const TOKEN: HeaderName = HeaderName::from_static("x-docker-token");
const ENDPOINTS: HeaderName = HeaderName::from_static("x-docker-endpoints");

/// The longest list of images: 20,000 and more.
const MOST_LIST: u64 = 4 << 20;
/// The longest properties.
const MOST_PROPERTIES: u64 = 64 << 10;
/// The longest checksum that is kept in a list.
const MOST_CHECKSUM: usize = 256;

/// An image in a list that a client sends. What else there is (`Tag`) is not looked at.
struct Listed {
    id: String,
    checksum: Option<String>,
}

/// An object, and nothing that could be taken for one: a derived reader would take a list for it, too.
impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Listed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the id of an image")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Listed, A::Error> {
                let (mut id, mut checksum) = (None, None);
                while let Some(name) = fields.next_key::<String>()? {
                    match name.as_str() {
                        "id" => id = Some(fields.next_value()?),
                        "checksum" => checksum = fields.next_value()?,
                        _ => {
                            let _: IgnoredAny = fields.next_value()?;
                        }
                    }
                }
                Ok(Listed { id: id.ok_or_else(|| A::Error::missing_field("id"))?, checksum })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// `PUT` of a repository, with the images that are going to be pushed, and of its images, with those that were.
pub(super) async fn announce(
    call: &Call,
    name: &RepositoryName,
    status: StatusCode,
) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let (body, _counted) = call.read(MOST_LIST).await?;
    let list: Vec<Listed> = serde_json::from_slice(&body).map_err(|error| match error.classify() {
        Category::Data => ApiError::bad_request("Invalid data"),
        _ => ApiError::bad_request("Error Decoding JSON"),
    })?;
    let list = list.into_iter().map(announced).collect::<Result<Vec<_>, _>>()?;
    let mut response = json_response(status, &"".into());
    if status == StatusCode::NO_CONTENT {
        response = empty(status);
    }
    go_on(call, name, "write", &mut response)?;
    call.images().announce(name, list).await?;
    Ok(response)
}

fn announced(image: Listed) -> Result<Announced, ApiError> {
    let id = image.id.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let checksum = image.checksum.filter(|checksum| !checksum.is_empty());
    if checksum.as_ref().is_some_and(|checksum| checksum.len() > MOST_CHECKSUM) {
        return Err(ApiError::bad_request(format!("a checksum has at most {MOST_CHECKSUM} characters")));
    }
    Ok(Announced { id, checksum })
}

/// `GET` of a repository's images: what a pull begins with.
pub(super) async fn images(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let list = call.images().listed(name).await?.ok_or_else(|| ApiError::not_found("images not found"))?;
    let image = |image: Announced| match image.checksum {
        Some(checksum) => json!({ "id": image.id.to_string(), "checksum": checksum }),
        None => json!({ "id": image.id.to_string() }),
    };
    let mut response = json_response(StatusCode::OK, &list.into_iter().map(image).collect());
    go_on(call, name, "read", &mut response)?;
    Ok(response)
}

/// `DELETE` of a repository's images: its list is empty afterwards. Images that it has tags of stay.
pub(super) async fn delete_list(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    go_on(call, name, "delete", &mut response)?;
    call.images().delete_list(name).await?;
    Ok(response)
}

/// `DELETE` of a repository, or of all its tags, which is the same.
pub(super) async fn delete(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Delete, Some(name)).await?;
    if call.images().delete_repository(name).await? {
        Ok(done())
    } else {
        Err(ApiError::not_found("Repository not found"))
    }
}

/// `GET` of a repository's properties.
pub(super) async fn properties(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Pull, Some(name)).await?;
    let access = if call.images().is_private(name).await? { "private" } else { "public" };
    Ok(json_response(StatusCode::OK, &json!({ "access": access })))
}

/// `PUT` of a repository's properties.
pub(super) async fn put_properties(call: &Call, name: &RepositoryName) -> Result<Response, ApiError> {
    call.authorize(Action::Push, Some(name)).await?;
    let (body, _counted) = call.read(MOST_PROPERTIES).await?;
    let properties: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| ApiError::bad_request("Invalid data"))?;
    let private = match properties.get("access").and_then(Value::as_str) {
        Some("private") => true,
        Some("public") => false,
        _ => return Err(ApiError::bad_request("Invalid data")),
    };
    call.images().set_private(name, private).await?;
    Ok(done())
}

/// Tells the client where to go on, and gives it a token where it asks for one.
///
/// The token is what clients need to go on. It says nothing that is checked: who may do what is decided by the caller and
/// the action of each request. So whichever registry gave it, all take it.
fn go_on(call: &Call, name: &RepositoryName, access: &str, response: &mut Response) -> Result<(), ApiError> {
    let endpoint = endpoint(&call.head)
        .ok_or_else(|| ApiError::bad_request("the request has no Host header that names a host"))?;
    let headers = response.headers_mut();
    headers.insert(ENDPOINTS, endpoint);
    if call.filled_header(&TOKEN).is_some_and(|asked| asked.eq_ignore_ascii_case("true")) {
        let signature = Uuid::new_v4().simple();
        let token = value(format!("Token signature={signature},repository=\"{name}\",access={access}"));
        headers.insert(WWW_AUTHENTICATE, token.clone());
        headers.insert(TOKEN, token);
    }
    Ok(())
}
