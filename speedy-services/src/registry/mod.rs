//! The registry: the HTTP front end that image clients push to and pull from.
//!
//! It is stateless: everything is in the [`BlobStore`] and in the metadata store beside it, so any number of
//! registries serve the same content, and one takes up the uploads of another.

mod access;
mod access_log;
mod body;
mod download;
pub mod gc;
pub mod manifest;
pub mod names;
mod repositories;
mod v2;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use speedy_core::blob::BlobStore;
use speedy_core::budget::Budget;

use crate::admin::Traffic;
use access::Access;
pub(crate) use repositories::{Repositories, Usage};

/// A registry over a blob store. Cheap to clone; clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    repositories: Repositories,
    access: Access,
    options: RegistryOptions,
    /// A share of the budget, so that manifests which are announced and never come do not hold up blobs.
    manifests: Budget,
    traffic: Traffic,
}

/// How a registry serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// How long the body of a request may rest before it is given up; by default 60 seconds.
    pub body_idle: Duration,
    /// How long a client may take none of a blob's bytes before its download is given up; by default 5 minutes. It is
    /// longer than [`body_idle`](Self::body_idle) because what the network buffers is taken in gulps.
    pub download_idle: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { body_idle: Duration::from_secs(60), download_idle: Duration::from_secs(5 * 60) }
    }
}

impl RegistryOptions {
    /// Sets [`body_idle`](Self::body_idle).
    #[must_use]
    pub fn body_idle(mut self, idle: Duration) -> Self {
        self.body_idle = idle;
        self
    }

    /// Sets [`download_idle`](Self::download_idle).
    #[must_use]
    pub fn download_idle(mut self, idle: Duration) -> Self {
        self.download_idle = idle;
        self
    }
}

impl Registry {
    /// The registry of what is in this blob store.
    pub fn new(blobs: BlobStore, options: RegistryOptions) -> Self {
        let manifests = Budget::new(blobs.budget().total() / 4);
        let repositories = Repositories::new(blobs);
        let traffic = Traffic::http();
        Self(Arc::new(Parts { repositories, access: Access, options, manifests, traffic }))
    }

    /// What it serves: requests by route, method and status.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }
}

/// The registry's endpoints, and an error of the distribution specification for every other path.
///
/// Served with [`connect info`](Router::into_make_service_with_connect_info), its access log names the clients'
/// addresses.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(any(v2::handle)).with_state(registry)
}
