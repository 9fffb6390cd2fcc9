//! Uploads step by step, through whichever registry.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use reqwest::blocking::{Body, Response};
use serde_json::json;

use crate::bytes::digest_of;
use crate::check::same;
use crate::registry::Registry;

const REQUEST_ID: &str = "x-request-id";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// For how long a client tries before it gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// An upload session; any registry knows it.
#[derive(Debug, Clone)]
pub struct Session(String);

impl Registry {
    /// Begins an upload.
    ///
    /// # Errors
    /// On any answer but 202.
    pub fn begin(&self, repository: &str) -> Result<Session> {
        let answer = self.client().post(self.url(&format!("/v2/{repository}/blobs/uploads/"))).send()?;
        let answer = expect(answer, StatusCode::ACCEPTED)?;
        Ok(Session(answer.headers().get("location").context("no Location")?.to_str()?.to_owned()))
    }

    /// Sends bytes and gives the number that the session then holds.
    ///
    /// # Errors
    /// On any answer but 202.
    pub fn append(&self, session: &Session, bytes: impl Into<Body>) -> Result<u64> {
        held(&expect(self.client().patch(self.url(&session.0)).body(bytes).send()?, StatusCode::ACCEPTED)?)
    }

    /// Sends what a reader gives, for as long as that takes.
    ///
    /// # Errors
    /// On any answer but 202.
    pub fn append_from(&self, session: &Session, bytes: impl Read + Send + 'static) -> Result<u64> {
        self.append(session, Body::new(bytes))
    }

    /// Bytes that the session holds on stable storage.
    ///
    /// # Errors
    /// On any answer but 204.
    pub fn offset(&self, session: &Session) -> Result<u64> {
        held(&expect(self.client().get(self.url(&session.0)).send()?, StatusCode::NO_CONTENT)?)
    }

    /// Ends an upload with its last bytes.
    ///
    /// # Errors
    /// On any answer but 201.
    pub fn finish(&self, session: &Session, bytes: Vec<u8>, digest: &str) -> Result<()> {
        let url = format!("{}?digest={digest}", self.url(&session.0));
        expect(self.client().put(url).body(bytes).send()?, StatusCode::CREATED).map(drop)
    }

    /// Writes an image's manifest under a tag.
    ///
    /// # Errors
    /// On any answer but 201.
    pub fn put_manifest(&self, repository: &str, tag: &str, manifest: &str) -> Result<()> {
        let put = self.client().put(self.url(&format!("/v2/{repository}/manifests/{tag}")));
        let put = put.header("content-type", MANIFEST).body(manifest.to_owned());
        expect(put.send()?, StatusCode::CREATED).map(drop)
    }

    /// Pushes a whole blob in one request under this id, reads it in another under an id with `-read` at its end, and
    /// compares the ids in the answers.
    ///
    /// # Errors
    /// When one of the two fails, or is answered with another id.
    pub fn push_and_pull_as(&self, id: &str, repository: &str, bytes: &[u8]) -> Result<()> {
        let digest = digest_of(bytes);
        let post = self.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        let pushed = self.client().post(post).header(REQUEST_ID, id).body(bytes.to_vec()).send()?;
        answered_as(id, &expect(pushed, StatusCode::CREATED)?)?;
        let read = format!("{id}-read");
        let get = self.url(&format!("/v2/{repository}/blobs/{digest}"));
        let pulled = expect(self.client().get(get).header(REQUEST_ID, &read).send()?, StatusCode::OK)?;
        answered_as(&read, &pulled)?;
        same("bytes of the blob", &bytes.len(), &pulled.bytes()?.len())
    }

    /// Pushes a whole blob.
    ///
    /// # Errors
    /// When one of its requests fails.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<()> {
        let session = self.begin(repository)?;
        self.append(&session, bytes.to_vec())?;
        self.finish(&session, Vec::new(), &digest_of(bytes))
    }
}

/// Asks one registry after the other until one does it, as a client behind a load balancer does.
///
/// # Errors
/// The last one's, when none has done it for long.
pub fn with_retries<T>(fronts: &[Registry], mut work: impl FnMut(&Registry) -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut turn = fronts.iter().cycle();
    loop {
        let front = turn.next().context("there is no registry to ask")?;
        match work(front) {
            Ok(done) => return Ok(done),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error.context(format!("{PATIENCE:?} of retries did not help")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// An image of one layer, pushed with retries; gives the layer.
///
/// # Errors
/// When it does not work for long.
pub fn push_image(
    fronts: &[Registry],
    repository: &str,
    tag: &str,
    seed: u64,
    size: usize,
) -> Result<Vec<u8>> {
    let layer = noise(seed, size);
    let config = format!(r#"{{"architecture":"amd64","os":"linux","seed":{seed}}}"#);
    with_retries(fronts, |front| front.push_blob(repository, &layer))?;
    with_retries(fronts, |front| front.push_blob(repository, config.as_bytes()))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config.as_bytes()), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest_of(&layer), "size": layer.len(),
        }],
    });
    with_retries(fronts, |front| front.put_manifest(repository, tag, &manifest.to_string()))?;
    Ok(layer)
}

/// Bytes that do not repeat; other seeds give others.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The digest of bytes as the registry writes it.
pub fn sha256(bytes: &[u8]) -> String {
    digest_of(bytes)
}

fn answered_as(id: &str, answer: &Response) -> Result<()> {
    let found = answer.headers().get(REQUEST_ID).context("no X-Request-Id in the answer")?;
    same("the id of a request", &id, &found.to_str()?)
}

fn expect(answer: Response, status: StatusCode) -> Result<Response> {
    let (found, url) = (answer.status(), answer.url().clone());
    if found == status {
        return Ok(answer);
    }
    bail!("{url} answers {found}: {}", answer.text().unwrap_or_default())
}

/// What a `Range: 0-LAST` says; an empty session says `0-0` too.
fn held(answer: &Response) -> Result<u64> {
    let range = answer.headers().get("range").context("no Range")?.to_str()?;
    let last: u64 = range.strip_prefix("0-").context("a Range that does not begin at 0")?.parse()?;
    Ok(if last == 0 { 0 } else { last + 1 })
}
