//! Names of repositories, tags and digests, in every place where one can stand.

use super::case::{Case, refused};

/// Texts that are no repository name, as they stand in a path.
const NAMES: [&str; 24] = [
    "UPPER",
    "a_",
    "_a",
    "a__",
    "a___b",
    "a..b",
    ".a",
    "a.",
    "-a",
    "a-",
    "a._b",
    "a.-b",
    "a%20b",
    "a%2Bb",
    "a%3Ab",
    "a%40b",
    "a%25b",
    "a%C3%A9",
    "a%E2%80%AEb",
    "a%0Ab",
    "a%0D%0Ab",
    "a%00b",
    "a%7Fb",
    "a%5Cb",
];

/// Texts that are no digest, as they stand in a path.
const DIGESTS: [&str; 20] = [
    "sha256:",
    "sha256:abc",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
    "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha256:%20123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha256::0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha256%000:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha384:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
    ":0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ":",
    "sha256:%C3%A9",
    "sha256:0x0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd%00%00",
    "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
];

/// Texts that are no tag, as they stand in a path.
const TAGS: [&str; 9] = [".x", "-x", "a%20b", "a+b", "a%00", "%C3%A9", "a%0A", "a%7E", "%25"];

pub(crate) fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        // Every name in two places, and all places in turn.
        let places = [
            format!("GET /v2/{name}/tags/list"),
            format!("PUT /v2/{name}/manifests/latest"),
            format!("POST /v2/{name}/blobs/uploads/"),
            format!("GET /v2/library/{name}/tags/list"),
            format!("DELETE /v2/{name}/manifests/latest"),
            format!("HEAD /v2/{name}/manifests/latest").replace("HEAD", "GET"),
        ];
        for step in [0, 3] {
            cases.push(refused(&places[(index + step) % places.len()], 400, "NAME_INVALID"));
        }
    }
    let long = "a".repeat(256);
    let deep = vec!["a"; 129].join("/");
    for target in [
        format!("GET /v2/{long}/tags/list"),
        format!("POST /v2/{long}/blobs/uploads/"),
        format!("PUT /v2/{deep}/manifests/latest"),
        format!("GET /v2/{}/tags/list", "a/".repeat(30_000)),
    ] {
        cases.push(refused(&target, 400, "NAME_INVALID"));
    }
    cases
}

pub(crate) fn digests() -> Vec<Case> {
    let mut cases = Vec::new();
    for digest in DIGESTS {
        cases.push(refused(&format!("GET /v2/a/blobs/{digest}"), 400, "DIGEST_INVALID"));
        let query = digest.replace('+', "%2B");
        cases.push(refused(&format!("POST /v2/a/blobs/uploads/?digest={query}"), 400, "DIGEST_INVALID"));
    }
    for target in [
        "GET /v2/a/blobs/latest",
        "DELETE /v2/a/blobs/latest",
        "GET /v2/a/manifests/sha256:abc",
        "PUT /v2/a/manifests/sha256:abc",
        "DELETE /v2/a/manifests/sha256:abc",
        "GET /v2/a/referrers/sha256:abc",
        "GET /v2/a/referrers/latest",
        "POST /v2/a/blobs/uploads/?mount=sha256:abc&from=b",
        "POST /v2/a/blobs/uploads/?mount=&from=b",
        "POST /v2/a/blobs/uploads/?digest=",
        "PUT {session}",
        "PUT {session}?digest=",
        "PUT {session}?digest=latest",
        "PUT {session}?digest=sha256:abc",
        "PUT {session}?Digest=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "PUT {session}?digest=%zz",
    ] {
        cases.push(refused(target, 400, "DIGEST_INVALID"));
    }
    cases
}

pub(crate) fn tags() -> Vec<Case> {
    let long = "t".repeat(129);
    let mut cases: Vec<Case> =
        TAGS.iter().map(|tag| refused(&format!("PUT /v2/a/manifests/{tag}"), 400, "TAG_INVALID")).collect();
    cases.push(refused(&format!("PUT /v2/a/manifests/{long}"), 400, "TAG_INVALID"));
    cases.push(refused("PUT /v2/a/manifests/", 400, "TAG_INVALID"));
    // What can't be a tag is not there.
    cases.extend(
        TAGS.iter().map(|tag| refused(&format!("GET /v2/a/manifests/{tag}"), 404, "MANIFEST_UNKNOWN")),
    );
    for number in ["-1", "x", "1.5", "%20", "1e3", "0x10", "%2B5"] {
        cases.push(refused(&format!("GET /v2/_catalog?n={number}"), 400, "PAGINATION_NUMBER_INVALID"));
        cases.push(refused(&format!("GET /v2/a/tags/list?n={number}"), 400, "PAGINATION_NUMBER_INVALID"));
    }
    cases
}
