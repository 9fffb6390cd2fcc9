use http::Method;

use crate::images::{OCI_INDEX, OCI_MANIFEST};
use crate::suite::{Check, check};
use crate::target::{Target, blob_of};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(tags, "delete-tag", "delete-tag-only", "delete-tag-absent", "delete-at-once"),
        check!(manifests, "delete-manifest", "delete-manifest-absent", "delete-at-once", "delete-then-push"),
        check!(
            blobs,
            "delete-blob",
            "delete-blob-absent",
            "delete-blob-elsewhere",
            "delete-at-once",
            "delete-then-push"
        ),
    ]
}

/// Demands that no registry has it any more, after each has had it.
async fn is_gone(t: &Target, place: &str, code: &str) {
    t.clause("delete-at-once");
    for number in 0..t.registries() {
        t.ask_of(number, Method::GET, place).send().await.error(404, code);
        t.ask_of(number, Method::HEAD, place).send().await.expect(404);
    }
}

async fn is_there(t: &Target, place: &str) {
    for number in 0..t.registries() {
        t.ask_of(number, Method::GET, place).send().await.expect(200);
    }
}

async fn tags(t: &Target) {
    let manifest = t.pushed_image("a", Some("v1")).await;
    t.store(&manifest, OCI_MANIFEST, Some("v2")).await;
    is_there(t, &t.manifest("v1")).await;
    t.clause("delete-tag");
    t.delete(&t.manifest("v1")).await.expect(202);
    is_gone(t, &t.manifest("v1"), "MANIFEST_UNKNOWN").await;
    t.clause("delete-tag-only");
    t.comes_back(&manifest, OCI_MANIFEST, &["v2", &manifest.digest.to_string()]).await;
    let tags = t.get(&format!("/v2/{}/tags/list", t.repository())).await.expect(200).json();
    assert_eq!(tags["tags"], serde_json::json!(["v2"]));
    t.clause("delete-tag-absent");
    for tag in ["v1", "never", ".no-tag"] {
        t.delete(&t.manifest(tag)).await.error(404, "MANIFEST_UNKNOWN");
    }
}

async fn manifests(t: &Target) {
    t.clause("delete-manifest-absent");
    let manifest = t.of(&t.image("a").await);
    t.delete(&t.manifest(manifest.digest)).await.error(404, "MANIFEST_UNKNOWN");
    let other = t.pushed_image("other", Some("other")).await;
    let index = t.of(&t.index(&[&manifest, &other]));
    for (deleted, media_type) in [(&manifest, OCI_MANIFEST), (&index, OCI_INDEX)] {
        for tag in ["v1", "v2", "v3"] {
            t.store(deleted, media_type, Some(tag)).await;
        }
        let place = t.manifest(deleted.digest);
        is_there(t, &place).await;
        is_there(t, &t.manifest("v2")).await;
        t.clause("delete-manifest");
        t.delete(&place).await.expect(202);
        is_gone(t, &place, "MANIFEST_UNKNOWN").await;
        for tag in ["v1", "v2", "v3"] {
            is_gone(t, &t.manifest(tag), "MANIFEST_UNKNOWN").await;
        }
        t.clause("delete-manifest-absent");
        t.delete(&place).await.error(404, "MANIFEST_UNKNOWN");
        t.comes_back(&other, OCI_MANIFEST, &["other"]).await;
        t.clause("delete-then-push");
        t.store(deleted, media_type, Some("v1")).await;
        t.comes_back(deleted, media_type, &["v1"]).await;
        t.get(&t.manifest("v2")).await.error(404, "MANIFEST_UNKNOWN");
    }
    let unknown = format!("/v2/{}/manifests/{}", t.sibling("unknown"), manifest.digest);
    t.delete(&unknown).await.error(404, "MANIFEST_UNKNOWN");
}

async fn blobs(t: &Target) {
    let elsewhere = t.sibling("other");
    let digest = t.push("content").await;
    t.push_to(&elsewhere, "content").await;
    let place = t.blob(&digest);
    is_there(t, &place).await;
    t.clause("delete-blob");
    t.delete(&place).await.expect(202);
    is_gone(t, &place, "BLOB_UNKNOWN").await;
    t.clause("delete-blob-absent");
    t.delete(&place).await.error(404, "BLOB_UNKNOWN");
    t.delete(&t.blob(&t.digest("never pushed"))).await.error(404, "BLOB_UNKNOWN");
    t.delete(&blob_of(&t.sibling("unknown"), &digest)).await.error(404, "BLOB_UNKNOWN");
    t.clause("delete-blob-elsewhere");
    t.get(&blob_of(&elsewhere, &digest)).await.expect(200).bytes("content");
    t.clause("delete-then-push");
    t.push("content").await;
    t.get(&place).await.expect(200).bytes("content");
    t.delete(&place).await.expect(202);
    t.delete(&blob_of(&elsewhere, &digest)).await.expect(202);
    t.push("content").await;
    t.get(&place).await.expect(200).bytes("content");
}
