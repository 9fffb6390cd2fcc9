use std::collections::BTreeSet;

use serde_json::{Value, json};
use speedy_core::digest::Digest;

use crate::answer::Answer;
use crate::images::{Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::suite::{Check, check};
use crate::target::{Target, with};

const SBOM: &str = "application/vnd.example.sbom.v1+json";
const SIGNATURE: &str = "application/vnd.example.signature";

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(subjects, "subject", "subject-missing", "subject-index"),
        check!(nobody, "referrers", "referrers-none", "referrers-bad"),
        check!(
            descriptors,
            "referrers",
            "referrers-descriptor",
            "referrers-artifact",
            "referrers-config",
            "referrers-index",
            "referrers-annotations",
        ),
        check!(filtered, "referrers-filter"),
        check!(pages, "referrers-pages", "referrers-filter-pages"),
        check!(any_order, "referrers-order", "referrers-deleted", "referrers-subject-deleted"),
        check!(whose, "referrers-own", "referrers-chain", "referrers-tag"),
    ]
}

fn place(t: &Target, subject: &Digest) -> String {
    format!("/v2/{}/referrers/{subject}", t.repository())
}

/// The descriptors of an answer, which must be an index.
fn listed(answer: Answer) -> Vec<Value> {
    let answer = answer.expect(200).with("content-type", OCI_INDEX);
    let index = answer.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(OCI_INDEX)), "{answer}");
    index["manifests"].as_array().unwrap_or_else(|| panic!("no list of manifests: {answer}")).clone()
}

async fn list(t: &Target, subject: &Digest) -> Vec<Value> {
    listed(t.get(&place(t, subject)).await)
}

fn digests(list: &[Value]) -> BTreeSet<String> {
    list.iter().map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
}

async fn digests_of(t: &Target, subject: &Manifest) -> BTreeSet<String> {
    digests(&list(t, &subject.digest).await)
}

fn set(manifests: &[&Manifest]) -> BTreeSet<String> {
    manifests.iter().map(|manifest| manifest.digest.to_string()).collect()
}

/// Pushes an artifact about a subject.
async fn attach(t: &Target, kind: &str, subject: &Manifest, note: &str) -> Manifest {
    let mut artifact = t.artifact(kind, Some(subject)).await;
    artifact["annotations"] = json!({ "note": note });
    let artifact = t.of(&artifact);
    t.store(&artifact, OCI_MANIFEST, None).await;
    artifact
}

async fn subjects(t: &Target) {
    let subject = t.pushed_image("subject", None).await;
    let missing = t.of(&json!({ "never": "pushed" }));
    for (clause, about) in [("subject", &subject), ("subject-missing", &missing)] {
        t.clause(clause);
        let artifact = t.of(&t.artifact(SBOM, Some(about)).await);
        for reference in [artifact.digest.to_string(), t.under(&artifact, "sbom")] {
            // Also when it is put again.
            let created = t.put(&reference, OCI_MANIFEST, &artifact.text).await.expect(201);
            created.with("oci-subject", about.digest);
        }
    }
    let created = t.put(subject.digest, OCI_MANIFEST, &subject.text).await.expect(201);
    assert!(!created.has("oci-subject"), "{created}");
    t.clause("subject-index");
    let mut index = t.index(&[&subject]);
    index["subject"] = t.descriptor(OCI_MANIFEST, &subject.text);
    let index = t.of(&index);
    let created = t.put(index.digest, OCI_INDEX, &index.text).await.expect(201);
    created.with("oci-subject", subject.digest);
    assert!(digests_of(t, &subject).await.contains(&index.digest.to_string()));
}

async fn nobody(t: &Target) {
    t.clause("referrers-none");
    let unknown = t.digest("never pushed");
    assert_eq!(list(t, &unknown).await, Vec::<Value>::new());
    let image = t.pushed_image("lonely", None).await;
    t.clause("referrers");
    assert_eq!(list(t, &image.digest).await, Vec::<Value>::new());
    t.clause("referrers-bad");
    for bad in ["latest", "sha256:x", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        t.get(&format!("/v2/{}/referrers/{bad}", t.repository())).await.error(400, "DIGEST_INVALID");
    }
}

async fn descriptors(t: &Target) {
    let subject = t.pushed_image("subject", None).await;
    let about = t.descriptor(OCI_MANIFEST, &subject.text);
    let image = t.image("referrer").await;
    let referrer = |kind: Option<&str>, annotations: Value| {
        let mut manifest = image.clone();
        manifest["subject"] = about.clone();
        manifest["annotations"] = annotations;
        if let Some(kind) = kind {
            manifest["artifactType"] = kind.into();
        }
        t.of(&manifest)
    };
    let long = json!({ "long": "a".repeat(100_000), "short": "b" });
    let index = {
        let mut index = t.index(&[]);
        index["subject"] = about.clone();
        index["annotations"] = json!({ "i": "1" });
        t.of(&index)
    };
    let typed_index = {
        let mut index = t.index(&[]);
        index["subject"] = about.clone();
        index["artifactType"] = SIGNATURE.into();
        t.of(&index)
    };
    let cases = [
        (referrer(Some(SBOM), json!({ "n": "1" })), OCI_MANIFEST, json!(SBOM), json!({ "n": "1" })),
        (referrer(Some(SBOM), long.clone()), OCI_MANIFEST, json!(SBOM), long),
        (referrer(None, json!({ "n": "2" })), OCI_MANIFEST, json!(OCI_CONFIG), json!({ "n": "2" })),
        (referrer(Some(""), json!({ "n": "3" })), OCI_MANIFEST, json!(OCI_CONFIG), json!({ "n": "3" })),
        (index, OCI_INDEX, Value::Null, json!({ "i": "1" })),
        (typed_index, OCI_INDEX, json!(SIGNATURE), Value::Null),
    ];
    for (manifest, media_type, ..) in &cases {
        t.store(manifest, media_type, None).await;
    }
    t.clause("referrers");
    let list = list(t, &subject.digest).await;
    assert_eq!(list.len(), cases.len());
    for (manifest, media_type, artifact_type, annotations) in &cases {
        t.clause("referrers-descriptor");
        let digest = manifest.digest.to_string();
        let found = list.iter().find(|descriptor| descriptor["digest"] == digest.as_str());
        let found = found.unwrap_or_else(|| panic!("{digest} is not listed"));
        assert_eq!(found["mediaType"], *media_type);
        assert_eq!(found["size"], manifest.text.len());
        t.clause(match (*media_type, artifact_type.as_str()) {
            (OCI_INDEX, None) => "referrers-index",
            (_, Some(OCI_CONFIG)) => "referrers-config",
            _ => "referrers-artifact",
        });
        assert_eq!(found["artifactType"], *artifact_type, "{found}");
        assert_eq!(found.get("artifactType").is_some(), !artifact_type.is_null(), "{found}");
        t.clause("referrers-annotations");
        assert_eq!(found["annotations"], *annotations);
    }
}

async fn filtered(t: &Target) {
    let subject = t.pushed_image("subject", None).await;
    let sbom = attach(t, SBOM, &subject, "1").await;
    let signatures = [attach(t, SIGNATURE, &subject, "1").await, attach(t, SIGNATURE, &subject, "2").await];
    let everything = place(t, &subject.digest);
    t.clause("referrers-filter");
    for (kind, expected) in [
        (SBOM, set(&[&sbom])),
        (SIGNATURE, set(&[&signatures[0], &signatures[1]])),
        ("application/none", set(&[])),
    ] {
        let encoded = with(&everything, &[("artifactType", kind)]);
        // A plus may come as it is: no media type has the blank that it would stand for.
        for place in [encoded, format!("{everything}?artifactType={kind}")] {
            let answer = t.get(&place).await;
            assert!(answer.headers("oci-filters-applied").contains(&"artifactType"), "{answer}");
            assert_eq!(digests(&listed(answer)), expected, "{place}");
        }
    }
    let all = t.get(&everything).await;
    assert!(!all.has("oci-filters-applied"), "{all}");
    assert_eq!(listed(all).len(), 3);
}

/// Follows the links of a list to its end: the digests of each page.
async fn follow(t: &Target, first: &str, filtered: bool) -> Vec<BTreeSet<String>> {
    let (mut next, mut pages) = (Some(first.to_owned()), Vec::new());
    while let Some(place) = next {
        let answer = t.get(&place).await;
        assert_eq!(answer.has("oci-filters-applied"), filtered, "{answer}");
        assert!(answer.body().len() <= 4 << 20, "clients take no longer index: {answer}");
        next = answer.next().map(str::to_owned);
        pages.push(digests(&listed(answer)));
        assert!(pages.len() < 100, "the links have no end");
    }
    pages
}

async fn pages(t: &Target) {
    let subject = t.pushed_image("subject", None).await;
    let (mut sboms, mut all) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..14 {
        let kind = if number % 2 == 0 { SBOM } else { SIGNATURE };
        let note = format!("{number} {}", "n".repeat(330_000));
        let digest = attach(t, kind, &subject, &note).await.digest.to_string();
        if kind == SBOM {
            sboms.insert(digest.clone());
        }
        all.insert(digest);
    }
    t.clause("referrers-pages");
    let pages = follow(t, &place(t, &subject.digest), false).await;
    assert!(pages.len() > 1, "more than 4 MiB in one page");
    assert_eq!(pages.iter().map(BTreeSet::len).sum::<usize>(), all.len(), "a page repeats another");
    assert_eq!(pages.into_iter().flatten().collect::<BTreeSet<_>>(), all);

    t.clause("referrers-filter-pages");
    let first = with(&place(t, &subject.digest), &[("artifactType", SBOM)]);
    let pages = follow(t, &first, true).await;
    assert_eq!(pages.into_iter().flatten().collect::<BTreeSet<_>>(), sboms);
}

async fn any_order(t: &Target) {
    t.clause("referrers-order");
    let subject = t.of(&t.image("subject").await);
    let before = attach(t, SBOM, &subject, "before").await;
    assert_eq!(digests_of(t, &subject).await, set(&[&before]));
    t.store(&subject, OCI_MANIFEST, Some("v1")).await;
    let after = attach(t, SIGNATURE, &subject, "after").await;
    assert_eq!(digests_of(t, &subject).await, set(&[&before, &after]));
    let never = t.of(&json!({ "never": "pushed" }));
    let orphan = attach(t, SBOM, &never, "never").await;
    assert_eq!(digests_of(t, &never).await, set(&[&orphan]));

    t.clause("referrers-subject-deleted");
    t.delete(&t.manifest(subject.digest)).await.expect(202);
    assert_eq!(digests_of(t, &subject).await, set(&[&before, &after]));
    t.get(&t.manifest(before.digest)).await.expect(200);
    t.store(&subject, OCI_MANIFEST, Some("v1")).await;
    assert_eq!(digests_of(t, &subject).await, set(&[&before, &after]));

    t.clause("referrers-deleted");
    t.delete(&t.manifest(before.digest)).await.expect(202);
    for number in 0..t.registries() {
        let asking = t.ask_of(number, http::Method::GET, &place(t, &subject.digest));
        assert_eq!(digests(&listed(asking.send().await)), set(&[&after]));
    }
    t.store(&before, OCI_MANIFEST, None).await;
    assert_eq!(digests_of(t, &subject).await, set(&[&before, &after]));
    for referrer in [&before, &after] {
        t.delete(&t.manifest(referrer.digest)).await.expect(202);
    }
    assert_eq!(digests_of(t, &subject).await, set(&[]));
}

async fn whose(t: &Target) {
    let subject = t.pushed_image("subject", Some("v1")).await;
    let sbom = attach(t, SBOM, &subject, "sbom").await;
    t.clause("referrers-own");
    let elsewhere = format!("/v2/{}/referrers/{}", t.sibling("other"), subject.digest);
    assert!(listed(t.get(&elsewhere).await).is_empty());
    for algorithm in [speedy_core::digest::Algorithm::Sha256, speedy_core::digest::Algorithm::Sha512] {
        let digest = Digest::of(algorithm, subject.text.as_bytes());
        assert_eq!(list(t, &digest).await.len(), usize::from(algorithm == t.algorithm()));
    }
    t.clause("referrers-chain");
    let signature = attach(t, SIGNATURE, &sbom, "of the sbom").await;
    assert_eq!(digests_of(t, &sbom).await, set(&[&signature]));
    assert_eq!(digests_of(t, &subject).await, set(&[&sbom]));

    t.clause("referrers-tag");
    let tag = format!("{}-{}", subject.digest.algorithm().name(), &subject.digest.hex()[..64]);
    t.get(&t.manifest(&tag)).await.error(404, "MANIFEST_UNKNOWN");
    for tag in [tag.clone(), format!("{tag}.sig")] {
        t.store(&sbom, OCI_MANIFEST, Some(&tag)).await;
        t.comes_back(&sbom, OCI_MANIFEST, &[&tag]).await;
    }
    assert_eq!(digests_of(t, &subject).await, set(&[&sbom]));
}
