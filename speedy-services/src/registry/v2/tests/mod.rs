//! The endpoints over real connections: one module a topic.

mod admission;
mod bad_input;
mod blobs;
mod failures;
mod listing;
mod manifests;
mod preconditions;
mod two_registries;
mod unread;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
use speedy_core::budget::Budget;
use speedy_core::digest::Digest;
use speedy_core::meta::{KeyRange, MemoryMeta, MetaStore};
use speedy_core::replicate::Fragments;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::registry::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::registry::{Registry, RegistryOptions, router};

const FRAGMENT: u64 = 1000;

/// A registry on a port of its own, in memory, with small fragments.
struct Server {
    address: SocketAddr,
    client: reqwest::Client,
    meta: Arc<MemoryMeta>,
    fragments: Arc<dyn Fragments>,
    blobs: BlobStore,
    registry: Registry,
}

impl Server {
    async fn start() -> Self {
        Self::with(RegistryOptions::default()).await
    }

    async fn with(options: RegistryOptions) -> Self {
        Self::over(Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()), options).await
    }

    async fn over(meta: Arc<MemoryMeta>, fragments: Arc<dyn Fragments>, options: RegistryOptions) -> Self {
        let blob_options = BlobOptions::default().fragment_size(FRAGMENT).unwrap();
        let blobs = BlobStore::new(meta.clone(), fragments.clone(), Budget::new(64 << 20), blob_options);
        let registry = Registry::new(blobs.clone(), options);
        let app = router(registry.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, client: reqwest::Client::new(), meta, fragments, blobs, registry }
    }

    /// Another registry over the same stores.
    async fn sibling(&self) -> Self {
        Self::over(self.meta.clone(), self.fragments.clone(), RegistryOptions::default()).await
    }

    fn metrics(&self) -> String {
        let metrics = crate::admin::Metrics::new("test");
        self.registry.register(&metrics);
        metrics.encode()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path).await
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Begins an upload and answers where it is.
    async fn begin(&self, name: &str) -> String {
        let response = self.send(Method::POST, &format!("/v2/{name}/blobs/uploads/")).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        header(&response, "location").to_owned()
    }

    /// Pushes a blob as skopeo does: POST, then PATCH, then PUT.
    async fn push_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let location = self.begin(name).await;
        let patched = self.request(Method::PATCH, &location).body(content.to_vec()).send().await.unwrap();
        assert_eq!(patched.status(), StatusCode::ACCEPTED);
        let put = format!("{}?digest={digest}", header(&patched, "location"));
        let created = self.send(Method::PUT, &put).await;
        assert_eq!(created.status(), StatusCode::CREATED);
        assert_eq!(header(&created, "docker-content-digest"), digest.to_string());
        digest
    }

    async fn put_manifest(&self, name: &str, reference: &str, media_type: &str, content: &str) -> Response {
        self.request(Method::PUT, &format!("/v2/{name}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(content.to_owned())
            .send()
            .await
            .unwrap()
    }

    /// Pushes an image of one layer and answers the digest of its manifest.
    async fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> Digest {
        let manifest = self.image(name, layer).await;
        let response = self.put_manifest(name, tag, OCI_MANIFEST, &manifest).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        Digest::sha256(manifest.as_bytes())
    }

    /// Pushes the blobs of an image and answers its manifest.
    async fn image(&self, name: &str, layer: &[u8]) -> String {
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        self.push_blob(name, config).await;
        self.push_blob(name, layer).await;
        image_manifest(config, &[layer])
    }

    /// The manifest of an image whose layer is this byte.
    async fn image_of(&self, byte: u8) -> String {
        self.image("a", &[byte]).await
    }

    async fn keys(&self, prefix: &'static str) -> usize {
        self.meta.scan(KeyRange::prefix(prefix), 10_000).await.unwrap().entries.len()
    }

    /// Writes raw bytes to a connection and reads until the server closes it.
    async fn raw(&self, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end of the answer to {}", request.escape_ascii());
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(content).to_string(), "size": content.len() })
}

fn image_manifest(config: &[u8], layers: &[&[u8]]) -> String {
    let layer = |layer: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer);
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
    .to_string()
}

fn index(manifests: &[&str]) -> String {
    let manifests: Vec<Value> =
        manifests.iter().map(|manifest| descriptor(OCI_MANIFEST, manifest.as_bytes())).collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }).to_string()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The status and the first code of an error answer, which must have the form of the specification.
async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    let body: Value = response.json().await.unwrap();
    let errors = body["errors"].as_array().unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    for error in errors {
        assert_eq!(error.as_object().unwrap().len(), 3, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(error.get("detail").is_some());
    }
    (status, errors[0]["code"].as_str().unwrap().to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

fn chunked(runs: Vec<Result<Bytes, std::io::Error>>) -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::iter(runs))
}
