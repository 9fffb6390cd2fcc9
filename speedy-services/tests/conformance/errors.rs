use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::images::OCI_MANIFEST;
use crate::suite::{Check, check};
use crate::target::{Target, with};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(form, "errors", "error-code"),
        check!(methods, "error-method"),
        check!(paths, "error-path"),
        check!(mirrors, "ns"),
    ]
}

async fn form(t: &Target) {
    let absent = t.digest("absent");
    for (answer, status, code) in [
        (t.get(&t.blob(&absent)).await, 404, "BLOB_UNKNOWN"),
        (t.get(&t.manifest("absent")).await, 404, "MANIFEST_UNKNOWN"),
        (t.get(&format!("{}{}", t.uploads(), "0".repeat(32))).await, 404, "BLOB_UPLOAD_UNKNOWN"),
        (t.get(&format!("/v2/{}/tags/list", t.repository())).await, 404, "NAME_UNKNOWN"),
        (t.get("/v2/NO/tags/list").await, 400, "NAME_INVALID"),
        (t.get(&t.manifest("sha256:x")).await, 400, "DIGEST_INVALID"),
        (t.put(".x", OCI_MANIFEST, "{}").await, 400, "TAG_INVALID"),
        (t.put("x", OCI_MANIFEST, "{}").await, 400, "MANIFEST_INVALID"),
        (t.get("/v2/_catalog?n=x").await, 400, "PAGINATION_NUMBER_INVALID"),
    ] {
        t.clause("errors");
        let body = answer.json();
        assert_eq!(body.as_object().map(|body| body.len()), Some(1), "{answer}");
        for error in answer.error(status, code) {
            assert!(error.get("detail").is_some(), "{answer}");
        }
        t.clause("error-code");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer}");
    }
}

async fn methods(t: &Target) {
    t.clause("error-method");
    let digest = t.digest("x");
    let tags = format!("/v2/{}/tags/list", t.repository());
    let referrers = format!("/v2/{}/referrers/{digest}", t.repository());
    let (blob, manifest, uploads) = (t.blob(&digest), t.manifest("x"), t.uploads());
    let upload = t.begin().await;
    for (method, place, allowed) in [
        (Method::POST, "/v2/", "GET, HEAD"),
        (Method::DELETE, "/v2/_catalog", "GET, HEAD"),
        (Method::PUT, &tags, "GET, HEAD"),
        (Method::OPTIONS, &tags, "GET, HEAD"),
        (Method::DELETE, &referrers, "GET, HEAD"),
        (Method::PUT, &blob, "GET, HEAD, DELETE"),
        (Method::PATCH, &manifest, "GET, HEAD, PUT, DELETE"),
        (Method::POST, &manifest, "GET, HEAD, PUT, DELETE"),
        (Method::GET, &uploads, "POST"),
        (Method::POST, &upload, "GET, HEAD, PATCH, PUT, DELETE"),
    ] {
        let refused = t.ask(method, place).send().await.with("allow", allowed);
        refused.error(405, "UNSUPPORTED");
    }
}

async fn paths(t: &Target) {
    t.clause("error-path");
    for place in ["/v2/x", "/v2/a/b/c", "/v3/", "/v2x", "/v2/a/tags/other"] {
        t.get(place).await.error(404, "UNSUPPORTED");
    }
    // As no HTTP library sends them.
    for (path, status) in
        [("/v2/a/../b/tags/list", 400), ("/v2/../../etc/passwd", 404), ("/v2/%zz/tags/list", 400)]
    {
        let mut connection = TcpStream::connect(t.host()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

async fn mirrors(t: &Target) {
    t.clause("ns");
    let manifest = t.pushed_image("a", Some("v1")).await;
    let digest = t.push("content").await;
    let query = [("ns", "docker.io")];
    t.get(&with(&t.manifest("v1"), &query)).await.expect(200).bytes(&manifest.text);
    t.get(&with(&t.blob(&digest), &query)).await.expect(200).bytes("content");
    let answer = t.head(&with(&t.manifest(manifest.digest), &query)).await.expect(200);
    // That header would say that it was not ignored.
    assert!(!answer.has("oci-namespace"), "{answer}");
}
