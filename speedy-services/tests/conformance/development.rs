use http::Method;
use speedy_core::digest::{Algorithm, Digest};

use crate::images::{OCI_MANIFEST, pattern};
use crate::suite::{Check, check};
use crate::target::{Target, with};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(tags_at_once, "tags-at-once", "tags-told", "tags-algorithm"),
        check!(tags_refused, "tags-too-many", "tags-bad"),
        check!(algorithm_said, "algorithm", "algorithm-free"),
        check!(algorithm_unknown, "algorithm-unknown"),
    ]
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("v{number}")).collect()
}

async fn tags_at_once(t: &Target) {
    let manifest = t.of(&t.image("a").await);
    let tags = numbered(10);
    let query: Vec<(&str, &str)> = tags.iter().map(|tag| ("tag", tag.as_str())).collect();
    t.clause("tags-at-once");
    let created =
        t.put(with(&manifest.digest.to_string(), &query), OCI_MANIFEST, &manifest.text).await.expect(201);
    let references: Vec<&str> = tags.iter().map(String::as_str).collect();
    t.comes_back(&manifest, OCI_MANIFEST, &references).await;
    t.clause("tags-told");
    let mut told = created.headers("oci-tag");
    told.sort_unstable();
    assert_eq!(told, tags, "{created}");
    // One that is there already, and one twice, are set too.
    let created =
        t.put(format!("{}?tag=v1&tag=new&tag=new", manifest.digest), OCI_MANIFEST, &manifest.text).await;
    let created = created.expect(201);
    assert!(["v1", "new"].iter().all(|tag| created.headers("oci-tag").contains(tag)), "{created}");

    t.clause("tags-algorithm");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, manifest.text.as_bytes());
        let reference = format!("{digest}?tag={}", algorithm.name());
        t.put(reference, OCI_MANIFEST, &manifest.text).await.expect(201);
        let got = t.get(&t.manifest(algorithm.name())).await.expect(200).bytes(&manifest.text);
        got.with("docker-content-digest", digest);
    }
}

async fn tags_refused(t: &Target) {
    let manifest = t.of(&t.image("a").await);
    let tags = numbered(1000);
    let query: Vec<(&str, &str)> = tags.iter().map(|tag| ("tag", tag.as_str())).collect();
    let many = with(&manifest.digest.to_string(), &query);
    let bad = format!("{}?tag=v1&tag=.bad", manifest.digest);
    for (clause, reference, status) in [("tags-too-many", many, 414), ("tags-bad", bad, 400)] {
        t.clause(clause);
        t.put(reference, OCI_MANIFEST, &manifest.text).await.error(status, "TAG_INVALID");
        t.get(&t.manifest("v1")).await.error(404, "MANIFEST_UNKNOWN");
        t.get(&t.manifest(manifest.digest)).await.error(404, "MANIFEST_UNKNOWN");
    }
}

async fn algorithm_said(t: &Target) {
    let content = pattern(6500);
    for said in [Algorithm::Sha256, Algorithm::Sha512] {
        t.clause(if said == t.algorithm() { "algorithm" } else { "algorithm-free" });
        let place = with(&t.uploads(), &[("digest-algorithm", said.name())]);
        let begun = t.ask(Method::POST, &place).send().await.expect(202);
        let mut location = begun.header("location").to_owned();
        for bytes in [&content[..3000], &content[3000..]] {
            let taken = t.ask(Method::PATCH, &location).body(bytes.to_vec()).send().await.expect(202);
            location = taken.header("location").to_owned();
        }
        let digest = t.digest(&content);
        let put = with(&location, &[("digest", &digest.to_string())]);
        let created = t.ask(Method::PUT, &put).send().await.expect(201);
        t.get(created.header("location")).await.expect(200).bytes(&content);
    }
    // What was said does not loosen what is checked.
    let place = with(&t.uploads(), &[("digest-algorithm", t.algorithm().name())]);
    let begun = t.ask(Method::POST, &place).send().await.expect(202);
    let wrong = with(begun.header("location"), &[("digest", &t.digest("other").to_string())]);
    t.ask(Method::PUT, &wrong).body("bytes").send().await.error(400, "DIGEST_INVALID");
}

async fn algorithm_unknown(t: &Target) {
    t.clause("algorithm-unknown");
    for name in ["md5", "sha384", "SHA256", "", "sha256:"] {
        let place = with(&t.uploads(), &[("digest-algorithm", name)]);
        t.ask(Method::POST, &place).send().await.error(400, "DIGEST_INVALID");
    }
}
