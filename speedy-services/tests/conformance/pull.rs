use http::Method;
use serde_json::json;

use crate::images::OCI_MANIFEST;
use crate::suite::{Check, check};
use crate::target::{Target, blob_of};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(support, "base", "base-docker", "warnings"),
        check!(
            manifests_come_as_they_were_pushed,
            "manifest-by-digest",
            "manifest-by-tag",
            "manifest-type",
            "manifest-digest",
            "manifest-accept",
            "head-manifest",
            "head-digest",
            "algorithms",
        ),
        check!(
            blobs_come_as_they_were_pushed,
            "blob",
            "blob-digest",
            "blob-alone",
            "head-blob",
            "head-digest"
        ),
        check!(what_is_absent, "manifest-absent", "blob-absent", "blob-elsewhere", "head-absent"),
        check!(names, "name", "name-length", "name-bad"),
        check!(references, "tag", "tag-bad"),
        check!(bad_digests, "digest-bad"),
        check!(what_the_client_has, "etag"),
    ]
}

async fn support(t: &Target) {
    t.clause("base");
    let answer = t.get("/v2/").await.expect(200);
    t.clause("base-docker");
    let answer = answer.with("docker-distribution-api-version", "registry/2.0");
    t.get(&t.manifest("none")).await.expect(404).with("docker-distribution-api-version", "registry/2.0");
    t.clause("warnings");
    answer.warnings();
    t.get(&t.manifest("none")).await.warnings();
    t.pushed_image("a", None).await;
    t.get(&format!("/v2/{}/tags/list", t.repository())).await.warnings();
}

async fn manifests_come_as_they_were_pushed(t: &Target) {
    let manifest = t.pushed_image("a", Some("v1")).await;
    t.clause("algorithms");
    assert_eq!(manifest.digest.algorithm(), t.algorithm());
    let by_digest = t.manifest(manifest.digest);
    t.clause("manifest-by-digest");
    let one = t.get(&by_digest).await.expect(200).bytes(&manifest.text);
    t.clause("manifest-by-tag");
    let other = t.get(&t.manifest("v1")).await.expect(200).bytes(&manifest.text);
    t.clause("manifest-type");
    let (one, other) = (one.with("content-type", OCI_MANIFEST), other.with("content-type", OCI_MANIFEST));
    t.clause("manifest-digest");
    one.with("docker-content-digest", manifest.digest);
    other.with("docker-content-digest", manifest.digest);

    t.clause("manifest-accept");
    for accept in ["text/plain", "application/vnd.docker.distribution.manifest.v1+json", "*/*", OCI_MANIFEST]
    {
        for place in [&by_digest, &t.manifest("v1")] {
            let got = t.ask(Method::GET, place).header("accept", accept).send().await.expect(200);
            got.bytes(&manifest.text).with("content-type", OCI_MANIFEST);
        }
    }
    for place in [by_digest, t.manifest("v1")] {
        t.clause("head-manifest");
        let head = t.head(&place).await.expect(200);
        let head = head.with("content-length", manifest.text.len()).with("content-type", OCI_MANIFEST);
        assert!(head.body().is_empty(), "{head}");
        t.clause("head-digest");
        head.with("docker-content-digest", manifest.digest);
    }
}

async fn blobs_come_as_they_were_pushed(t: &Target) {
    let content = crate::images::pattern(10_000);
    let digest = t.push(&content).await;
    t.clause("blob-alone");
    t.get(&format!("/v2/{}/tags/list", t.repository())).await.expect(404);
    t.clause("blob");
    let got = t.get(&t.blob(&digest)).await.expect(200).bytes(&content);
    t.clause("blob-digest");
    got.with("docker-content-digest", digest);
    t.clause("head-blob");
    let head = t.head(&t.blob(&digest)).await.expect(200).with("content-length", content.len());
    assert!(head.body().is_empty(), "{head}");
    t.clause("head-digest");
    head.with("docker-content-digest", digest);
}

async fn what_is_absent(t: &Target) {
    let absent = t.digest("never pushed");
    let elsewhere = t.push_to(&t.sibling("other"), t.repository()).await;
    // Neither in a repository that is not there nor in one that is.
    for _ in 0..2 {
        t.clause("manifest-absent");
        t.get(&t.manifest("latest")).await.error(404, "MANIFEST_UNKNOWN");
        t.get(&t.manifest(absent)).await.error(404, "MANIFEST_UNKNOWN");
        t.clause("blob-absent");
        t.get(&t.blob(&absent)).await.error(404, "BLOB_UNKNOWN");
        t.clause("blob-elsewhere");
        t.get(&t.blob(&elsewhere)).await.error(404, "BLOB_UNKNOWN");
        t.clause("head-absent");
        for place in [t.manifest("latest"), t.manifest(absent), t.blob(&absent), t.blob(&elsewhere)] {
            let head = t.head(&place).await.expect(404);
            assert!(head.body().is_empty(), "{head}");
        }
        t.pushed_image("a", Some("v1")).await;
    }
}

async fn names(t: &Target) {
    t.clause("name");
    for name in ["a", "a/b/c", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1", "blobs/uploads", "manifests"] {
        let name = t.sibling(name);
        let digest = t.push_to(&name, &name).await;
        t.get(&blob_of(&name, &digest)).await.expect(200).bytes(&name);
    }
    t.clause("name-length");
    let longest = t.sibling(&"n".repeat(255 - t.repository().len() - 1));
    let digest = t.push_to(&longest, "long").await;
    t.get(&blob_of(&longest, &digest)).await.expect(200);
    t.clause("name-bad");
    let long = longest + "n";
    for name in ["A", "a/B", "a..b", "-a", "a-", ".a", "a_", "a___b", "a._b", "a//b", "a%20b", "a%00", "%FF"]
        .map(|name| t.sibling(name))
        .iter()
        .chain([&long])
    {
        t.get(&format!("/v2/{name}/tags/list")).await.error(400, "NAME_INVALID");
        t.get(&blob_of(name, &digest)).await.error(400, "NAME_INVALID");
        t.ask(Method::POST, &format!("/v2/{name}/blobs/uploads/")).send().await.error(400, "NAME_INVALID");
    }
}

async fn references(t: &Target) {
    let manifest = t.of(&t.image("a").await);
    let longest = "t".repeat(128);
    t.clause("tag");
    for tag in ["latest", "_", "V1.0-rc_1", "0", "sha256-abc.sig", &longest] {
        t.store(&manifest, OCI_MANIFEST, Some(tag)).await;
        t.comes_back(&manifest, OCI_MANIFEST, &[tag]).await;
    }
    t.clause("tag-bad");
    for tag in [".x", "-x", "a+b", "a%20b", "a@b", &(longest + "t")] {
        t.put(tag, OCI_MANIFEST, &manifest.text).await.error(400, "TAG_INVALID");
        t.get(&t.manifest(tag)).await.error(404, "MANIFEST_UNKNOWN");
    }
}

async fn bad_digests(t: &Target) {
    t.clause("digest-bad");
    let good = t.digest("x");
    let (algorithm, hex) = (good.algorithm().name(), good.hex());
    let manifest = json!({}).to_string();
    for bad in [
        format!("{algorithm}:baddigeststring"),
        format!("{algorithm}:"),
        format!("{algorithm}:{}", &hex[1..]),
        format!("{algorithm}:{hex}0"),
        format!("{algorithm}:{}", hex.to_uppercase()),
        format!("{algorithm}:{}", "g".repeat(hex.len())),
        format!("{}:{hex}", algorithm.to_uppercase()),
        "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        "sha384:00".to_owned(),
        ":".to_owned(),
    ] {
        for place in [t.manifest(&bad), format!("/v2/{}/blobs/{bad}", t.repository())] {
            t.get(&place).await.error(400, "DIGEST_INVALID");
            t.head(&place).await.expect(400);
            t.delete(&place).await.error(400, "DIGEST_INVALID");
        }
        t.put(&bad, OCI_MANIFEST, &manifest).await.error(400, "DIGEST_INVALID");
        for parameter in ["digest", "mount"] {
            let place = crate::target::with(&t.uploads(), &[(parameter, &bad)]);
            t.ask(Method::POST, &place).send().await.error(400, "DIGEST_INVALID");
        }
    }
    // Nor is a word without a colon a digest, where only a digest can be meant.
    t.get(&format!("/v2/{}/blobs/latest", t.repository())).await.error(400, "DIGEST_INVALID");
}

async fn what_the_client_has(t: &Target) {
    t.clause("etag");
    let manifest = t.pushed_image("a", Some("v1")).await;
    let digest = t.push("content").await;
    for place in [t.blob(&digest), t.manifest(manifest.digest), t.manifest("v1")] {
        let etag = t.get(&place).await.expect(200).header("etag").to_owned();
        assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            for method in [Method::GET, Method::HEAD] {
                let same = t.ask(method, &place).header("if-none-match", &known).send().await.expect(304);
                assert!(same.body().is_empty() && same.header("etag") == etag, "{same}");
            }
        }
        t.ask(Method::GET, &place).header("if-none-match", "\"x\"").send().await.expect(200);
    }
}
