//! A registry seen through HTTP, without a client's conveniences.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

use crate::bytes::{digest_of, digest_stream};
use crate::check::same;
use crate::process::wait_until;

/// Until when a registry must take writes; a cluster first has to find its members.
const READY_LIMIT: Duration = Duration::from_secs(60);

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A registry at an address.
#[derive(Debug, Clone)]
pub struct Registry {
    address: SocketAddr,
    client: Client,
}

/// A manifest as the registry gave it.
#[derive(Debug)]
pub struct Manifest {
    /// The digest of its bytes.
    pub digest: String,
    /// Digest and length of each layer, base first.
    pub layers: Vec<(String, u64)>,
    /// Digest and length of the configuration.
    pub config: (String, u64),
}

/// A manifest of any kind, as the registry gave it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its media type.
    pub kind: String,
    /// The digest of its bytes.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Registry {
    /// The registry at `address`.
    ///
    /// # Panics
    /// When the system gives the HTTP client no resources at all.
    pub fn at(address: SocketAddr) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()
            .expect("a client without TLS and proxies has nothing that can fail to load");
        Self { address, client }
    }

    /// `HOST:PORT`, as it begins an image's name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Waits until it takes a blob.
    ///
    /// # Errors
    /// When it takes none for long; the text has its last answer.
    pub fn wait_ready(&self) -> Result<()> {
        let mut last = String::from("no answer yet");
        let waited = wait_until("the registry to take a blob", READY_LIMIT, || {
            match self.put_probe() {
                Ok(()) => return Ok(true),
                Err(error) => last = format!("{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(100));
            Ok(false)
        });
        waited.with_context(|| format!("its last answer: {last}"))
    }

    /// Whether the manifest is there, by tag or digest.
    ///
    /// # Errors
    /// On any answer but 200 and 404.
    pub fn has_manifest(&self, repository: &str, reference: &str) -> Result<bool> {
        match self.get(&format!("/v2/{repository}/manifests/{reference}"))?.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            other => bail!("{repository}:{reference} answers {other}"),
        }
    }

    /// Deletes a manifest, by tag or digest.
    ///
    /// # Errors
    /// When the registry does not.
    pub fn delete_manifest(&self, repository: &str, reference: &str) -> Result<()> {
        let url = self.url(&format!("/v2/{repository}/manifests/{reference}"));
        let status = self.client.delete(&url).send().with_context(|| format!("DELETE {url}"))?.status();
        same("status of a delete", &StatusCode::ACCEPTED, &status)
    }

    /// Any manifest, by tag or digest; the digest that the registry names is checked.
    ///
    /// # Errors
    /// When there is none, or its digest is wrong.
    pub fn stored(&self, repository: &str, reference: &str) -> Result<Stored> {
        let answer = self.get(&format!("/v2/{repository}/manifests/{reference}"))?;
        ensure!(answer.status().is_success(), "{repository}:{reference} answers {}", answer.status());
        let header = |name: &str| -> Result<String> {
            let value = answer.headers().get(name).with_context(|| format!("no {name}"))?;
            Ok(value.to_str()?.to_owned())
        };
        let (named, kind) = (header("docker-content-digest")?, header("content-type")?);
        let bytes = answer.bytes()?.to_vec();
        let digest = digest_of(&bytes);
        same("the manifest's digest", &digest, &named)?;
        Ok(Stored { kind, digest, bytes })
    }

    /// The manifest of an image, by tag or digest; the digest that the registry names is checked.
    ///
    /// # Errors
    /// When there is none, or it is not an image's, or its digest is wrong.
    pub fn manifest(&self, repository: &str, reference: &str) -> Result<Manifest> {
        let Stored { digest, bytes, .. } = self.stored(repository, reference)?;
        let body: Value = serde_json::from_slice(&bytes)?;
        let layers = body["layers"].as_array().context("no layers: not an image's manifest")?;
        let layers = layers.iter().map(descriptor).collect::<Result<_>>()?;
        Ok(Manifest { digest, layers, config: descriptor(&body["config"])? })
    }

    /// Reads every blob of the image and compares length and digest.
    ///
    /// # Errors
    /// When one is missing or differs.
    pub fn verify_blobs(&self, repository: &str, manifest: &Manifest) -> Result<()> {
        for (digest, length) in manifest.layers.iter().chain([&manifest.config]) {
            self.verify_blob(repository, digest, *length)?;
        }
        Ok(())
    }

    /// Reads a blob and compares its length and digest.
    ///
    /// # Errors
    /// When it is missing or differs.
    pub fn verify_blob(&self, repository: &str, digest: &str, length: u64) -> Result<()> {
        let answer = self.get(&format!("/v2/{repository}/blobs/{digest}"))?;
        ensure!(answer.status().is_success(), "blob {digest} answers {}", answer.status());
        let found = digest_stream(answer).with_context(|| format!("reading blob {digest}"))?;
        same("digest and length of a blob", &(digest.to_owned(), length), &found)
    }

    /// Status and text of the answer to whoever begins to push to the repository.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn begin_push(&self, repository: &str) -> Result<(u16, String)> {
        let url = format!("{}/v2/{repository}/blobs/uploads/", self.base());
        let answer = self.client.post(&url).send().with_context(|| format!("POST {url}"))?;
        Ok((answer.status().as_u16(), answer.text()?))
    }

    fn put_probe(&self) -> Result<()> {
        let body = b"ready?";
        let begun = self.client.post(format!("{}/v2/probe/blobs/uploads/", self.base())).send()?;
        ensure!(begun.status() == StatusCode::ACCEPTED, "POST answers {}: {}", begun.status(), begun.text()?);
        let location = begun.headers().get("location").context("no Location")?.to_str()?;
        let mut url = begun.url().join(location)?;
        url.query_pairs_mut().append_pair("digest", &digest_of(body));
        let ended = self.client.put(url).body(&body[..]).send()?;
        ensure!(ended.status() == StatusCode::CREATED, "PUT answers {}: {}", ended.status(), ended.text()?);
        Ok(())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }

    fn get(&self, path: &str) -> Result<Response> {
        let url = self.url(path);
        self.client.get(&url).header("accept", ACCEPT).send().with_context(|| format!("GET {url}"))
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn descriptor(value: &Value) -> Result<(String, u64)> {
    let digest = value["digest"].as_str().context("a descriptor without digest")?;
    let size = value["size"].as_u64().context("a descriptor without size")?;
    Ok((digest.to_owned(), size))
}
