use serde_json::{Value, json};

use crate::images::{DOCKER_MANIFEST, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::suite::{Check, check};
use crate::target::Target;

/// The least that every registry should take.
const LARGEST: usize = 4 << 20;

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(by_tag_and_by_digest, "push-manifest", "push-digest", "push-again"),
        check!(byte_for_byte, "push-exact"),
        check!(content_types, "push-parameters", "push-mediatype", "push-untyped"),
        check!(missing_blobs, "push-missing", "push-size"),
        check!(no_layers, "push-empty"),
        check!(large_ones, "push-large", "push-too-large"),
        check!(another_digest, "push-mismatch"),
        check!(no_manifests, "push-malformed"),
        check!(a_tag_that_moves, "tag-moves"),
    ]
}

async fn by_tag_and_by_digest(t: &Target) {
    let manifest = t.of(&t.image("a").await);
    for reference in [manifest.digest.to_string(), t.under(&manifest, "v1")] {
        t.clause("push-manifest");
        let created = t.put(&reference, OCI_MANIFEST, &manifest.text).await.expect(201);
        t.get(created.header("location")).await.expect(200).bytes(&manifest.text);
        t.clause("push-digest");
        created.with("docker-content-digest", manifest.digest);
        t.clause("push-again");
        t.put(&reference, OCI_MANIFEST, &manifest.text).await.expect(201);
    }
    t.comes_back(&manifest, OCI_MANIFEST, &[&manifest.digest.to_string(), "v1"]).await;
}

async fn byte_for_byte(t: &Target) {
    t.clause("push-exact");
    let image = t.image("a").await.to_string();
    let strange = json!({ "x-unknown": [1, { "y": null }], "\u{e9}": "\u{1f433}" }).to_string();
    for text in [
        image.replacen('{', "{ \"x-unknown\" : [1.0e2, {}],\r\n\t", 1) + "\n\n",
        image.replacen('{', &(strange[..strange.len() - 1].to_owned() + ","), 1),
        image.replacen("\"size\"", "\"unknown\":{\"size\":\"\\u0041\"},\"size\"", 1),
    ] {
        let manifest = Manifest { digest: t.digest(&text), text };
        t.store(&manifest, OCI_MANIFEST, Some("v1")).await;
        t.comes_back(&manifest, OCI_MANIFEST, &[&manifest.digest.to_string(), "v1"]).await;
    }
}

async fn content_types(t: &Target) {
    let image = t.image("a").await;
    let manifest = t.of(&image);
    t.clause("push-parameters");
    t.put(manifest.digest, &format!("{OCI_MANIFEST}; charset=utf-8"), &manifest.text).await.expect(201);
    t.comes_back(&manifest, OCI_MANIFEST, &[&manifest.digest.to_string()]).await;

    t.clause("push-mediatype");
    for other in [DOCKER_MANIFEST, OCI_INDEX, "application/json"] {
        t.put(manifest.digest, other, &manifest.text).await.error(400, "MANIFEST_INVALID");
    }

    t.clause("push-untyped");
    let mut untyped = image;
    untyped.as_object_mut().unwrap().remove("mediaType");
    let manifest = t.of(&untyped);
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST, OCI_MANIFEST] {
        t.put(manifest.digest, media_type, &manifest.text).await.expect(201);
        t.comes_back(&manifest, media_type, &[&manifest.digest.to_string()]).await;
    }
}

async fn missing_blobs(t: &Target) {
    t.clause("push-missing");
    let image = t.image("a").await;
    let mut incomplete = image.clone();
    let missing = ["one", "two"].map(|word| format!("{word} that {} lacks", t.repository()));
    for layer in &missing {
        incomplete["layers"].as_array_mut().unwrap().push(t.descriptor(OCI_LAYER, layer));
    }
    // There, but in another repository.
    t.push_to(&t.sibling("other"), &missing[0]).await;
    let manifest = t.of(&incomplete);
    let refused = t.put(manifest.digest, OCI_MANIFEST, &manifest.text).await;
    let errors = refused.error(400, "MANIFEST_BLOB_UNKNOWN");
    for (error, layer) in errors.iter().zip(&missing) {
        assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(error["detail"]["digest"], t.digest(layer).to_string());
    }
    assert_eq!(errors.len(), missing.len());
    t.get(&t.manifest(manifest.digest)).await.error(404, "MANIFEST_UNKNOWN");

    t.clause("push-size");
    let mut wrong = image;
    wrong["layers"][0]["size"] = 1.into();
    let manifest = t.of(&wrong);
    t.put(manifest.digest, OCI_MANIFEST, &manifest.text).await.error(400, "MANIFEST_INVALID");
}

async fn no_layers(t: &Target) {
    t.clause("push-empty");
    t.push("{}").await;
    let empty = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": t.descriptor(OCI_CONFIG, "{}"),
        "layers": [],
    });
    let manifest = t.of(&empty);
    t.store(&manifest, OCI_MANIFEST, Some("v1")).await;
    t.comes_back(&manifest, OCI_MANIFEST, &["v1"]).await;
}

async fn large_ones(t: &Target) {
    let mut image = t.image("a").await;
    let grown = |image: &mut Value, length: usize| {
        image["annotations"] = json!({ "padding": "" });
        let rest = length - image.to_string().len();
        image["annotations"]["padding"] = "p".repeat(rest).into();
    };
    t.clause("push-large");
    for length in [65_536, 65_537, LARGEST] {
        grown(&mut image, length);
        let manifest = t.of(&image);
        assert_eq!(manifest.text.len(), length);
        t.store(&manifest, OCI_MANIFEST, Some("large")).await;
        t.comes_back(&manifest, OCI_MANIFEST, &[&manifest.digest.to_string(), "large"]).await;
    }
    t.clause("push-too-large");
    grown(&mut image, LARGEST + 1);
    let manifest = t.of(&image);
    t.put(manifest.digest, OCI_MANIFEST, &manifest.text).await.error(413, "SIZE_INVALID");
    t.get(&t.manifest(manifest.digest)).await.error(404, "MANIFEST_UNKNOWN");
}

async fn another_digest(t: &Target) {
    t.clause("push-mismatch");
    let manifest = t.of(&t.image("a").await);
    let longer = format!("{}  ", manifest.text);
    t.put(manifest.digest, OCI_MANIFEST, &longer).await.error(400, "DIGEST_INVALID");
    for digest in [manifest.digest, t.digest(&longer)] {
        t.get(&t.manifest(digest)).await.error(404, "MANIFEST_UNKNOWN");
    }
}

async fn no_manifests(t: &Target) {
    t.clause("push-malformed");
    let image = t.image("a").await;
    let text = image.to_string();
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut manifest = image.clone();
        edit(&mut manifest);
        manifest.to_string()
    };
    for (media_type, bad) in [
        (OCI_MANIFEST, String::new()),
        (OCI_MANIFEST, "no json".into()),
        (OCI_MANIFEST, "null".into()),
        (OCI_MANIFEST, "[]".into()),
        (OCI_MANIFEST, "{}".into()),
        (OCI_MANIFEST, text[..text.len() - 1].into()),
        (OCI_MANIFEST, text.clone() + "}"),
        (OCI_MANIFEST, edited(&|m| m["schemaVersion"] = 3.into())),
        (OCI_MANIFEST, edited(&|m| m["config"] = Value::Null)),
        (OCI_MANIFEST, edited(&|m| m["config"] = "sha256".into())),
        (OCI_MANIFEST, edited(&|m| m["layers"][0]["digest"] = "sha256:x".into())),
        (OCI_MANIFEST, edited(&|m| m["layers"][0]["size"] = (-1).into())),
        (OCI_MANIFEST, edited(&|m| m["layers"] = "none".into())),
        (OCI_MANIFEST, edited(&|m| m["subject"] = json!({ "digest": "x", "size": 1 }))),
        (OCI_MANIFEST, edited(&|m| m["annotations"] = json!({ "a": 1 }))),
        // What is an image to one reader and an index to another is neither.
        (OCI_MANIFEST, edited(&|m| m["manifests"] = json!([]))),
        (OCI_INDEX, json!({ "schemaVersion": 2, "manifests": {} }).to_string()),
        (OCI_INDEX, json!({ "schemaVersion": 2, "manifests": [], "layers": [] }).to_string()),
        ("text/plain", json!({ "schemaVersion": 2 }).to_string()),
    ] {
        t.put("bad", media_type, &bad).await.error(400, "MANIFEST_INVALID");
        t.get(&t.manifest("bad")).await.error(404, "MANIFEST_UNKNOWN");
    }
}

async fn a_tag_that_moves(t: &Target) {
    t.clause("tag-moves");
    let one = t.pushed_image("one", None).await;
    let two = t.pushed_image("two", None).await;
    let index = t.of(&t.index(&[&one, &two]));
    let docker = t.of(&{
        let mut image = t.image("three").await;
        image["mediaType"] = DOCKER_MANIFEST.into();
        image
    });
    for (manifest, media_type) in [
        (&one, OCI_MANIFEST),
        (&two, OCI_MANIFEST),
        (&index, OCI_INDEX),
        (&docker, DOCKER_MANIFEST),
        (&one, OCI_MANIFEST),
    ] {
        t.store(manifest, media_type, Some("moving")).await;
        t.comes_back(manifest, media_type, &["moving"]).await;
    }
    // What it pointed to is still there.
    t.comes_back(&two, OCI_MANIFEST, &[&two.digest.to_string()]).await;
}
