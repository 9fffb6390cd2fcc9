//! Who asks, and whether they may. Every request has a caller and an action on a repository; today every caller is
//! anonymous and may do everything.

use http::request::Parts;

use super::names::RepositoryName;

/// Who sent a request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub(crate) enum Caller {
    /// Someone who did not say.
    Anonymous,
}

impl Caller {
    /// Who sent the request with this head.
    pub(crate) fn of(_head: &Parts) -> Self {
        Self::Anonymous
    }
}

/// What a request wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Read blobs, manifests, tags and referrers of a repository.
    Pull,
    /// Write to a repository.
    Push,
    /// Delete from a repository.
    Delete,
    /// List the repositories.
    Catalog,
}

/// The caller may not do that.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("access denied")]
pub(crate) struct Denied;

/// Decides on access.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access;

impl Access {
    /// Whether `caller` may do `action`, on `repository` where the action is on one: an image of v1 is in no repository.
    pub(crate) async fn authorize(
        &self,
        caller: &Caller,
        _action: Action,
        _repository: Option<&RepositoryName>,
    ) -> Result<(), Denied> {
        match caller {
            Caller::Anonymous => Ok(()),
        }
    }
}
