//! The registry: the HTTP front end that image clients push to and pull from.
//!
//! It is stateless: everything is in the [`BlobStore`] and in the metadata store beside it, so any number of
//! registries serve the same content, and one takes up the uploads of another.

mod access;
mod access_log;
mod admission;
mod ambiguity;
mod body;
mod call;
mod download;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod gc;
mod limits;
pub mod manifest;
mod mode;
pub mod names;
mod object;
mod patience;
mod preconditions;
mod range;
mod repositories;
mod usage;
mod v1;
mod v2;
mod whole;

#[cfg(any(test, feature = "bulk"))]
#[doc(hidden)]
pub use repositories::bulk;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {v1::fuzz as docker, v2::fuzz as paths_and_ranges};

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use speedy_core::blob::BlobStore;
use speedy_core::budget::Budget;
use speedy_core::meta::MetaError;

use crate::admin::{Metrics, Traffic};
use access::Access;
use admission::Admission;
pub use limits::{Limits, Rate};
use mode::Guarded;
pub use mode::{MAX_REASON, ReadOnly};
pub(crate) use repositories::Repositories;
pub(crate) use usage::{Usage, Usages};
use whole::WholeBodies;

/// A registry over a blob store. Cheap to clone; clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Parts>);

/// What manifests may become together while they are read: one of the longest, or many usual ones.
const PARSED_BYTES: u64 = 40 << 20;

#[derive(Debug)]
struct Parts {
    repositories: Repositories,
    /// The same, where nothing can be changed while the registry is read-only.
    changed: Repositories,
    access: Access,
    options: RegistryOptions,
    whole: WholeBodies,
    /// What manifests become while they are read, counted beside the budget.
    parsed: Budget,
    traffic: Traffic,
    admission: Admission,
    /// What searches look through.
    names: v1::Names,
    /// Held while the layers of an image are compared: one at a time.
    diffs: tokio::sync::Mutex<()>,
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
    /// What clients may ask of it; by default all that they like.
    pub limits: Limits,
    /// Whether Docker Registry v1 is served beside v2; by default it is. Where it is not, its paths are unknown ones.
    pub v1: bool,
    /// How old the names may be that a search of v1 looks through; by default 5 seconds. They are read from the metadata
    /// store once in this time at most.
    pub search_age: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            body_idle: Duration::from_secs(60),
            download_idle: Duration::from_secs(5 * 60),
            limits: Limits::default(),
            v1: true,
            search_age: Duration::from_secs(5),
        }
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

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`v1`](Self::v1).
    #[must_use]
    pub fn v1(mut self, served: bool) -> Self {
        self.v1 = served;
        self
    }

    /// Sets [`search_age`](Self::search_age).
    #[must_use]
    pub fn search_age(mut self, age: Duration) -> Self {
        self.search_age = age;
        self
    }
}

impl Registry {
    /// The registry of what is in this blob store.
    pub fn new(blobs: BlobStore, options: RegistryOptions) -> Self {
        let whole = WholeBodies::new(blobs.budget());
        let parsed = Budget::new(PARSED_BYTES);
        let admission = Admission::new(options.limits.clone(), Arc::clone(blobs.meta()));
        let guarded = Arc::new(Guarded::new(Arc::clone(admission.mode())));
        let (fragments, budget) = (Arc::clone(blobs.fragments()), blobs.budget().clone());
        let changed = BlobStore::new(guarded, fragments, budget, blobs.options().clone());
        let (repositories, changed) = (Repositories::new(blobs), Repositories::new(changed));
        let traffic = Traffic::http();
        let (names, diffs) = (v1::Names::default(), tokio::sync::Mutex::default());
        let access = Access;
        let parts =
            Parts { repositories, changed, access, options, whole, parsed, traffic, admission, names, diffs };
        Self(Arc::new(parts))
    }

    /// What it serves: requests by route, method and status.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// Shows what it serves and what it refuses among the metrics of the process, once.
    pub fn register(&self, metrics: &Metrics) {
        self.0.traffic.register("http", metrics);
        self.0.admission.register(metrics);
    }

    /// What it keeps.
    pub fn blobs(&self) -> &BlobStore {
        self.0.repositories.blobs()
    }

    /// Why it takes no pushes and no deletes, as it was when this was last looked up; `None` where it takes them.
    pub fn read_only(&self) -> Option<Arc<ReadOnly>> {
        self.0.admission.mode().known()
    }

    /// Looks up whether pushes and deletes are taken.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn look_up_read_only(&self) -> Result<Option<Arc<ReadOnly>>, MetaError> {
        self.0.admission.mode().look().await
    }

    /// Makes all registries over this metadata store refuse pushes and deletes, for a reason that clients see, or take
    /// them again. Once this returns none of them changes anything for a client any more, whatever is under way. This one
    /// refuses further requests at once, the others within about a second.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn set_read_only(&self, reason: Option<String>) -> Result<Option<Arc<ReadOnly>>, MetaError> {
        self.0.admission.mode().set(reason).await
    }

    /// Goes on looking up whether pushes and deletes are taken, until it is dropped.
    pub async fn follow(self) {
        self.0.admission.mode().follow().await;
    }
}

/// The registry's endpoints, and an error of the distribution specification for every other path.
///
/// Served with [`connect info`](Router::into_make_service_with_connect_info), its access log names the clients'
/// addresses.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(any(handle)).with_state(registry)
}

/// Gives a request to the interface that its path belongs to. What belongs to none is v2's to refuse.
async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    if registry.0.options.v1 && v1::is_of_v1(request.uri().path()) {
        v1::handle(registry, request).await
    } else {
        v2::handle(registry, request).await
    }
}
