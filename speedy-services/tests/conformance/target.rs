//! The registry under test, and what a client says to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Body, RequestBuilder};
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
use speedy_core::budget::Budget;
use speedy_core::digest::{Algorithm, Digest};
use speedy_core::id::UploadId;
use speedy_core::meta::MemoryMeta;
use speedy_services::drain::Drain;
use speedy_services::http::serve;
use speedy_services::registry::{Registry, RegistryOptions, router};
use tokio::net::TcpListener;

use crate::answer::Answer;
use crate::images::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

const ENVIRONMENT: &str = "SPEEDY_CONFORMANCE_URL";

/// Registries over the same stores, a repository of one check, and the algorithm that it names content by.
pub(crate) struct Target {
    /// `http://HOST:PORT`, at least one.
    urls: Vec<String>,
    client: reqwest::Client,
    algorithm: Algorithm,
    repository: String,
    visited: Mutex<Vec<&'static str>>,
}

/// A request that is being put together.
pub(crate) struct Asking {
    what: String,
    request: RequestBuilder,
}

impl Target {
    /// The registries of the environment, or two that live as long as the runtime does.
    pub(crate) async fn new(check: &str, algorithm: Algorithm) -> Self {
        let urls = match std::env::var(ENVIRONMENT) {
            Ok(list) => list.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect(),
            Err(_) => start().await,
        };
        // What is not the registry's own answer is none.
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(Duration::from_secs(300));
        // As clients do, for registries that insist on it.
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ");
        let accept = HeaderValue::from_str(&accept).unwrap();
        let client = client.default_headers(HeaderMap::from_iter([(ACCEPT, accept)]));
        let fresh = &UploadId::random().to_string()[..12];
        let repository = format!("conformance/{}-{fresh}", check.replace('_', "-"));
        let visited = Mutex::default();
        Self { urls, client: client.build().unwrap(), algorithm, repository, visited }
    }

    /// Says that what follows is held to this clause.
    pub(crate) fn clause(&self, id: &'static str) {
        crate::clauses::clause(id);
        self.visited.lock().unwrap().push(id);
    }

    /// The clauses that the check has come by, the last one last.
    pub(crate) fn visited(&self) -> Vec<&'static str> {
        self.visited.lock().unwrap().clone()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The check's own repository.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Another repository of the check.
    pub(crate) fn sibling(&self, name: &str) -> String {
        format!("{}/{name}", self.repository)
    }

    /// How many registries there are.
    pub(crate) fn registries(&self) -> usize {
        self.urls.len()
    }

    pub(crate) fn digest(&self, content: impl AsRef<[u8]>) -> Digest {
        Digest::of(self.algorithm, content.as_ref())
    }

    /// A request to the first registry. `place` is a path, or a Location.
    pub(crate) fn ask(&self, method: Method, place: &str) -> Asking {
        self.ask_of(0, method, place)
    }

    /// A request to one of the registries.
    pub(crate) fn ask_of(&self, number: usize, method: Method, place: &str) -> Asking {
        let what = format!("{method} {place}");
        let url = if place.starts_with("http") { place.into() } else { self.urls[number].clone() + place };
        Asking { what, request: self.client.request(method, url) }
    }

    pub(crate) async fn get(&self, place: &str) -> Answer {
        self.ask(Method::GET, place).send().await
    }

    pub(crate) async fn head(&self, place: &str) -> Answer {
        self.ask(Method::HEAD, place).send().await
    }

    pub(crate) async fn delete(&self, place: &str) -> Answer {
        self.ask(Method::DELETE, place).send().await
    }

    /// The host and port of the first registry, for what no HTTP library sends.
    pub(crate) fn host(&self) -> &str {
        self.urls[0].trim_start_matches("http://")
    }

    /// `/v2/NAME/blobs/DIGEST` in the check's repository.
    pub(crate) fn blob(&self, digest: &Digest) -> String {
        blob_of(&self.repository, digest)
    }

    /// `/v2/NAME/manifests/REFERENCE` in the check's repository.
    pub(crate) fn manifest(&self, reference: impl ToString) -> String {
        format!("/v2/{}/manifests/{}", self.repository, reference.to_string())
    }

    /// `/v2/NAME/blobs/uploads/` in the check's repository.
    pub(crate) fn uploads(&self) -> String {
        format!("/v2/{}/blobs/uploads/", self.repository)
    }

    /// Begins an upload and answers its Location.
    pub(crate) async fn begin(&self) -> String {
        let begun = self.ask(Method::POST, &self.uploads()).send().await.expect(202);
        begun.header("location").to_owned()
    }

    /// Pushes a blob into the check's repository.
    pub(crate) async fn push(&self, content: impl AsRef<[u8]>) -> Digest {
        self.push_to(&self.repository, content).await
    }

    /// Pushes a blob by POST and PUT.
    pub(crate) async fn push_to(&self, repository: &str, content: impl AsRef<[u8]>) -> Digest {
        let digest = self.digest(&content);
        let begun = self.ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).send().await;
        let location = with(begun.expect(202).header("location"), &[("digest", &digest.to_string())]);
        self.ask(Method::PUT, &location).body(content.as_ref().to_vec()).send().await.expect(201);
        digest
    }

    /// Puts a manifest into the check's repository.
    pub(crate) async fn put(&self, reference: impl ToString, media_type: &str, manifest: &str) -> Answer {
        let asking = self.ask(Method::PUT, &self.manifest(reference)).header("content-type", media_type);
        asking.body(manifest.to_owned()).send().await
    }
}

impl Asking {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Self {
        Self { request: self.request.body(body), ..self }
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Answer {
        match self.request.send().await {
            Ok(response) => Answer::read(self.what, response).await,
            Err(error) => panic!("{}: no answer: {error}", self.what),
        }
    }
}

pub(crate) fn blob_of(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// A Location with more in its query. It may have a query of its own, which is kept.
pub(crate) fn with(location: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{location}{}{query}", if location.contains('?') { '&' } else { '?' })
}

/// Starts two registries over one store in memory, with fragments so small that every blob has several.
async fn start() -> Vec<String> {
    let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()));
    let mut urls = Vec::new();
    for _ in 0..2 {
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let blobs = BlobStore::new(meta.clone(), fragments.clone(), Budget::new(64 << 20), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let registry = router(Registry::new(blobs, RegistryOptions::default()));
        tokio::spawn(serve(listener, registry, Drain::new(Duration::from_secs(1))));
        urls.push(format!("http://{address}"));
    }
    urls
}
