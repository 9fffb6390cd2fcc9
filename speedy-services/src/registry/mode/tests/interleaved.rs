//! The switch comes before each of the operations that a request makes on the metadata store, one run for each: every
//! order that there is, for nothing else of a request is seen by others. The registry that serves the request has not heard of
//! the switch, as one that looked a moment ago.
//!
//! Whatever the order, nothing changes after the switch, and what was acknowledged is there. Without the check that
//! [`Guarded`](super::super::Guarded) adds every request here was seen to change something.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::json;
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
use speedy_core::budget::Budget;
use speedy_core::digest::Digest;
use tower::ServiceExt;

use super::*;
use crate::registry::manifest::OCI_MANIFEST;
use crate::registry::{Registry, RegistryOptions, router};

/// A metadata store in memory in which somebody switches read-only mode on right before one of the operations.
#[derive(Debug)]
struct Interrupted {
    inner: Arc<MemoryMeta>,
    /// Operations until then.
    left: AtomicI64,
    /// What was there right after the switch.
    switched: Mutex<Option<Vec<Entry>>>,
}

const NEVER: i64 = i64::MAX;

async fn all(meta: &MemoryMeta) -> Vec<Entry> {
    let range = KeyRange { start: Bytes::from_static(b"\0"), end: None };
    meta.scan(range, 10_000).await.unwrap().entries
}

impl Interrupted {
    async fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let elsewhere = Mode::new(Arc::clone(&self.inner) as _);
            elsewhere.set(Some("a backup is taken".into())).await.unwrap();
            let all = all(&self.inner).await;
            *self.switched.lock() = Some(all);
        }
    }
}

#[async_trait]
impl MetaStore for Interrupted {
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, MetaError> {
        self.pass().await;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, MetaError> {
        self.pass().await;
        self.inner.scan(range, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, MetaError> {
        self.pass().await;
        self.inner.transact(transaction).await
    }

    async fn now(&self) -> Result<Timestamp, MetaError> {
        self.pass().await;
        self.inner.now().await
    }
}

struct World {
    meta: Arc<Interrupted>,
    app: Router,
}

/// A request, and the status of a later GET which shows that what it was to do is done. `{at}` in a path is where the last
/// answer with a `Location` said to go on.
#[derive(Clone)]
struct Step {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    shown: (String, u16),
}

fn step(method: Method, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Step {
    Step {
        method,
        path: path.into(),
        headers: vec![("host", "registry.test".into())],
        body: body.into(),
        shown: (String::new(), 0),
    }
}

impl Step {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn shown(mut self, path: impl Into<String>, status: u16) -> Self {
        self.shown = (path.into(), status);
        self
    }
}

impl World {
    fn new() -> Self {
        let inner = Arc::new(MemoryMeta::new());
        let meta = Arc::new(Interrupted { inner, left: AtomicI64::new(NEVER), switched: Mutex::default() });
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let fragments = Arc::new(MemoryFragments::new());
        let blobs = BlobStore::new(Arc::clone(&meta) as _, fragments, Budget::new(64 << 20), options);
        let app = router(Registry::new(blobs, RegistryOptions::default()));
        Self { meta, app }
    }

    async fn send(&self, method: Method, path: &str, step: Option<&Step>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in step.iter().flat_map(|step| &step.headers) {
            request = request.header(*name, value);
        }
        let body = step.map_or_else(Vec::new, |step| step.body.clone());
        self.app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    /// Takes a step, and answers where it said to go on.
    async fn take(&self, step: &Step, at: &mut String) -> Response {
        let path = step.path.replace("{at}", at);
        let response = self.send(step.method.clone(), &path, Some(step)).await;
        if let Some(location) = response.headers().get("location") {
            *at = location.to_str().unwrap().to_owned();
        }
        response
    }
}

/// Runs the last of these steps with the switch in every place. Answers how many places there were, and in how many the
/// request came through.
async fn interrupt(steps: &[Step]) -> (i64, i64) {
    let (last, before) = steps.split_last().unwrap();
    let mut through = 0;
    for place in 0.. {
        let (world, mut at) = (World::new(), String::new());
        for step in before {
            let status = world.take(step, &mut at).await.status();
            assert!(status.is_success(), "{} {}: {status}", step.method, step.path);
        }
        world.meta.left.store(place, Ordering::SeqCst);
        let response = world.take(last, &mut at).await;
        // What goes on without being waited for, too.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        world.meta.left.store(NEVER, Ordering::SeqCst);
        let what = format!("{} {} with the switch before operation {place}", last.method, last.path);
        let Some(switched) = world.meta.switched.lock().take() else {
            assert!(response.status().is_success(), "{what}, which there is not: {}", response.status());
            return (place, through);
        };
        assert_eq!(all(&world.meta.inner).await, switched, "{what}: something changed after the switch");
        let status = response.status();
        if status.is_success() {
            through += 1;
            let shown = world.send(Method::GET, &last.shown.0.replace("{at}", &at), None).await;
            assert_eq!(shown.status(), last.shown.1, "{what} was acknowledged");
        } else {
            let told = response.into_body().collect().await.unwrap().to_bytes();
            let told = String::from_utf8_lossy(&told).into_owned();
            assert_eq!(status, 405, "{what}: {told}");
            assert!(told.contains("read-only at the moment: a backup is taken"), "{what}: {told}");
        }
    }
    unreachable!("a request ends")
}

fn layer(number: usize) -> Vec<u8> {
    (0..2500).map(|at| (at * 31 + number * 7) as u8).collect()
}

fn digest(content: &[u8]) -> Digest {
    Digest::sha256(content)
}

fn whole(content: &[u8]) -> Step {
    let digest = digest(content);
    step(Method::POST, format!("/v2/a/blobs/uploads/?digest={digest}"), content)
        .shown(format!("/v2/a/blobs/{digest}"), 200)
}

/// An image of so many layers, with its blobs.
fn image(layers: usize) -> Vec<Step> {
    let contents: Vec<Vec<u8>> = (0..layers).map(layer).collect();
    let descriptor = |content: &Vec<u8>| json!({ "mediaType": "x", "digest": digest(content).to_string(), "size": content.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(&contents[0]),
        "layers": contents[1..].iter().map(descriptor).collect::<Vec<_>>(),
    });
    let mut steps: Vec<Step> = contents.iter().map(|content| whole(content)).collect();
    let put = step(Method::PUT, "/v2/a/manifests/latest", manifest.to_string());
    steps.push(put.header("content-type", OCI_MANIFEST).shown("/v2/a/manifests/latest", 200));
    steps
}

fn then(mut steps: Vec<Step>, last: Step) -> Vec<Step> {
    steps.push(last);
    steps
}

#[tokio::test]
async fn nothing_of_v2_changes_after_the_switch_and_what_was_acknowledged_is_there() {
    let content = layer(1);
    let begin = || step(Method::POST, "/v2/a/blobs/uploads/", "").shown("{at}", 204);
    let patch = || step(Method::PATCH, "{at}", content.clone()).shown("{at}", 204);
    let put = format!("{{at}}?digest={}", digest(&content));
    let blob = format!("/v2/a/blobs/{}", digest(&content));
    let mount = format!("/v2/b/blobs/uploads/?mount={}&from=a", digest(&content));
    let there = format!("/v2/b/blobs/{}", digest(&content));
    let many = image(60);
    let manifest = format!("/v2/a/manifests/{}", digest(&many[60].body));
    for steps in [
        vec![whole(&content)],
        vec![begin()],
        vec![begin(), patch()],
        vec![begin(), patch(), step(Method::PUT, put, "").shown(&blob, 200)],
        vec![begin(), patch(), step(Method::DELETE, "{at}", "").shown("{at}", 404)],
        vec![whole(&content), step(Method::POST, mount, "").shown(there, 200)],
        vec![whole(&content), step(Method::DELETE, &blob, "").shown(&blob, 404)],
        image(3),
        then(
            image(3),
            step(Method::DELETE, "/v2/a/manifests/latest", "").shown("/v2/a/manifests/latest", 404),
        ),
        // References that take several transactions, and a delete of them.
        many.clone(),
        then(many, step(Method::DELETE, &manifest, "").shown(&manifest, 404)),
    ] {
        let last = steps.last().unwrap();
        let (places, through) = interrupt(&steps).await;
        // It was refused in one place at least: before the transaction that it ends with.
        assert!(places > 0 && through < places, "{} {}: {through} of {places}", last.method, last.path);
    }
}

#[tokio::test]
async fn nothing_of_v1_changes_after_the_switch_and_what_was_acknowledged_is_there() {
    let id = "ab".repeat(32);
    let (document, content) = (format!(r#"{{"id":"{id}"}}"#), layer(3));
    let payload = Digest::sha256(&[document.as_bytes(), b"\n", &content].concat());
    let list = json!([{ "id": id }]).to_string();
    let at = |part: &str| format!("/v1/images/{id}/{part}");
    let tag = "/v1/repositories/a/b/tags/latest";
    let push = [
        step(Method::PUT, "/v1/repositories/a/b/", list).shown("/v1/repositories/a/b/images", 200),
        // Until it is complete it can't be told from one that is not there, but for the status.
        step(Method::PUT, at("json"), document).shown(at("json"), 400),
        step(Method::PUT, at("layer"), content).shown(at("json"), 400),
        step(Method::PUT, at("checksum"), "")
            .header("x-docker-checksum-payload", payload.to_string())
            .shown(at("json"), 200),
        step(Method::PUT, tag, format!("\"{id}\"")).shown(tag, 200),
        step(Method::DELETE, "/v1/repositories/a/b/", "").shown(tag, 404),
    ];
    for steps in 1..=push.len() {
        let last = &push[steps - 1];
        let (places, through) = interrupt(&push[..steps]).await;
        assert!(places > 0 && through < places, "{} {}: {through} of {places}", last.method, last.path);
    }
}
