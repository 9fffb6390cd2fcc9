//! Paths. Repository names contain slashes, so the path of a repository is read from its end; one that ends with a slash
//! is the repository itself.

use http::Method;

use super::error::ApiError;
use super::names::{self, ImageId, InvalidId};
use crate::registry::names::RepositoryName;

/// What a path is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route<'a> {
    /// `/v1/_ping`, `/_ping`: whether this is a registry.
    Ping,
    /// `/v1/users`
    Users,
    /// `/v1/users/NAME/`
    User,
    /// `/v1/search`
    Search,
    /// `/v1/repositories/NAME/`
    Repository(RepositoryName),
    /// `/v1/repositories/NAME/auth`
    Auth(RepositoryName),
    /// `/v1/repositories/NAME/images`
    Images(RepositoryName),
    /// `/v1/repositories/NAME/properties`
    Properties(RepositoryName),
    /// `/v1/repositories/NAME/json`
    About(RepositoryName),
    /// `/v1/repositories/NAME/tags`
    Tags(RepositoryName),
    /// `/v1/repositories/NAME/tags/TAG`
    Tag(RepositoryName, &'a str),
    /// `/v1/repositories/NAME/tags/TAG/json`
    AboutTag(RepositoryName, &'a str),
    /// `/v1/images/ID/PART`
    Image(Result<ImageId, InvalidId>, Part),
}

/// What of an image a path is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Json,
    Layer,
    Checksum,
    Ancestry,
    Files,
    Diff,
}

/// Whether a path, as it came, belongs to this interface.
pub(in crate::registry) fn is_of_v1(path: &str) -> bool {
    path == "/_ping" || path == "/v1" || path.starts_with("/v1/")
}

impl<'a> Route<'a> {
    /// Reads a path, percent-decoded.
    pub(super) fn parse(path: &'a str) -> Result<Self, ApiError> {
        let unknown = || ApiError::not_found("there is no such endpoint");
        if path == "/_ping" {
            return Ok(Self::Ping);
        }
        let (first, rest) = path
            .strip_prefix("/v1/")
            .map(|path| path.split_once('/').unwrap_or((path, "")))
            .ok_or_else(unknown)?;
        match (first, rest) {
            ("_ping", "") => Ok(Self::Ping),
            ("users", "") => Ok(Self::Users),
            ("users", name) if !name.trim_end_matches('/').contains('/') => Ok(Self::User),
            ("search", "") => Ok(Self::Search),
            ("images", rest) => {
                let (id, part) = rest.split_once('/').ok_or_else(unknown)?;
                let part = match part {
                    "json" => Part::Json,
                    "layer" => Part::Layer,
                    "checksum" => Part::Checksum,
                    "ancestry" => Part::Ancestry,
                    "files" => Part::Files,
                    "diff" => Part::Diff,
                    _ => return Err(unknown()),
                };
                Ok(Self::Image(id.parse(), part))
            }
            ("repositories", rest) => Self::in_repository(rest),
            _ => Err(unknown()),
        }
    }

    fn in_repository(path: &'a str) -> Result<Self, ApiError> {
        if let Some(name) = path.strip_suffix('/') {
            return Ok(Self::Repository(names::repository(name)?));
        }
        for (end, route) in [
            ("/images", Self::Images as fn(RepositoryName) -> Self),
            ("/tags", Self::Tags),
            ("/properties", Self::Properties),
            ("/auth", Self::Auth),
        ] {
            if let Some(name) = path.strip_suffix(end) {
                return Ok(route(names::repository(name)?));
            }
        }
        if let Some(front) = path.strip_suffix("/json") {
            return Ok(match front.rsplit_once("/tags/").filter(|(_, tag)| !tag.contains('/')) {
                Some((name, tag)) => Self::AboutTag(names::repository(name)?, tag),
                None => Self::About(names::repository(front)?),
            });
        }
        if let Some((name, tag)) = path.rsplit_once("/tags/").filter(|(_, tag)| !tag.contains('/')) {
            return Ok(Self::Tag(names::repository(name)?, tag));
        }
        Ok(Self::Repository(names::repository(path)?))
    }

    /// What it is called in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ping => "v1-ping",
            Self::Users | Self::User => "v1-users",
            Self::Search => "v1-search",
            Self::Repository(_) | Self::Auth(_) | Self::Properties(_) | Self::About(_) => "v1-repository",
            Self::Images(_) => "v1-images",
            Self::Tags(_) | Self::Tag(..) | Self::AboutTag(..) => "v1-tags",
            Self::Image(_, Part::Json) => "v1-json",
            Self::Image(_, Part::Layer) => "v1-layer",
            Self::Image(_, Part::Checksum) => "v1-checksum",
            Self::Image(_, Part::Ancestry) => "v1-ancestry",
            Self::Image(_, Part::Files | Part::Diff) => "v1-files",
        }
    }

    /// The methods that it takes, for an `Allow` header.
    fn allowed(&self) -> &'static str {
        match self {
            Self::Ping | Self::Search | Self::About(_) | Self::AboutTag(..) => "GET, HEAD",
            Self::Image(_, Part::Ancestry | Part::Files | Part::Diff) => "GET, HEAD",
            Self::Users => "GET, HEAD, POST",
            Self::User | Self::Auth(_) | Self::Image(_, Part::Checksum) => "PUT",
            Self::Repository(_) => "PUT, DELETE",
            Self::Images(_) | Self::Tag(..) => "GET, HEAD, PUT, DELETE",
            Self::Properties(_) | Self::Image(_, Part::Json | Part::Layer) => "GET, HEAD, PUT",
            Self::Tags(_) => "GET, HEAD, DELETE",
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
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// The routes of this interface that the page on operations names.
    fn documented() -> BTreeSet<&'static str> {
        let page = include_str!("../../../../docs/operations.md");
        let (_, routes) = page.split_once("\nRoutes are ").unwrap();
        let (routes, _) = routes.split_once(". ").unwrap();
        routes.split('`').skip(1).step_by(2).filter(|name| name.starts_with("v1-")).collect()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let mut names = BTreeSet::new();
        let id = "ab".repeat(32);
        let image = |part| Route::Image(id.parse(), part);
        for (path, route) in [
            ("/_ping", Route::Ping),
            ("/v1/_ping", Route::Ping),
            ("/v1/users", Route::Users),
            ("/v1/users/", Route::Users),
            ("/v1/users/me/", Route::User),
            ("/v1/users/me", Route::User),
            ("/v1/search", Route::Search),
            ("/v1/repositories/a/", Route::Repository(name("library/a"))),
            ("/v1/repositories/a", Route::Repository(name("library/a"))),
            ("/v1/repositories/a/b/", Route::Repository(name("a/b"))),
            ("/v1/repositories/a/b/auth", Route::Auth(name("a/b"))),
            ("/v1/repositories/a/b/images", Route::Images(name("a/b"))),
            ("/v1/repositories/a/images", Route::Images(name("library/a"))),
            ("/v1/repositories/a/images/", Route::Repository(name("a/images"))),
            ("/v1/repositories/a/b/properties", Route::Properties(name("a/b"))),
            ("/v1/repositories/a/b/json", Route::About(name("a/b"))),
            ("/v1/repositories/a/b/tags", Route::Tags(name("a/b"))),
            ("/v1/repositories/a/b/tags/t", Route::Tag(name("a/b"), "t")),
            ("/v1/repositories/a/tags/t/json", Route::AboutTag(name("library/a"), "t")),
            ("/v1/repositories/a/tags/images", Route::Images(name("a/tags"))),
            ("/v1/repositories/a/tags/tags/t", Route::Tag(name("a/tags"), "t")),
            (&format!("/v1/images/{id}/json"), image(Part::Json)),
            (&format!("/v1/images/{id}/layer"), image(Part::Layer)),
            (&format!("/v1/images/{id}/checksum"), image(Part::Checksum)),
            (&format!("/v1/images/{id}/ancestry"), image(Part::Ancestry)),
            (&format!("/v1/images/{id}/files"), image(Part::Files)),
            (&format!("/v1/images/{id}/diff"), image(Part::Diff)),
            ("/v1/images/x/json", Route::Image(Err(InvalidId), Part::Json)),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
            names.insert(route.name());
        }
        assert_eq!(names, documented());
    }

    #[test]
    fn other_paths_are_refused() {
        let id = "ab".repeat(32);
        for (path, status) in [
            ("/v1", 404),
            ("/v1/", 404),
            ("/v1/other", 404),
            ("/v1/_ping/x", 404),
            ("/v1/search/x", 404),
            ("/v1/users/a/b", 404),
            ("/v1/images", 404),
            (&format!("/v1/images/{id}"), 404),
            (&format!("/v1/images/{id}/"), 404),
            (&format!("/v1/images/{id}/other"), 404),
            (&format!("/v1/images/{id}/json/"), 404),
            ("/v1/repositories", 400),
            ("/v1/repositories/", 400),
            ("/v1/repositories//tags", 400),
            ("/v1/repositories/A/tags", 400),
            ("/v1/repositories/../etc/tags", 400),
            ("/v1/repositories/a//b/tags", 400),
            ("/v1/repositories/a/b\0/tags", 400),
        ] {
            let error = Route::parse(path).expect_err(path);
            assert_eq!(error.into_response().status(), status, "{path}");
        }
    }

    #[test]
    fn methods_are_checked() {
        let route = Route::Tags(name("a"));
        assert!(route.check(&Method::GET).is_ok());
        let answer = route.check(&Method::PUT).unwrap_err().into_response();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET, HEAD, DELETE");
    }

    proptest! {
        #[test]
        fn no_path_is_too_odd(path in "(/v1)?/(images|repositories|users)?/?[a-z/._ A-Z]{0,40}(/tags/|/json|/images)?.{0,9}") {
            if let Ok(Route::Tag(_, tag) | Route::AboutTag(_, tag)) = Route::parse(&path) {
                prop_assert!(!tag.contains('/'));
            }
        }
    }
}
