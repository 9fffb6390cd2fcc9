//! Paths. Repository names contain slashes, so a path is read from its end: what a request is about stands there.

use http::Method;
use speedy_core::id::UploadId;

use super::error::{ApiError, Code};
use crate::registry::admission::Errand;
use crate::registry::names::RepositoryName;

/// What a path is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route<'a> {
    /// `/v2/`: whether this is a registry.
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(RepositoryName),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(RepositoryName, &'a str),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(RepositoryName, &'a str),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(RepositoryName, UploadId),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(RepositoryName, &'a str),
}

impl<'a> Route<'a> {
    /// Reads a path, percent-decoded.
    pub(super) fn parse(path: &'a str) -> Result<Self, ApiError> {
        let unknown = || ApiError::not_found(Code::Unsupported, "there is no such endpoint");
        let path = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown()),
        };
        if path == "_catalog" {
            return Ok(Self::Catalog);
        }
        if let Some(name) =
            path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(name.parse()?));
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name.parse()?));
        }
        let (front, last) = path.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            let name = name.parse()?;
            let id = last.parse().map_err(|_| {
                ApiError::not_found(
                    Code::BlobUploadUnknown,
                    "there is no such upload: this is not an id of one",
                )
            })?;
            return Ok(Self::Upload(name, id));
        }
        // A path such as `/v2/manifests/latest` has an empty name.
        let (name, kind) = front.rsplit_once('/').unwrap_or(("", front));
        match kind {
            "manifests" => Ok(Self::Manifest(name.parse()?, last)),
            "blobs" => Ok(Self::Blob(name.parse()?, last)),
            "referrers" => Ok(Self::Referrers(name.parse()?, last)),
            _ => Err(unknown()),
        }
    }

    /// What it is called in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) => "uploads",
            Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
        }
    }

    /// What it is to the limits on clients.
    pub(super) fn errand(&self) -> Errand {
        match self {
            Self::Uploads(_) => Errand::Begins,
            Self::Upload(..) => Errand::GoesOn,
            _ => Errand::Single,
        }
    }

    /// The methods that it takes, for an `Allow` header.
    fn allowed(&self) -> &'static str {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }

    /// Refuses a method that it does not take.
    pub(super) fn check(&self, method: &Method) -> Result<(), ApiError> {
        let allowed = self.allowed();
        if allowed.split(", ").any(|name| name == method.as_str()) {
            Ok(())
        } else {
            Err(ApiError::method_not_allowed(allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::response::IntoResponse;

    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// The routes of this interface that the page on operations names.
    fn documented() -> BTreeSet<&'static str> {
        let page = include_str!("../../../../docs/operations.md");
        let (_, routes) = page.split_once("\nRoutes are ").unwrap();
        let (routes, _) = routes.split_once(". ").unwrap();
        routes
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| !name.starts_with("v1-") && *name != "unknown")
            .collect()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let mut names = BTreeSet::new();
        let id = UploadId::random();
        let upload = format!("/v2/a/b/blobs/uploads/{id}");
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/tags/list", Route::Tags(name("a"))),
            ("/v2/a/b/c/tags/list", Route::Tags(name("a/b/c"))),
            ("/v2/a/manifests/latest", Route::Manifest(name("a"), "latest")),
            ("/v2/a/manifests/sha256:ab", Route::Manifest(name("a"), "sha256:ab")),
            ("/v2/a/manifests/", Route::Manifest(name("a"), "")),
            ("/v2/a/blobs/sha256:ab", Route::Blob(name("a"), "sha256:ab")),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            (&upload, Route::Upload(name("a/b"), id)),
            ("/v2/a/referrers/sha256:ab", Route::Referrers(name("a"), "sha256:ab")),
            // Names that look like parts of paths.
            ("/v2/manifests/manifests/manifests", Route::Manifest(name("manifests"), "manifests")),
            ("/v2/a/blobs/uploads/tags/list", Route::Tags(name("a/blobs/uploads"))),
            ("/v2/a/tags/list/blobs/uploads/", Route::Uploads(name("a/tags/list"))),
            ("/v2/v2/manifests/v2", Route::Manifest(name("v2"), "v2")),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
            names.insert(route.name());
        }
        assert_eq!(names, documented());
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, status) in [
            ("/", 404),
            ("/v1/_ping", 404),
            ("/v2x", 404),
            ("/v22/a/tags/list", 404),
            ("/v2/a", 404),
            ("/v2/a/b/c", 404),
            ("/v2/a/tags/other", 404),
            ("/v2/a/blobs/uploads/not-an-id", 404),
            ("/v2/a/blobs/uploads/../../x", 404),
            ("/v2//manifests/latest", 400),
            ("/v2/manifests/latest", 400),
            ("/v2/A/manifests/latest", 400),
            ("/v2/../etc/manifests/latest", 400),
            ("/v2/a/../b/manifests/latest", 400),
            ("/v2/a//b/tags/list", 400),
            ("/v2/a/b\0/tags/list", 400),
        ] {
            let error = Route::parse(path).expect_err(path);
            assert_eq!(error.into_response().status(), status, "{path}");
        }
    }

    #[test]
    fn methods_are_checked() {
        let route = Route::Uploads(name("a"));
        assert!(route.check(&Method::POST).is_ok());
        let answer = route.check(&Method::PUT).unwrap_err().into_response();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "POST");
    }
}
