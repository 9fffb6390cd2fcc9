use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments, body_of};
use speedy_core::budget::Budget;
use speedy_core::meta::MemoryMeta;

use super::images::{Claim, Images};
use super::names::ImageId;
use super::tar::{Entry, LayerReader, MAX_EXTENSION, Visit};
use super::{STANDALONE, VERSION, handle, is_of_v1};
use crate::registry::{Registry, RegistryOptions};

/// Requests of one conversation that are looked at.
const REQUESTS: usize = 12;
/// What stands between two requests.
const BETWEEN: &[u8] = b"\n%%\n";
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// What the first byte chooses: requests to a registry that has some images, one after the other; or a layer.
///
/// Requests are answered, never by an error of the server, in the form that the interface has; they leave nothing of the budget and no
/// contradiction in the metadata. A layer is read the same however it is cut and packed, in a bounded memory.
///
/// A request is a line `METHOD TARGET`, headers, an empty line and a body. Lines between the headers that begin with `!` say how the
/// body comes: `!cut N` in runs of N bytes, `!break N` only so far, `!tar` with the sums of its headers made right, `!gzip` packed.
/// `{a}` is the id of a complete image, `{b}` of one that waits for its checksum, `{sum}` and `{tarsum}` are what that is.
///
/// # Panics
/// Where that does not hold.
pub fn v1(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    if choice % 2 == 1 {
        return layer(rest);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime needs no more than memory").block_on(conversation(rest));
}

async fn conversation(text: &[u8]) {
    let scene = Scene::set().await;
    let mut rest = text;
    for _ in 0..REQUESTS {
        let end = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        if let Some(request) = scene.request(&rest[..end.unwrap_or(rest.len())]).await {
            scene.ask(request).await;
        }
        let Some(end) = end else { break };
        rest = &rest[end + BETWEEN.len()..];
    }
    scene.end().await;
}

/// A registry with a complete image `a` that has a tag, and an image `b` on top of it that waits for its checksum.
struct Scene {
    registry: Registry,
    budget: Budget,
    ids: [ImageId; 2],
}

impl Scene {
    async fn set() -> Self {
        let options = BlobOptions::default().fragment_size(1000).expect("a thousand bytes are a size");
        let budget = Budget::new(64 << 20);
        let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()));
        let blobs = BlobStore::new(meta, fragments, budget.clone(), options);
        let registry = Registry::new(blobs, RegistryOptions::default().search_age(Duration::ZERO));
        let ids = ["aa", "bb"].map(|digits| digits.repeat(32).parse().expect("these are ids"));
        let scene = Self { registry, budget, ids };
        scene.push().await.expect("a store in memory takes two images");
        scene
    }

    fn images(&self) -> Images {
        Images::new(self.registry.0.repositories.clone())
    }

    async fn push(&self) -> Result<(), super::images::ImageError> {
        let (images, [a, b]) = (self.images(), &self.ids);
        let name = "a/b".parse().expect("this is a name");
        for (id, parent) in [(a, None), (b, Some(*a))] {
            let json = Bytes::from(format!("{{\"id\":\"{id}\"}}"));
            images.put_json(id, parent, &json).await?;
            let layer = with_sums(&header(if parent.is_none() { "file" } else { ".wh.file" }, 0));
            images.put_layer(id, body_of(layer)).await?;
        }
        let [payload, _] = images.sums_of(a).await.expect("its layer is there");
        images.put_checksum(a, Claim { checksum: None, payload: payload.parse().ok() }).await?;
        let listed = super::images::Announced { id: *b, checksum: None };
        images.announce(&name, vec![listed]).await?;
        images.put_tag(&name, &"latest".parse().expect("this is a tag"), a, "").await
    }

    /// The request that a text is; `None` where no server would have let it through.
    async fn request(&self, text: &[u8]) -> Option<Request> {
        let [a, b] = &self.ids;
        let [sum, tarsum] = self.images().sums_of(b).await.unwrap_or_default();
        let text = [("{a}", a.to_string()), ("{b}", b.to_string()), ("{sum}", sum), ("{tarsum}", tarsum)]
            .iter()
            .fold(text.to_vec(), |text, (word, meaning)| {
                replaced(&text, word.as_bytes(), meaning.as_bytes())
            });
        let end = text.windows(2).position(|window| window == b"\n\n");
        let (head, body) = end.map_or((&text[..], &[][..]), |end| (&text[..end], &text[end + 2..]));
        let mut lines = head.split(|&byte| byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let (method, target) = first.split_once(' ')?;
        let mut request = http::Request::builder().method(method).uri(target);
        let mut ways = BTreeMap::new();
        for line in lines {
            if let Some(way) = line.strip_prefix(b"!") {
                let way = String::from_utf8_lossy(way).into_owned();
                let (word, number) = way.split_once(' ').unwrap_or((way.as_str(), ""));
                ways.insert(word.to_owned(), number.parse::<usize>().unwrap_or(0));
            } else {
                let colon = line.iter().position(|&byte| byte == b':')?;
                request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
            }
        }
        let mut body = body.to_vec();
        if ways.contains_key("tar") {
            body = with_sums(&body);
        }
        if ways.contains_key("gzip") {
            body = gzip(&body);
        }
        request.body(framed(body, &ways)).ok().filter(|request| is_of_v1(request.uri().path()))
    }

    async fn ask(&self, request: Request) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = tokio::time::timeout(LIMIT, async {
            let (head, body) = handle(self.registry.clone(), request).await.into_parts();
            (head, body.collect().await)
        });
        let (head, body) = answered.await.expect("every request is answered");
        let body = match body {
            Ok(body) => body.to_bytes(),
            // A list of files is sent as the layer is read.
            Err(_) if path.ends_with("/files") => return,
            Err(error) => panic!("the answer to {method} {path} breaks off: {error}"),
        };
        check(&method, &path, &Response::from_parts(head, body));
    }

    async fn end(self) {
        let wrong = self.images().contradictions().await.expect("what is kept can be read");
        assert!(wrong.is_empty(), "{wrong:#?}");
        // What searches look through is counted as long as it is kept.
        drop(self.registry);
        for _ in 0..1000 {
            if self.budget.available() == self.budget.total() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{} bytes of the budget are left", self.budget.total() - self.budget.available());
    }
}

/// An answer has the form that the interface demands.
fn check(method: &Method, path: &str, answer: &Response<Bytes>) {
    let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
    let what = || format!("{method} {path}: {status} {headers:?} {}", body.escape_ascii());
    assert!(
        !status.is_server_error() && !status.is_informational() && !status.is_redirection(),
        "{}",
        what()
    );
    assert!(headers.contains_key(VERSION) && headers.contains_key(STANDALONE), "{}", what());
    assert_eq!(headers.contains_key("allow"), status == StatusCode::METHOD_NOT_ALLOWED, "{}", what());
    let is_part = [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE].contains(&status);
    assert_eq!(headers.contains_key("content-range"), is_part, "{}", what());
    if let Some(length) = headers.get("content-length")
        && method != Method::HEAD
    {
        assert_eq!(length.to_str().ok(), Some(&*body.len().to_string()), "{}", what());
    }
    if let Some(endpoint) = headers.get("x-docker-endpoints") {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
        assert!(!endpoint.is_empty() && endpoint.as_bytes().iter().all(plain), "{}", what());
    }
    if status.is_client_error() {
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = error
            .as_object()
            .filter(|members| members.len() == 1)
            .and_then(|members| members["error"].as_str());
        assert!(text.is_some_and(|text| !text.is_empty()), "{}", what());
    } else if headers.get("content-type").is_some_and(|kind| kind == "application/json")
        && method != Method::HEAD
    {
        assert!(serde_json::from_slice::<Value>(body).is_ok(), "{}", what());
    }
}

/// The body, in runs, and perhaps with an end that no body has.
fn framed(body: Vec<u8>, ways: &BTreeMap<String, usize>) -> Body {
    if !ways.contains_key("cut") && !ways.contains_key("break") {
        return Body::from(body);
    }
    let whole = ways.get("break").copied().unwrap_or(body.len()).min(body.len());
    let run = ways.get("cut").copied().unwrap_or(whole).max(1);
    let mut runs: Vec<_> = body[..whole].chunks(run).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
    if ways.contains_key("break") {
        runs.push(Err(io::Error::other("the client went away")));
    }
    Body::from_stream(stream::iter(runs))
}

fn replaced(text: &[u8], word: &[u8], meaning: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.windows(word.len()).position(|window| window == word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(meaning);
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// A layer, behind a byte that says how it is cut.
fn layer(data: &[u8]) {
    let Some((&run, tar)) = data.split_first() else { return };
    let tar = with_sums(tar);
    let whole = read(&tar, tar.len());
    assert_eq!(read(&tar, usize::from(run)), whole, "in runs of {run}");
    let is_packed = tar.starts_with(&[0x1f, 0x8b]);
    if !is_packed {
        let packed = gzip(&tar);
        assert_eq!(read(&packed, packed.len()), whole, "packed");
        assert_eq!(read(&packed, usize::from(run)), whole, "packed, in runs of {run}");
    }
}

/// What is in a layer, and why it was not read to its end.
fn read(layer: &[u8], run: usize) -> (Entries, Option<String>) {
    let found = Rc::default();
    let mut reader = LayerReader::new(Found { all: Rc::clone(&found), left: None });
    for run in layer.chunks(run.max(1)) {
        reader = reader.add(run);
        let held = reader.held();
        assert!(held as u64 <= 2 * MAX_EXTENSION + 4096, "{held} bytes are held");
    }
    let failure = reader.failure().map(str::to_owned);
    let ended = reader.finish();
    assert!(
        failure.is_none() || ended.as_ref().err() == failure.as_ref(),
        "what has failed fails at the end"
    );
    if let Ok(found) = &ended {
        assert_eq!(found.left, None, "an entry is open at the end");
    }
    (found.take(), ended.err())
}

/// Entries, each with its bytes.
type Entries = Vec<(Entry, Vec<u8>)>;

/// The entries that were met.
struct Found {
    all: Rc<RefCell<Entries>>,
    /// Bytes that the entry which is open lacks.
    left: Option<u64>,
}

impl Visit for Found {
    fn begin(&mut self, entry: Entry) -> Result<(), String> {
        assert_eq!(self.left.replace(entry.size), None, "one entry after the other");
        self.all.borrow_mut().push((entry, Vec::new()));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) {
        let left = self.left.as_mut().expect("bytes are of an entry");
        *left = left.checked_sub(bytes.len() as u64).expect("no more bytes than the entry has");
        self.all.borrow_mut().last_mut().expect("an entry was begun").1.extend_from_slice(bytes);
    }

    fn end(&mut self) -> Result<(), String> {
        assert_eq!(self.left.take(), Some(0), "an entry ends with its last byte");
        Ok(())
    }
}

/// A header without its sum.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = b'0';
    block
}

/// Makes right the sums of headers that have none, which a fuzzer finds hard to guess.
fn with_sums(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512) {
        if block[148..156] == [0; 8] && block.iter().any(|&byte| byte != 0) {
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * u32::from(b' ');
            block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        }
    }
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let written = packed.write_all(bytes).and_then(|()| packed.finish());
    written.expect("memory takes all bytes")
}
