use super::*;
use crate::registry::manifest::{DOCKER_MANIFEST, MAX_MANIFEST};

/// Everything that this server keeps, to see that bad input leaves nothing.
async fn stored(server: &Server) -> Vec<Bytes> {
    let page =
        server.meta.scan(KeyRange { start: Bytes::from_static(b"\0"), end: None }, 10_000).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).filter(|key| !key.starts_with(b"q/")).collect()
}

#[tokio::test]
async fn bad_names_digests_and_references() {
    let server = Server::start().await;
    let long = "a".repeat(256);
    let digest = Digest::sha256(b"x");
    let upper = digest.to_string().to_uppercase();
    let table: Vec<(Method, String, u16, &str)> = vec![
        (Method::GET, "/v2/UPPER/tags/list".into(), 400, "NAME_INVALID"),
        (Method::GET, format!("/v2/{long}/tags/list"), 400, "NAME_INVALID"),
        (Method::GET, "/v2/a%2F..%2Fb/tags/list".into(), 400, "NAME_INVALID"),
        (Method::GET, "/v2/a_/tags/list".into(), 400, "NAME_INVALID"),
        (Method::GET, "/v2/a%00/tags/list".into(), 400, "NAME_INVALID"),
        (Method::GET, "/v2/a%ff/tags/list".into(), 400, "NAME_INVALID"),
        (Method::GET, format!("/v2//blobs/{digest}"), 400, "NAME_INVALID"),
        (Method::POST, "/v2/UPPER/blobs/uploads/".into(), 400, "NAME_INVALID"),
        (Method::PUT, "/v2/UPPER/manifests/latest".into(), 400, "NAME_INVALID"),
        (Method::GET, "/v2/a/blobs/sha256:abc".into(), 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".into(), 400, "DIGEST_INVALID"),
        (Method::GET, format!("/v2/a/blobs/{upper}"), 400, "DIGEST_INVALID"),
        (Method::DELETE, "/v2/a/blobs/latest".into(), 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/manifests/sha256:abc".into(), 400, "DIGEST_INVALID"),
        (Method::DELETE, "/v2/a/manifests/sha256:abc".into(), 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/manifests/.INVALID".into(), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, "/v2/a/manifests/latest".into(), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, format!("/v2/a/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        (Method::PUT, "/v2/a/manifests/.x".into(), 400, "TAG_INVALID"),
        (Method::PUT, format!("/v2/a/manifests/{}", "t".repeat(129)), 400, "TAG_INVALID"),
        (Method::POST, "/v2/a/blobs/uploads/?digest=sha256:abc".into(), 400, "DIGEST_INVALID"),
        (Method::PATCH, "/v2/a/blobs/uploads/xyz".into(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (
            Method::GET,
            "/v2/a/blobs/uploads/00112233445566778899aabbccddeeff".into(),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        (
            Method::PUT,
            format!("/v2/a/blobs/uploads/00112233445566778899aabbccddeeff?digest={digest}"),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        (Method::GET, "/".into(), 404, "UNSUPPORTED"),
        (Method::GET, "/v2/a/b/c".into(), 404, "UNSUPPORTED"),
        (Method::GET, "/v3/".into(), 404, "UNSUPPORTED"),
        (Method::POST, "/v2/".into(), 405, "UNSUPPORTED"),
        (Method::DELETE, "/v2/_catalog".into(), 405, "UNSUPPORTED"),
        (Method::GET, "/v2/a/blobs/uploads/".into(), 405, "UNSUPPORTED"),
        (Method::PATCH, "/v2/a/manifests/latest".into(), 405, "UNSUPPORTED"),
        (Method::PUT, format!("/v2/a/blobs/{digest}"), 405, "UNSUPPORTED"),
        (Method::OPTIONS, "/v2/a/tags/list".into(), 405, "UNSUPPORTED"),
    ];
    for (method, path, status, name) in table {
        let response = server.send(method.clone(), &path).await;
        assert_eq!(header(&response, "allow").is_empty(), status != 405, "{path}");
        assert_eq!(error(response).await, code(status, name), "{method} {path}");
    }
    assert!(stored(&server).await.is_empty());
}

#[tokio::test]
async fn the_longest_name_and_an_odd_query_are_fine() {
    let server = Server::start().await;
    let name = "n".repeat(255);
    server.push_image(&name, &"t".repeat(128), b"layer").await;
    let path = format!("/v2/{name}/manifests/{}?ns=docker.io", "t".repeat(128));
    assert_eq!(server.get(&path).await.status(), 200);
    for path in ["/v2", "/v2/", "/v2/?x=y"] {
        let response = server.get(path).await;
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
        assert_eq!(response.text().await.unwrap(), "{}", "{path}");
    }
}

#[tokio::test]
async fn bad_manifests() {
    let server = Server::start().await;
    let good = server.image("a", b"layer").await;
    let before = stored(&server).await;
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut manifest: Value = serde_json::from_str(&good).unwrap();
        edit(&mut manifest);
        manifest.to_string()
    };
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let twice = good.replacen('{', "{\"schemaVersion\":2,", 1);
    let table = [
        (OCI_MANIFEST, String::new()),
        (OCI_MANIFEST, "no json".into()),
        (OCI_MANIFEST, "[]".into()),
        (OCI_MANIFEST, "{}".into()),
        (OCI_MANIFEST, good[..good.len() - 1].into()),
        (OCI_MANIFEST, "[".repeat(100_000)),
        (OCI_MANIFEST, twice),
        (OCI_MANIFEST, edit(&|m| m["schemaVersion"] = 1.into())),
        (OCI_MANIFEST, edit(&|m| m["schemaVersion"] = "2".into())),
        (OCI_MANIFEST, edit(&|m| drop(m.as_object_mut().unwrap().remove("schemaVersion")))),
        (OCI_MANIFEST, edit(&|m| drop(m.as_object_mut().unwrap().remove("config")))),
        (OCI_MANIFEST, edit(&|m| m["manifests"] = json!([]))),
        (OCI_MANIFEST, edit(&|m| m["mediaType"] = DOCKER_MANIFEST.into())),
        (OCI_MANIFEST, edit(&|m| m["config"]["digest"] = "sha256:abc".into())),
        (OCI_MANIFEST, edit(&|m| m["config"]["size"] = (-1).into())),
        (OCI_MANIFEST, edit(&|m| m["config"]["size"] = json!(1.5))),
        (OCI_MANIFEST, edit(&|m| m["layers"] = json!({}))),
        (OCI_MANIFEST, edit(&|m| m["subject"] = json!({ "digest": "x", "size": 1 }))),
        (OCI_MANIFEST, edit(&|m| m["artifactType"] = "x".repeat(256).into())),
        (OCI_INDEX, good.clone()),
        (OCI_INDEX, edit(&|m| m["mediaType"] = OCI_INDEX.into())),
        (DOCKER_MANIFEST, good.clone()),
        (schema1, "{\"schemaVersion\":1,\"fsLayers\":[]}".into()),
        ("application/json", good.clone()),
        ("", good.clone()),
    ];
    for (media_type, manifest) in table {
        let response = server.put_manifest("a", "bad", media_type, &manifest).await;
        assert_eq!(error(response).await, code(400, "MANIFEST_INVALID"), "{media_type} {manifest:.200}");
    }
    assert_eq!(stored(&server).await, before);

    // Case does not count in a type.
    let loud = OCI_MANIFEST.to_uppercase();
    assert_eq!(server.put_manifest("a", "loud", &loud, &good).await.status(), 201);
    assert_eq!(header(&server.get("/v2/a/manifests/loud").await, "content-type"), OCI_MANIFEST);

    // Without a Content-Type the document says what it is, and parameters of one do not matter.
    let request = server.request(Method::PUT, "/v2/a/manifests/good").body(good.clone());
    assert_eq!(request.send().await.unwrap().status(), 201);
    let typed = format!("{OCI_MANIFEST}; charset=utf-8");
    assert_eq!(server.put_manifest("a", "good", &typed, &good).await.status(), 201);
    assert_eq!(header(&server.get("/v2/a/manifests/good").await, "content-type"), OCI_MANIFEST);
}

#[tokio::test]
async fn content_that_is_not_what_was_announced() {
    let server = Server::start().await;
    let digest = Digest::sha256(b"expected");

    let location = server.begin("a").await;
    let put = server.request(Method::PUT, &format!("{location}?digest={digest}")).body("other");
    assert_eq!(error(put.send().await.unwrap()).await, code(400, "DIGEST_INVALID"));
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let post = server.request(Method::POST, &path).body("other");
    assert_eq!(error(post.send().await.unwrap()).await, code(400, "DIGEST_INVALID"));

    let location = server.begin("a").await;
    for query in ["", "?digest=", "?digest=sha256:x"] {
        let put = server.request(Method::PUT, &format!("{location}{query}")).body("expected");
        assert_eq!(error(put.send().await.unwrap()).await, code(400, "DIGEST_INVALID"), "{query}");
    }
    for (range, status, name) in [
        ("0-3", 400, "SIZE_INVALID"),
        ("0-99", 400, "SIZE_INVALID"),
        ("9-0", 416, "RANGE_INVALID"),
        ("x", 416, "RANGE_INVALID"),
    ] {
        let patch = server.request(Method::PATCH, &location).header("content-range", range).body("expected");
        assert_eq!(error(patch.send().await.unwrap()).await, code(status, name), "{range}");
    }
    assert_eq!(header(&server.get(&location).await, "range"), "0-0");

    // The same where the length comes out only at the end: what came in order is kept.
    for (range, held) in [("0-3", "0-0"), ("0-99", "0-7")] {
        let body = chunked(vec![Ok(Bytes::from_static(b"expected"))]);
        let patch = server.request(Method::PATCH, &location).header("content-range", range).body(body);
        assert_eq!(error(patch.send().await.unwrap()).await, code(400, "SIZE_INVALID"), "{range}");
        assert_eq!(header(&server.get(&location).await, "range"), held, "{range}");
    }
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
    assert_eq!(server.send(Method::DELETE, &location).await.status(), 204);
    let left = stored(&server).await;
    // Beside the dead blob only that its group has chunks.
    let is_expected = |key: &Bytes| [&b"b/"[..], b"l/", b"c/"].iter().any(|prefix| key.starts_with(prefix));
    assert!(left.iter().all(is_expected), "{left:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_to_read() {
    let server = Server::start().await;
    let content = pattern(5000);
    let digest = Digest::sha256(&content);
    let manifest = server.image("a", b"layer").await;
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    for (target, body) in
        [(format!("POST {path}"), &content[..]), ("PUT /v2/a/manifests/cut".to_owned(), manifest.as_bytes())]
    {
        let length = body.len() + 1;
        let mut request = format!(
            "{target} HTTP/1.1\r\nhost: x\r\ncontent-type: {OCI_MANIFEST}\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        connection.write_all(&request).await.unwrap();
        drop(connection);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
    assert_eq!(server.get("/v2/a/manifests/cut").await.status(), 404);
    assert_eq!(server.blobs.budget().available(), server.blobs.budget().total());
    server.push_blob("a", &content).await;
}

#[tokio::test]
async fn raw_requests_that_no_library_sends() {
    let server = Server::start().await;
    let over = MAX_MANIFEST + 1;
    for (request, status) in [
        ("GET /v2/a/../b/tags/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 400),
        ("GET /v2/../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404),
        ("GET /v2/%zz/tags/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 400),
        ("BREW /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 405),
        (format!("PUT /v2/a/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: {over}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"), 413),
        ("PUT /v2/a/manifests/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n".to_owned(), 400),
        ("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello-and-more".to_owned(), 202),
    ] {
        let answer = server.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
    }
}

#[tokio::test]
async fn the_code_of_a_contradiction_says_what_it_is_about() {
    let server = Server::start().await;
    let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    for (method, path, code) in [
        (Method::GET, "/v2/a/tags/list?n=1&n=2".to_owned(), "PAGINATION_NUMBER_INVALID"),
        (Method::GET, "/v2/_catalog?last=a&last=b".to_owned(), "PAGINATION_NUMBER_INVALID"),
        (Method::POST, format!("/v2/a/blobs/uploads/?digest={one}&digest={other}"), "DIGEST_INVALID"),
        (Method::POST, format!("/v2/a/blobs/uploads/?mount={one}&mount={other}&from=b"), "DIGEST_INVALID"),
        (Method::POST, format!("/v2/a/blobs/uploads/?mount={one}&from=b&from=c"), "NAME_INVALID"),
        (Method::PUT, "/v2/a/manifests/t".to_owned(), "MANIFEST_INVALID"),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), "BLOB_UPLOAD_INVALID"),
    ] {
        let request = server.request(method, &path);
        let request = match path.contains('?') {
            true => request,
            false => request.header("content-type", "a/b").header("content-type", "c/d"),
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{path}");
        let body = response.text().await.unwrap();
        assert!(body.contains(code), "{path}: {body}");
    }
}
