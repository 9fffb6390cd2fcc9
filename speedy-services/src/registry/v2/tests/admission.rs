//! Read-only mode and the limits on clients.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::unread::told_while_writing;
use super::*;
use crate::registry::{Limits, Rate};

fn limited(limits: Limits) -> RegistryOptions {
    RegistryOptions::default().limits(limits)
}

fn most(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

/// The text of the first error.
async fn message(response: Response) -> String {
    let body: Value = response.json().await.unwrap();
    body["errors"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_read_only_registry_refuses_every_change_and_serves_every_read() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"layer").await;
    let manifest = server.image("a", b"layer").await;
    assert_eq!(server.put_manifest("a", "v1", OCI_MANIFEST, &manifest).await.status(), 201);
    let location = server.begin("a").await;
    let patch = server.request(Method::PATCH, &location).body("some");
    assert_eq!(patch.send().await.unwrap().status(), 202);
    let before = server.keys("").await;

    server.registry.set_read_only(Some("new disks until 18:00".into())).await.unwrap();
    let whole = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"body"));
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    for (method, path) in [
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::POST, whole),
        (Method::POST, mount),
        (Method::PATCH, location.clone()),
        (Method::PUT, format!("{location}?digest={}", Digest::sha256(b"some"))),
        (Method::DELETE, location.clone()),
        (Method::PUT, "/v2/a/manifests/v2".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, format!("/v2/a/blobs/{digest}")),
    ] {
        let response = server.request(method.clone(), &path).body("body").send().await.unwrap();
        assert_eq!(header(&response, "allow"), "GET, HEAD", "{method} {path}");
        assert_eq!(error(response).await, code(405, "UNSUPPORTED"), "{method} {path}");
    }
    let told = message(server.send(Method::POST, "/v2/a/blobs/uploads/").await).await;
    assert_eq!(told, "the registry is read-only at the moment: new disks until 18:00");
    assert_eq!(server.keys("").await, before + 1, "only the switch itself was written");
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/v1", &location] {
        assert!(server.get(path).await.status().is_success(), "{path}");
    }
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.text().await.unwrap(), "layer");

    // What was under way goes on where it stood.
    server.registry.set_read_only(None).await.unwrap();
    assert_eq!(header(&server.get(&location).await, "range"), "0-3");
    let put = server.request(Method::PUT, &format!("{location}?digest={}", Digest::sha256(b"something")));
    assert_eq!(put.body("thing").send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_request_that_is_under_way_when_the_switch_comes_is_refused() {
    let server = Server::start().await;
    let (runs, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(body));
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"onetwo"));
    let post = tokio::spawn(server.request(Method::POST, &path).body(body).send());
    runs.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
    while !server.metrics().contains("speedy_http_requests_in_flight 1\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.registry.set_read_only(Some("a backup".into())).await.unwrap();
    let switched = server.keys("").await;
    runs.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
    drop(runs);
    let refused = post.await.unwrap().unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "allow")), (405, "GET, HEAD"));
    assert_eq!(message(refused).await, "the registry is read-only at the moment: a backup");
    assert_eq!(server.keys("").await, switched);
    let told = message(server.send(Method::POST, "/v2/a/blobs/uploads/").await).await;
    assert_eq!(told, "the registry is read-only at the moment: a backup");
}

#[tokio::test]
async fn every_registry_of_the_metadata_follows_the_switch() {
    let server = Server::start().await;
    let sibling = server.sibling().await;
    let following = tokio::spawn(sibling.registry.clone().follow());
    server.registry.set_read_only(Some(String::new())).await.unwrap();
    let refused = async {
        while sibling.send(Method::POST, "/v2/a/blobs/uploads/").await.status() != 405 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("it hears of it within a second");
    following.abort();
}

#[tokio::test]
async fn a_client_above_its_rate_is_told_when_to_come_back() {
    let rate = Rate { per_second: most(1).unwrap(), burst: most(4).unwrap() };
    let limits = Limits::default().client_rate(Some(rate)).wait(Duration::ZERO);
    let limits = limits.trusted_proxies(vec!["127.0.0.0/8".parse().unwrap()]);
    let server = Server::with(limited(limits)).await;
    let as_client =
        |client: &'static str| server.request(Method::GET, "/v2/").header("x-forwarded-for", client);
    for _ in 0..4 {
        assert_eq!(as_client("192.0.2.1").send().await.unwrap().status(), 200);
    }
    let refused = as_client("192.0.2.1").send().await.unwrap();
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(error(refused).await, code(429, "TOOMANYREQUESTS"));
    // A path that is no endpoint counts as well, and is refused as well.
    let stray = server.request(Method::GET, "/v3/").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(error(stray.send().await.unwrap()).await, code(429, "TOOMANYREQUESTS"));
    assert_eq!(as_client("192.0.2.2").send().await.unwrap().status(), 200, "another client");
    let page = server.metrics();
    assert!(page.contains("speedy_http_refused_total{reason=\"rate\"} 2\n"), "{page}");
    assert!(page.contains("speedy_http_refused_total{reason=\"read_only\"} 0\n"), "{page}");
}

#[tokio::test]
async fn what_a_client_was_let_in_with_goes_on_when_it_is_its_turn() {
    let rate = Rate { per_second: most(5).unwrap(), burst: most(2).unwrap() };
    let limits = Limits::default().client_rate(Some(rate)).wait(Duration::ZERO);
    let server = Server::with(limited(limits)).await;
    let begun = Instant::now();
    let location = server.begin("a").await;
    // Two at once, and one more in each fifth of a second: what goes on waits, and only what begins is refused.
    for length in 1..5 {
        let patch = server.request(Method::PATCH, &location).body("x").send().await.unwrap();
        assert_eq!((patch.status().as_u16(), header(&patch, "range")), (202, &*format!("0-{}", length - 1)));
    }
    assert_eq!(server.send(Method::POST, "/v2/a/blobs/uploads/").await.status(), 429);
    let put = format!("{location}?digest={}", Digest::sha256(b"xxxx"));
    assert_eq!(server.send(Method::PUT, &put).await.status(), 201);
    assert!(begun.elapsed() >= Duration::from_millis(790), "{:?}", begun.elapsed());
    let page = server.metrics();
    for line in ["refused_total{reason=\"rate\"} 1\n", "delayed_total{reason=\"rate\"} 4\n"] {
        assert!(page.contains(&format!("speedy_http_{line}")), "{page}");
    }
}

/// Begins to push a blob in one request, and does not end it.
async fn half_of_slow(server: &Server) -> TcpStream {
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"slow"));
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nsl");
    slow.write_all(head.as_bytes()).await.unwrap();
    while !server.metrics().contains("speedy_http_requests_in_flight 1\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    slow
}

async fn ends_with_201(mut slow: TcpStream) {
    slow.write_all(b"ow").await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
}

#[tokio::test]
async fn uploads_beyond_the_limit_wait_until_one_ends() {
    for limits in [Limits::default().uploads(most(1)), Limits::default().client_uploads(most(1))] {
        let server = Server::with(limited(limits)).await;
        let slow = half_of_slow(&server).await;
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"x"));
        let mut other = tokio::spawn(server.request(Method::POST, &path).body("x").send());
        let early = tokio::time::timeout(Duration::from_millis(300), &mut other).await;
        assert!(early.is_err(), "it was not its turn: {early:?}");
        // What brings nothing is no upload.
        assert_eq!(server.send(Method::POST, "/v2/a/blobs/uploads/").await.status(), 202);
        assert_eq!(server.get("/v2/").await.status(), 200);
        ends_with_201(slow).await;
        assert_eq!(other.await.unwrap().unwrap().status(), 201);
        let page = server.metrics();
        assert!(page.contains("speedy_http_delayed_total{reason=\"uploads\"} 1\n"), "{page}");
        assert!(page.contains("uploads\"} 0\n") && !page.contains("refused_total{reason=\"uploads\"} 1"));
    }
}

#[tokio::test]
async fn nobody_begins_an_upload_behind_many() {
    for (limits, reason) in [
        (Limits::default().uploads(most(1)), "uploads"),
        (Limits::default().client_uploads(most(1)), "client_uploads"),
    ] {
        let server = Server::with(limited(limits)).await;
        let slow = half_of_slow(&server).await;
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"x"));
        let others: Vec<_> =
            (0..16).map(|_| tokio::spawn(server.request(Method::POST, &path).body("x").send())).collect();
        while !server.metrics().contains("speedy_http_requests_in_flight 17\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = server.send(Method::POST, "/v2/a/blobs/uploads/").await;
        assert_eq!(header(&refused, "retry-after"), "5");
        assert_eq!(error(refused).await, code(429, "TOOMANYREQUESTS"));
        assert_eq!(server.get("/v2/").await.status(), 200);
        ends_with_201(slow).await;
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().status(), 201);
        }
        assert_eq!(server.send(Method::POST, "/v2/a/blobs/uploads/").await.status(), 202);
        let page = server.metrics();
        assert!(page.contains(&format!("speedy_http_refused_total{{reason=\"{reason}\"}} 1\n")), "{page}");
    }
}

#[tokio::test]
async fn one_that_waited_too_long_hears_so_while_it_writes_and_can_go_on() {
    let limits = Limits::default().client_uploads(most(1)).wait_body(Duration::from_millis(300));
    let server = Server::with(limited(limits)).await;
    let location = server.begin("a").await;
    let slow = half_of_slow(&server).await;
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 100 << 20);
    let (told, written) = told_while_writing(&server, &head, 100 << 20).await;
    assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("retry-after: 5\r\n"), "{told}");
    assert!(told.contains("connection: close\r\n"), "more comes than is heard out: {told}");
    assert!(written < 40 << 20, "{written} bytes were taken for nothing");
    ends_with_201(slow).await;
    let patch = server.request(Method::PATCH, &location).body("some").send().await.unwrap();
    assert_eq!((patch.status().as_u16(), header(&patch, "range")), (202, "0-3"), "nothing of it was kept");
}

#[tokio::test]
async fn a_blob_above_the_limit_is_refused_however_it_comes() {
    let server = Server::with(limited(Limits::default().blob(Some(3000)))).await;
    let (fits, large) = (pattern(3000), pattern(3001));
    server.push_blob("a", &fits).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(&large));
    let announced = server.request(Method::POST, &path).body(large.clone()).send().await.unwrap();
    assert_eq!(error(announced).await, code(413, "SIZE_INVALID"));
    let runs: Vec<_> = large.chunks(500).map(|run| Ok(Bytes::copy_from_slice(run))).collect();
    let streamed = server.request(Method::POST, &path).body(chunked(runs)).send().await.unwrap();
    assert_eq!(error(streamed).await, code(413, "SIZE_INVALID"));
    // The limit is of the whole, not of each request.
    let location = server.begin("a").await;
    let patch = server.request(Method::PATCH, &location).body(large[..2000].to_vec()).send().await.unwrap();
    assert_eq!(patch.status(), 202);
    let put = format!("{location}?digest={}", Digest::sha256(&large));
    let last = server.request(Method::PUT, &put).body(large[2000..].to_vec()).send().await.unwrap();
    assert_eq!(error(last).await, code(413, "SIZE_INVALID"));
    assert_eq!(
        header(&server.get(&location).await, "range"),
        "0-1999",
        "nothing of what was announced was read"
    );
    assert_eq!(server.blobs.budget().available(), server.blobs.budget().total());
}
