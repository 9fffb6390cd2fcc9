//! Requests to a registry, one attempt each.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, anyhow};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::ledger::{Blob, Manifest};
use crate::bytes::digest_of;

/// As image clients have it: how long a connection may take to come up.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long an answer may make no progress.
const REST_LIMIT: Duration = Duration::from_secs(20);

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt may do better: no answer, or one that says so.
    Passing(anyhow::Error),
    /// The registry says that it is not there.
    Missing(String),
    /// The answer is wrong, whoever else may give a right one.
    Wrong(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Passing(error.into())
    }
}

type Attempt<T> = Result<T, Failure>;

/// The registry at an address.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) address: SocketAddr,
    client: Client,
}

/// How a blob is pushed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// `POST ?digest=`.
    Post,
    /// `POST`, `PUT` with the bytes.
    Put,
    /// `POST`, `PATCH` in so many parts, `PUT`, as Docker does with one.
    Patch(usize),
}

impl Front {
    pub(super) fn at(address: SocketAddr) -> Result<Self> {
        let client =
            Client::builder().no_proxy().connect_timeout(CONNECT_LIMIT).read_timeout(REST_LIMIT).build()?;
        Ok(Self { address, client })
    }

    /// Pushes a blob. `session` is that of an earlier attempt, which goes on where that one ended.
    pub(super) async fn push(
        &self,
        repository: &str,
        blob: (&str, &[u8]),
        way: Way,
        session: &mut Option<String>,
    ) -> Attempt<()> {
        let goes_on = session.is_some();
        match self.push_on(repository, blob, way, session).await {
            // What is left of the earlier attempt may end its session at any time.
            Err(Failure::Missing(text)) if goes_on => {
                *session = None;
                Err(Failure::Passing(anyhow!(text)))
            }
            pushed => pushed,
        }
    }

    async fn push_on(
        &self,
        repository: &str,
        (digest, bytes): (&str, &[u8]),
        way: Way,
        session: &mut Option<String>,
    ) -> Attempt<()> {
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        if let Way::Post = way {
            let request = self.client.post(self.url(&format!("{uploads}?digest={digest}")));
            return expect(request.body(bytes.to_vec()), StatusCode::CREATED).await.map(drop);
        }
        let resumed = match session {
            Some(location) => self.offset(location).await?,
            None => None,
        };
        let (mut location, mut at) = match resumed {
            Some(resumed) => resumed,
            None => {
                let begun = expect(self.client.post(self.url(&uploads)), StatusCode::ACCEPTED).await?;
                (location(&begun)?, 0)
            }
        };
        *session = Some(location.clone());
        if let Way::Patch(parts) = way {
            let part = bytes.len().div_ceil(parts);
            while at < bytes.len() {
                let end = bytes.len().min(at + part);
                let range = format!("{at}-{}", end - 1);
                let request = self.client.patch(self.url(&location)).header(CONTENT_RANGE, range);
                let request = request.header(CONTENT_TYPE, "application/octet-stream");
                let patched = expect(request.body(bytes[at..end].to_vec()), StatusCode::ACCEPTED).await?;
                location = self::location(&patched)?;
                *session = Some(location.clone());
                at = end;
            }
        }
        let joint = if location.contains('?') { '&' } else { '?' };
        let mut request = self.client.put(self.url(&format!("{location}{joint}digest={digest}")));
        // What is left of an earlier attempt may add to the session until now: without this, bytes would be there twice.
        if (1..bytes.len()).contains(&at) {
            request = request.header(CONTENT_RANGE, format!("{at}-{}", bytes.len() - 1));
        }
        expect(request.body(bytes[at..].to_vec()), StatusCode::CREATED).await.map(drop)
    }

    /// Where a session stands and goes on; `None` where it is better to begin anew.
    async fn offset(&self, location: &str) -> Attempt<Option<(String, usize)>> {
        let answer = expect(self.client.get(self.url(location)), StatusCode::NO_CONTENT).await?;
        let range = answer.headers().get(RANGE).and_then(|range| range.to_str().ok());
        let last = range.and_then(|range| range.strip_prefix("0-")?.parse::<usize>().ok());
        let last = last.ok_or_else(|| Failure::Wrong(format!("a session's Range is {range:?}")))?;
        // Of an empty session too that is 0-0.
        if last == 0 {
            return Ok(None);
        }
        let next = self::location(&answer).unwrap_or_else(|_| location.to_owned());
        Ok(Some((next, last + 1)))
    }

    /// Pulls a blob, or a range of it, and compares it.
    pub(super) async fn pull(&self, blob: &Blob, bytes: &[u8], range: Option<Range<usize>>) -> Attempt<()> {
        let Blob { repository, content } = blob;
        let mut request = self.client.get(self.url(&format!("/v2/{repository}/blobs/{}", content.digest)));
        let (mut expected, status) = match range {
            Some(range) => {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
                (&bytes[range], StatusCode::PARTIAL_CONTENT)
            }
            None => (bytes, StatusCode::OK),
        };
        let mut answer = expect(request, status).await?;
        while let Some(frame) = answer.chunk().await? {
            match expected.strip_prefix(&frame[..]) {
                Some(rest) => expected = rest,
                None => return Err(Failure::Wrong("other bytes than were pushed".into())),
            }
        }
        match expected.len() {
            0 => Ok(()),
            missing => Err(Failure::Wrong(format!("the answer ended as if whole, {missing} bytes early"))),
        }
    }

    /// Pushes a manifest under its tag.
    pub(super) async fn put_manifest(&self, manifest: &Manifest) -> Attempt<()> {
        let Manifest { repository, tag, bytes, .. } = manifest;
        let request = self.client.put(self.url(&format!("/v2/{repository}/manifests/{tag}")));
        let request = request.header(CONTENT_TYPE, MANIFEST).body(bytes.clone());
        expect(request, StatusCode::CREATED).await.map(drop)
    }

    /// Pulls a manifest by its tag or by its digest and compares it.
    pub(super) async fn get_manifest(&self, manifest: &Manifest, by_tag: bool) -> Attempt<()> {
        let Manifest { repository, tag, digest, bytes } = manifest;
        let reference = if by_tag { tag } else { digest };
        let request = self.client.get(self.url(&format!("/v2/{repository}/manifests/{reference}")));
        let found = expect(request, StatusCode::OK).await?.bytes().await?;
        if found != bytes[..] {
            return Err(Failure::Wrong(format!("{} came for {digest}", digest_of(&found))));
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        // A Location may name the host, too.
        if path.starts_with("http://") { path.to_owned() } else { format!("http://{}{path}", self.address) }
    }
}

async fn expect(request: RequestBuilder, status: StatusCode) -> Attempt<Response> {
    checked(request.send().await?, status).await
}

/// The answer, if it has this status. What a server can't do now passes; what it refuses or does not have does not.
async fn checked(answer: Response, status: StatusCode) -> Attempt<Response> {
    let found = answer.status();
    if found == status {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let text = format!("{found} and not {status}: {text}");
    match found {
        // What is left of an earlier attempt may still write to the session.
        StatusCode::CONFLICT | StatusCode::RANGE_NOT_SATISFIABLE => Err(Failure::Passing(anyhow!(text))),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Failure::Passing(anyhow!(text))),
        StatusCode::NOT_FOUND => Err(Failure::Missing(text)),
        _ if found.is_server_error() => Err(Failure::Passing(anyhow!(text))),
        _ => Err(Failure::Wrong(text)),
    }
}

fn location(answer: &Response) -> Attempt<String> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    location.map(str::to_owned).ok_or_else(|| Failure::Wrong("an answer without Location".into()))
}
