use super::*;

#[tokio::test]
async fn a_blob_is_read_whole_and_in_ranges() {
    let server = Server::start().await;
    let content = pattern(10_000);
    let digest = server.push_blob("a/b", &content).await;
    let path = format!("/v2/a/b/blobs/{digest}");
    for (range, status, expected, content_range) in [
        (None, 200, 0..10_000, ""),
        (Some("bytes=0-0"), 206, 0..1, "bytes 0-0/10000"),
        (Some("bytes=999-1000"), 206, 999..1001, "bytes 999-1000/10000"),
        (Some("bytes=2500-"), 206, 2500..10_000, "bytes 2500-9999/10000"),
        (Some("bytes=-10"), 206, 9990..10_000, "bytes 9990-9999/10000"),
        (Some("bytes=9000-20000"), 206, 9000..10_000, "bytes 9000-9999/10000"),
        (Some("bytes=1-2,4-5"), 200, 0..10_000, ""),
        (Some("bytes=x-1"), 200, 0..10_000, ""),
    ] {
        let mut request = server.request(Method::GET, &path);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{range:?}");
        assert_eq!(header(&response, "content-range"), content_range, "{range:?}");
        assert_eq!(header(&response, "content-length"), (expected.end - expected.start).to_string());
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        assert_eq!(header(&response, "accept-ranges"), "bytes");
        assert!(response.bytes().await.unwrap() == content[expected], "{range:?}");
    }
    for range in ["bytes=10000-", "bytes=5-1", "bytes=-0"] {
        let response = server.request(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!(header(&response, "content-range"), "bytes */10000", "{range}");
        assert_eq!(error(response).await, code(416, "RANGE_INVALID"), "{range}");
    }
}

#[tokio::test]
async fn head_answers_with_the_headers_of_get() {
    let server = Server::start().await;
    let digest = server.push_blob("a", &pattern(5000)).await;
    let path = format!("/v2/a/blobs/{digest}");
    let head = server.request(Method::HEAD, &path).header("range", "bytes=0-1").send().await.unwrap();
    let get = server.get(&path).await;
    assert_eq!(head.status(), 200);
    for name in ["content-length", "content-type", "docker-content-digest", "etag", "accept-ranges"] {
        assert!(!header(&get, name).is_empty(), "{name}");
        assert_eq!(header(&head, name), header(&get, name), "{name}");
    }
    assert!(head.bytes().await.unwrap().is_empty());
    assert_eq!(get.bytes().await.unwrap().len(), 5000);
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"content").await;
    let path = format!("/v2/a/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    for (tags, status) in [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!("\"x\", {etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let response =
            server.request(Method::GET, &path).header("if-none-match", &tags).send().await.unwrap();
        assert_eq!(response.status(), status, "{tags}");
        assert_eq!(header(&response, "etag"), etag);
    }
    for (tag, status) in [(etag.as_str(), 206), ("\"x\"", 200)] {
        let request = server.request(Method::GET, &path).header("range", "bytes=0-1").header("if-range", tag);
        assert_eq!(request.send().await.unwrap().status(), status, "{tag}");
    }
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"").await;
    let response = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "0"));
    assert!(response.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn blobs_are_seen_only_where_they_are_linked() {
    let server = Server::start().await;
    let content = pattern(3000);
    let digest = server.push_blob("a", &content).await;
    let other = format!("/v2/b/blobs/{digest}");
    assert_eq!(error(server.get(&other).await).await, code(404, "BLOB_UNKNOWN"));

    let mount = |query: String| server.request(Method::POST, &format!("/v2/b/blobs/uploads/?{query}")).send();
    let refused = mount(format!("mount={digest}&from=no/such")).await.unwrap();
    assert_eq!(refused.status(), 202);
    assert!(header(&refused, "location").starts_with("/v2/b/blobs/uploads/"));
    let refused = mount(format!("mount={digest}&from=NO")).await.unwrap();
    assert_eq!(refused.status(), 202);
    let unknown = Digest::sha256(b"never pushed");
    assert_eq!(mount(format!("mount={unknown}")).await.unwrap().status(), 202);
    assert_eq!(
        error(mount("mount=sha256:x&from=a".into()).await.unwrap()).await,
        code(400, "DIGEST_INVALID")
    );

    let mounted = mount(format!("mount={digest}&from=a")).await.unwrap();
    assert_eq!((mounted.status().as_u16(), header(&mounted, "location")), (201, other.as_str()));
    assert_eq!(header(&mounted, "docker-content-digest"), digest.to_string());
    assert_eq!(server.get(&other).await.bytes().await.unwrap(), content);
    assert_eq!(server.keys("b/").await, 1, "stored once");

    // From anywhere.
    let path = format!("/v2/c/blobs/uploads/?mount={digest}");
    assert_eq!(server.send(Method::POST, &path).await.status(), 201);
    assert_eq!(server.get(&format!("/v2/c/blobs/{digest}")).await.status(), 200);

    // Taken out of one, it is in the others.
    assert_eq!(server.send(Method::DELETE, &other).await.status(), 202);
    assert_eq!(error(server.send(Method::DELETE, &other).await).await, code(404, "BLOB_UNKNOWN"));
    assert_eq!(server.get(&other).await.status(), 404);
    assert_eq!(server.send(Method::HEAD, &other).await.status(), 404);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 200);
}

#[tokio::test]
async fn the_same_content_is_stored_once() {
    let server = Server::start().await;
    let content = pattern(3000);
    for name in ["a", "b", "a"] {
        server.push_blob(name, &content).await;
    }
    assert_eq!(server.keys("d/").await, 1);
    assert_eq!(server.keys("u/").await, 0);
    assert_eq!((server.keys("R/b/").await, server.keys("R/h/").await), (2, 2));
}

#[tokio::test]
async fn sha512_names_blobs_too() {
    use speedy_core::digest::Algorithm;
    let server = Server::start().await;
    let content = pattern(2500);
    let digest = Digest::of(Algorithm::Sha512, &content);
    let location = server.begin("a").await;
    let put = server.request(Method::PUT, &format!("{location}?digest={digest}")).body(content.clone());
    let response = put.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), header(&response, "docker-content-digest")),
        (201, digest.to_string().as_str())
    );
    let response = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(response.bytes().await.unwrap(), content);
    // Percent-encoded, as some clients write it.
    let encoded = digest.to_string().replace(':', "%3A");
    assert_eq!(server.send(Method::HEAD, &format!("/v2/a/blobs/{encoded}")).await.status(), 200);
}
