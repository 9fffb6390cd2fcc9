//! Paths that lead nowhere, or that are meant to lead elsewhere.

use super::case::{Case, Expected, HOST, STRAY, refused};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in [
        "GET /",
        "GET /v3/",
        "GET /v2x/",
        "GET //v2/",
        "GET /V2/",
        "GET /v2/a",
        "GET /v2/a/",
        "GET /v2/a/b/c",
        "GET /v2/a/tags",
        "GET /v2/a/tags/other",
        "GET /v2/../../etc/passwd",
        "GET /v2/..%2f..%2fetc%2fpasswd",
        "GET /../v2/",
        "GET /%2e%2e/etc/passwd",
        "GET /.git/config",
        "GET /metrics",
        "GET /readyz",
        "GET /meta/backup",
        "GET /registry/read-only",
        "POST /registry/read-only?on=true",
        "GET *",
    ] {
        // The star is no path, so there is nothing to route.
        let status = if target.ends_with('*') { 400 } else { 404 };
        let case = refused(target, status, "UNSUPPORTED");
        cases.push(if status == 404 {
            case
        } else {
            Case { expected: Expected::OneOf(&[400, 404]), ..case }
        });
    }
    for target in [
        "GET /v2//tags/list",
        "GET /v2///tags/list",
        "GET /v2/a//b/tags/list",
        "GET /v2/a/./b/tags/list",
        "GET /v2/a/../b/tags/list",
        "GET /v2/./a/tags/list",
        "GET /v2/../a/tags/list",
        "GET /v2/%2e%2e/a/tags/list",
        "GET /v2/a%2f%2fb/tags/list",
        "GET /v2/a%2F..%2Fb/tags/list",
        "GET /v2/%2Fetc%2Fpasswd/tags/list",
        "GET /v2/a%252fb/tags/list",
        "GET /v2/%zz/tags/list",
        "GET /v2/%/tags/list",
        "GET /v2/a%2/tags/list",
        "GET /v2/a%ff/tags/list",
        "GET /v2/a%c0%afb/tags/list",
        "GET /v2/a%ed%a0%80/tags/list",
        "GET /v2/a%f4%90%80%80/tags/list",
        "GET /v2/a;b/tags/list",
        "GET /v2/a&b/tags/list",
        "GET /v2/$(id)/tags/list",
        "GET /v2/a'b/tags/list",
        "GET /v2/R%2fr%2fa/tags/list",
        "GET /v2//blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "GET /v2//manifests/latest",
        "POST /v2//blobs/uploads/",
    ] {
        cases.push(refused(target, 400, "NAME_INVALID"));
    }
    for target in [
        "GET /v2/a/blobs/uploads/x",
        "PATCH /v2/a/blobs/uploads/..",
        "GET /v2/a/blobs/uploads/%2e%2e",
        "DELETE /v2/a/blobs/uploads/0",
        "GET /v2/a/blobs/uploads/00112233445566778899aabbccddeeff",
        "PATCH /v2/a/blobs/uploads/00112233445566778899aabbccddeeff",
        "DELETE /v2/a/blobs/uploads/00112233445566778899aabbccddeeff",
        "GET /v2/a/blobs/uploads/00112233445566778899aabbccddeeff0",
        "GET /v2/a/blobs/uploads/00112233445566778899aabbccddee%00f",
    ] {
        cases.push(refused(target, 404, "BLOB_UPLOAD_UNKNOWN"));
    }
    // A session of another repository is none of this one.
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        cases.push(refused(&format!("{method} {STRAY}?digest={digest}"), 404, "BLOB_UPLOAD_UNKNOWN"));
    }
    for target in [
        "POST /v2/",
        "PUT /v2/_catalog",
        "DELETE /v2/_catalog",
        "POST /v2/a/tags/list",
        "GET /v2/a/blobs/uploads/",
        "PATCH /v2/a/manifests/latest",
        "POST /v2/a/manifests/latest",
        "OPTIONS /v2/a/tags/list",
        "TRACE /v2/",
        "BREW /v2/",
        "get /v2/",
        "PROPFIND /v2/_catalog",
    ] {
        cases.push(refused(target, 405, "UNSUPPORTED"));
    }
    let long = "x".repeat(70_000);
    cases.push(Case::new(
        "a target of 70,000 bytes",
        format!("GET /v2/{long} HTTP/1.1\r\n{HOST}\r\n"),
        Expected::Status(431),
    ));
    // More than there can be is all that there are.
    cases.push(Case::new(
        "a page of a number of 30,000 digits",
        format!("GET /v2/_catalog?n={} HTTP/1.1\r\n{HOST}\r\n", "9".repeat(30_000)),
        Expected::Status(200),
    ));
    cases
}
