//! A client: pushes images, pulls them back at once and later, and tries again what fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::{sleep, sleep_until};

use super::content::Content;
use super::http::{Failure, Front, MANIFEST, Way};
use super::ledger::{Blob, Ledger, Manifest};
use super::tally::Tally;
use crate::bytes::digest_of;

/// Pauses before an operation is tried again, each time at another registry. Docker waits longer, and more often.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// Blobs of an image.
const BLOBS: usize = 4;

/// Pulls of something older, after each image.
const PULLS: usize = 3;

/// What all clients of a load share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fronts: Vec<Front>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) tally: Tally,
    pace: Pace,
}

/// When the next bytes may be pushed.
#[derive(Debug)]
struct Pace {
    bytes_per_second: f64,
    next: Mutex<Instant>,
}

impl Shared {
    pub(super) fn new(fronts: Vec<Front>, ledger: Arc<Ledger>, bytes_per_second: u64) -> Self {
        let pace = Pace { bytes_per_second: bytes_per_second as f64, next: Mutex::new(Instant::now()) };
        Self { fronts, ledger, tally: Tally::new(), pace }
    }

    /// Does something at one registry and, where it fails, at the next, until it is done or there is no hope. `false` if
    /// it could not be done; it is in the tally then.
    pub(super) async fn tried(
        &self,
        what: &str,
        first: usize,
        mut attempt: impl AsyncFnMut(&Front) -> Result<(), Failure>,
    ) -> bool {
        let began = Instant::now();
        let mut pauses = PAUSES.into_iter();
        for turn in first.. {
            let front = &self.fronts[turn % self.fronts.len()];
            let why = match attempt(front).await {
                Ok(()) => {
                    self.tally.done(what, began);
                    return true;
                }
                Err(Failure::Passing(error)) => format!("{}: {error:#}", front.address),
                Err(Failure::Missing(text) | Failure::Wrong(text)) => {
                    self.tally.failed(what, &format!("{}: {text}", front.address));
                    return false;
                }
            };
            let Some(pause) = pauses.next() else {
                let took = began.elapsed().as_secs_f64();
                self.tally.failed(what, &format!("{why} (given up after {took:.1} s)"));
                return false;
            };
            self.tally.retried(what, &why);
            sleep(pause).await;
        }
        unreachable!("the pauses end")
    }

    async fn pace(&self, bytes: usize) {
        let Pace { bytes_per_second, next } = &self.pace;
        let turn = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            *next = next.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / bytes_per_second);
            *next
        };
        sleep_until(turn.into()).await;
    }
}

/// Works until `stop` says so.
pub(super) async fn run(shared: &Shared, number: usize, seed: u64, stop: impl Fn() -> bool) {
    let mut client = Client {
        shared,
        repository: format!("load/client-{number}").into(),
        random: Xoshiro256PlusPlus::seed_from_u64(seed),
        images: 0,
    };
    while !stop() {
        client.push_image(&stop).await;
        for _ in 0..PULLS {
            client.pull_something().await;
        }
    }
}

struct Client<'a> {
    shared: &'a Shared,
    repository: Arc<str>,
    random: Xoshiro256PlusPlus,
    images: usize,
}

impl Client<'_> {
    async fn push_image(&mut self, stop: &impl Fn() -> bool) {
        let mut blobs = Vec::new();
        for _ in 0..self.random.random_range(1..=BLOBS) {
            if stop() {
                return;
            }
            blobs.extend(self.push_blob().await);
        }
        if blobs.is_empty() {
            return;
        }
        self.images += 1;
        let bytes = manifest_of(&blobs);
        let manifest = Manifest {
            repository: Arc::clone(&self.repository),
            tag: format!("v{}", self.images),
            digest: digest_of(&bytes),
            bytes,
        };
        let what = format!("a push of {}:{}", self.repository, manifest.tag);
        let first = self.random.random_range(0..2);
        let put = self.shared.tried(&what, first, async |front: &Front| front.put_manifest(&manifest).await);
        if put.await {
            self.shared.tally.put_manifest();
            self.pull_manifest(&manifest).await;
            self.shared.ledger.add_manifest(manifest);
        }
    }

    /// Pushes a blob and pulls it back through the other registry.
    async fn push_blob(&mut self) -> Option<Blob> {
        let (content, bytes) = Content::random(&mut self.random);
        self.shared.pace(bytes.len()).await;
        let way = match self.random.random_range(0..4) {
            0 => Way::Post,
            1 => Way::Put,
            2 => Way::Patch(1),
            _ => Way::Patch(self.random.random_range(2..=4)),
        };
        let what = format!("a push of {} bytes by {way:?}", bytes.len());
        let first = self.random.random_range(0..2);
        let mut session = None;
        let push = async |front: &Front| {
            front.push(&self.repository, (&content.digest, &bytes), way, &mut session).await
        };
        if !self.shared.tried(&what, first, push).await {
            return None;
        }
        self.shared.tally.pushed(bytes.len());
        let blob = Blob { repository: Arc::clone(&self.repository), content: Arc::new(content) };
        self.shared.ledger.add_blob(blob.clone());
        pull(self.shared, &blob, first + 1, None).await;
        Some(blob)
    }

    async fn pull_something(&mut self) {
        let first = self.random.random_range(0..2);
        if self.random.random_range(0..4) == 0 {
            if let Some(manifest) = self.shared.ledger.any_manifest(&mut self.random) {
                self.pull_manifest(&manifest).await;
            }
        } else if let Some(blob) = self.shared.ledger.any_blob(&mut self.random) {
            let length = blob.content.length;
            let start = self.random.random_range(0..length);
            let end = self.random.random_range(start + 1..=length);
            let range = self.random.random_bool(0.3).then_some(start..end);
            pull(self.shared, &blob, first, range).await;
        }
    }

    async fn pull_manifest(&mut self, manifest: &Manifest) {
        pull_manifest(self.shared, manifest, self.random.random_range(0..2), self.random.random_bool(0.5))
            .await;
    }
}

/// Pulls a blob or a part of it; `false` if it could not be had.
pub(super) async fn pull(
    shared: &Shared,
    blob: &Blob,
    first: usize,
    range: Option<std::ops::Range<usize>>,
) -> bool {
    let bytes = blob.content.bytes();
    let what = match &range {
        Some(range) => format!("a pull of bytes {range:?} of {}", blob.content.digest),
        None => format!("a pull of the {} bytes of {}", bytes.len(), blob.content.digest),
    };
    let length = range.as_ref().map_or(bytes.len(), ExactSizeIterator::len);
    let pulled =
        shared.tried(&what, first, async |front: &Front| front.pull(blob, &bytes, range.clone()).await);
    let pulled = pulled.await;
    if pulled {
        shared.tally.pulled(length);
    }
    pulled
}

/// Pulls a manifest; `false` if it could not be had.
pub(super) async fn pull_manifest(shared: &Shared, manifest: &Manifest, first: usize, by_tag: bool) -> bool {
    let what = format!("a pull of {}:{}", manifest.repository, manifest.tag);
    shared.tried(&what, first, async |front: &Front| front.get_manifest(manifest, by_tag).await).await
}

/// A manifest whose first blob serves as configuration too.
fn manifest_of(blobs: &[Blob]) -> Vec<u8> {
    let descriptor = |kind: &str, blob: &Blob| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": blob.content.digest,
            "size": blob.content.length,
        })
    };
    let layers: Vec<_> = blobs.iter().map(|blob| descriptor("layer.v1.tar+gzip", blob)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("config.v1+json", &blobs[0]), "layers": layers,
    });
    manifest.to_string().into_bytes()
}
