//! The endpoints over real connections, mostly by a client that makes the calls of Docker 1.5: one module a topic.

mod admission;
mod bad_input;
mod checksums;
mod docker;
mod flows;
mod layers;
mod search;

use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
use speedy_core::budget::Budget;
use speedy_core::digest::Digest;
use speedy_core::meta::{KeyRange, MemoryMeta, MetaStore};
use speedy_core::replicate::Fragments;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::registry::{Registry, RegistryOptions, router};
use docker::{Docker, LocalImage};

const FRAGMENT: u64 = 1000;

/// A registry on a port of its own, in memory, with small fragments.
struct Server {
    address: SocketAddr,
    client: reqwest::Client,
    registry: Registry,
    meta: Arc<MemoryMeta>,
    fragments: Arc<dyn Fragments>,
    blobs: BlobStore,
}

impl Server {
    async fn start() -> Self {
        Self::with(RegistryOptions::default().search_age(std::time::Duration::ZERO)).await
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
        Self { address, client: reqwest::Client::new(), registry, meta, fragments, blobs }
    }

    /// Another registry over the same stores.
    async fn sibling(&self) -> Self {
        let options = RegistryOptions::default().search_age(std::time::Duration::ZERO);
        Self::over(self.meta.clone(), self.fragments.clone(), options).await
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

    async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::PUT, path).body(body).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Pushes a blob through v2.
    async fn push_v2_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let posted = self.request(Method::POST, &path).body(content.to_vec()).send().await.unwrap();
        assert_eq!(posted.status(), 201);
        digest
    }

    /// Pushes an image without layers through v2.
    async fn push_v2_image(&self, name: &str) {
        let config = b"{}";
        let digest = self.push_v2_blob(name, config).await;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let config =
            json!({ "mediaType": "application/json", "digest": digest.to_string(), "size": config.len() });
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [] });
        let put = self.request(Method::PUT, &format!("/v2/{name}/manifests/latest"));
        let put = put.header("content-type", media_type).body(manifest.to_string());
        assert_eq!(put.send().await.unwrap().status(), 201);
    }

    /// The keys that begin with `prefix`.
    async fn keys(&self, prefix: &'static str) -> usize {
        self.meta.scan(KeyRange::prefix(prefix), 10_000).await.unwrap().entries.len()
    }

    /// Chunks that are stored.
    async fn chunks(&self) -> usize {
        self.fragments.list(None, 10_000).await.unwrap().chunks.len()
    }

    /// Writes raw bytes to a connection and reads until the server closes it.
    async fn raw(&self, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let limit = std::time::Duration::from_secs(20);
        let read = tokio::time::timeout(limit, connection.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end of the answer to {}", request.escape_ascii());
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The status and the text of an error answer, which must have the form of v1.
async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "x-docker-registry-version"), "0.9.1");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    (status, body["error"].as_str().unwrap().to_owned())
}

/// Bytes that differ from place to place and do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0u32.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(Digest::sha256(&[&[seed][..], &block.to_be_bytes()].concat()).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tar of these files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_423_526_400);
        header.set_entry_type(if name.ends_with('/') {
            ::tar::EntryType::Directory
        } else {
            ::tar::EntryType::Regular
        });
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
