//! A client that costs little: one connection, no digests to compute, bodies that are shared and not copied.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::blobs::{Blob, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A body in two pieces, of which many requests may share the first.
pub type Body = Chain<Bytes, Bytes>;

/// A connection to a registry.
#[derive(Debug)]
pub struct Connection {
    server: SocketAddr,
    sender: SendRequest<Full<Body>>,
}

impl Connection {
    /// Dials a registry.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await.context("connecting to the registry")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors come back from the requests that they end.
        tokio::spawn(connection);
        Ok(Self { server, sender })
    }

    /// Pushes a blob as Docker does.
    ///
    /// # Errors
    /// Where the registry refuses it or goes away.
    pub async fn push(&mut self, repository: &str, blob: &Blob) -> Result<()> {
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send(Method::POST, &uploads, None, nothing()).await?;
        let location = self.end(begun, StatusCode::ACCEPTED).await?;
        let patched = self.send(Method::PATCH, &location, None, blob.body()).await?;
        let location = self.end(patched, StatusCode::ACCEPTED).await?;
        let joint = if location.contains('?') { '&' } else { '?' };
        let closing = format!("{location}{joint}digest={}", blob.digest);
        let closed = self.send(Method::PUT, &closing, None, nothing()).await?;
        self.end(closed, StatusCode::CREATED).await.map(drop)
    }

    /// Pulls a blob and sees that it has its length.
    ///
    /// # Errors
    /// Where it has not, or does not come.
    pub async fn pull(&mut self, repository: &str, blob: &Blob) -> Result<()> {
        let mut length = 0;
        self.read(repository, blob, |bytes| length += bytes.len()).await?;
        ensure!(length == blob.length(), "{} came with {length} bytes", blob.digest);
        Ok(())
    }

    /// Pulls a blob and sees that it has its digest.
    ///
    /// # Errors
    /// Where it has not, or does not come.
    pub async fn verify(&mut self, repository: &str, blob: &Blob) -> Result<()> {
        let mut hash = Sha256::new();
        self.read(repository, blob, |bytes| hash.update(bytes)).await?;
        let found = format!("sha256:{}", hex::encode(hash.finalize()));
        ensure!(found == blob.digest, "{} came with other bytes, of digest {found}", blob.digest);
        Ok(())
    }

    async fn read(&mut self, repository: &str, blob: &Blob, mut take: impl FnMut(&Bytes)) -> Result<()> {
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let answer = self.send(Method::GET, &path, None, nothing()).await?;
        ensure!(answer.status() == StatusCode::OK, "GET {path} answers {}", answer.status());
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(bytes) = frame?.data_ref() {
                take(bytes);
            }
        }
        Ok(())
    }

    /// Pushes a manifest under a tag.
    ///
    /// # Errors
    /// Where the registry refuses it or goes away.
    pub async fn put_manifest(&mut self, repository: &str, tag: &str, manifest: &Bytes) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer =
            self.send(Method::PUT, &path, Some(MANIFEST), manifest.clone().chain(Bytes::new())).await?;
        self.end(answer, StatusCode::CREATED).await.map(drop)
    }

    /// Pulls a manifest by its tag and sees that it has its length.
    ///
    /// # Errors
    /// Where it has not, or does not come.
    pub async fn get_manifest(&mut self, repository: &str, tag: &str, manifest: &Bytes) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.send(Method::GET, &path, None, nothing()).await?;
        ensure!(answer.status() == StatusCode::OK, "GET {path} answers {}", answer.status());
        let length = answer.into_body().collect().await?.to_bytes().len();
        ensure!(length == manifest.len(), "{path} came with {length} bytes");
        Ok(())
    }

    /// Sends a request without a body, reads the answer to its end, and sees that it has this status.
    ///
    /// # Errors
    /// Where it has another, or does not come.
    pub async fn ask(&mut self, method: Method, path: &str, expected: StatusCode) -> Result<Bytes> {
        let answer = self.send(method, path, None, nothing()).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            status == expected,
            "{path}: {status} and not {expected}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Response<Incoming>> {
        // A server may close a connection after any answer.
        if self.sender.ready().await.is_err() {
            *self = Self::open(self.server).await?;
        }
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.server.to_string());
        request = match content_type {
            Some(content_type) => request.header(CONTENT_TYPE, content_type),
            None => request.header(ACCEPT, MANIFEST),
        };
        let request = request.body(Full::new(body))?;
        self.sender.send_request(request).await.with_context(|| format!("requesting {path}"))
    }

    /// Reads an answer to its end and gives the path of its Location, if it has one.
    async fn end(&self, answer: Response<Incoming>, expected: StatusCode) -> Result<String> {
        let status = answer.status();
        let location =
            answer.headers().get(LOCATION).map(|value| value.to_str().map(str::to_owned)).transpose()?;
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == expected, "{status} and not {expected}: {}", String::from_utf8_lossy(&body));
        let location = location.unwrap_or_default();
        let own = format!("http://{}", self.server);
        Ok(location.strip_prefix(&own).unwrap_or(&location).to_owned())
    }
}

fn nothing() -> Body {
    Bytes::new().chain(Bytes::new())
}

/// A manifest of one blob, which serves as configuration and as layer.
pub fn manifest_of(blob: &Blob) -> Bytes {
    let size = blob.length();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob.digest, "size": size },
        "layers": [
            { "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob.digest, "size": size }
        ],
        "annotations": { "of": digest_of(blob.digest.as_bytes()) },
    });
    Bytes::from(manifest.to_string())
}
