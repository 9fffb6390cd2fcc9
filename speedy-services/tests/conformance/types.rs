use serde_json::json;

use crate::images::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::suite::{Check, check};
use crate::target::Target;

const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check!(artifacts, "image-config", "image-artifact", "image-artifact-empty"),
        check!(rich_descriptors, "image-data"),
        check!(foreign_layers, "image-foreign", "image-foreign-late", "docker-foreign"),
        check!(indexes, "index", "index-nested", "index-platform", "index-empty", "index-artifact"),
        check!(sparse_indexes, "index-sparse"),
        check!(caches, "index-cache"),
        check!(docker_formats, "docker-image", "docker-list"),
        check!(schema_1, "docker-schema-1"),
    ]
}

async fn artifacts(t: &Target) {
    t.clause("image-config");
    let mut chart = t.image("chart").await;
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    chart["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip".into();
    let manifest = t.of(&chart);
    t.store(&manifest, OCI_MANIFEST, Some("0.1.0_build.1")).await;
    t.comes_back(&manifest, OCI_MANIFEST, &["0.1.0_build.1"]).await;

    t.clause("image-artifact");
    let mut artifact = t.artifact("application/vnd.example.sbom.v1", None).await;
    t.push("the sbom").await;
    artifact["layers"] = json!([t.descriptor("text/spdx", "the sbom")]);
    let manifest = t.of(&artifact);
    t.store(&manifest, OCI_MANIFEST, Some("sbom")).await;
    t.comes_back(&manifest, OCI_MANIFEST, &["sbom"]).await;
    t.clause("image-artifact-empty");
    let manifest = t.of(&t.artifact("application/vnd.example.marker", None).await);
    t.store(&manifest, OCI_MANIFEST, Some("marker")).await;
    t.comes_back(&manifest, OCI_MANIFEST, &["marker"]).await;
}

async fn rich_descriptors(t: &Target) {
    t.clause("image-data");
    let mut artifact = t.artifact("application/vnd.example", None).await;
    artifact["config"]["data"] = "e30=".into();
    artifact["layers"][0]["urls"] = json!(["https://store.example.com/x"]);
    artifact["layers"][0]["annotations"] = json!({ "org.opencontainers.image.title": "x" });
    artifact["layers"][0]["artifactType"] = "application/vnd.example.part".into();
    let manifest = t.of(&artifact);
    t.store(&manifest, OCI_MANIFEST, None).await;
    t.comes_back(&manifest, OCI_MANIFEST, &[&manifest.digest.to_string()]).await;
}

async fn foreign_layers(t: &Target) {
    for (clause, image_type, layer_type) in [
        ("image-foreign", OCI_MANIFEST, OCI_FOREIGN),
        ("image-foreign", OCI_MANIFEST, "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        ("docker-foreign", DOCKER_MANIFEST, DOCKER_FOREIGN),
    ] {
        t.clause(clause);
        let mut image = t.image(layer_type).await;
        image["mediaType"] = image_type.into();
        let base = format!("base of {layer_type} in {}", t.repository());
        let mut foreign = t.descriptor(layer_type, &base);
        foreign["urls"] = json!(["https://store.example.com/base"]);
        image["layers"].as_array_mut().unwrap().insert(0, foreign);
        let manifest = t.of(&image);
        t.store(&manifest, image_type, Some("foreign")).await;
        t.comes_back(&manifest, image_type, &["foreign"]).await;
        if image_type == OCI_MANIFEST {
            t.clause("image-foreign-late");
            let digest = t.push(&base).await;
            t.store(&manifest, image_type, Some("foreign")).await;
            t.get(&t.blob(&digest)).await.expect(200).bytes(&base);
        }
    }
}

async fn indexes(t: &Target) {
    let (amd64, arm64) = (t.pushed_image("amd64", None).await, t.pushed_image("arm64", None).await);
    t.clause("index");
    let mut document = t.index(&[&amd64, &arm64]);
    document["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    document["manifests"][1]["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    let index = t.of(&document);
    t.store(&index, OCI_INDEX, Some("index")).await;
    t.comes_back(&index, OCI_INDEX, &["index", &index.digest.to_string()]).await;

    t.clause("index-platform");
    let plain = t.of(&t.index(&[&amd64, &arm64]));
    t.store(&plain, OCI_INDEX, None).await;
    t.comes_back(&plain, OCI_INDEX, &[&plain.digest.to_string()]).await;

    t.clause("index-nested");
    let mut document = t.index(&[&index, &plain]);
    for entry in document["manifests"].as_array_mut().unwrap() {
        entry["mediaType"] = OCI_INDEX.into();
    }
    let nested = t.of(&document);
    t.store(&nested, OCI_INDEX, Some("nested")).await;
    t.comes_back(&nested, OCI_INDEX, &["nested"]).await;

    t.clause("index-empty");
    let empty = t.of(&t.index(&[]));
    t.store(&empty, OCI_INDEX, Some("empty")).await;
    t.comes_back(&empty, OCI_INDEX, &["empty"]).await;

    t.clause("index-artifact");
    let mut document = t.index(&[&amd64]);
    document["artifactType"] = "application/vnd.example.bundle".into();
    document["annotations"] = json!({ "a": "b" });
    let artifact = t.of(&document);
    t.store(&artifact, OCI_INDEX, None).await;
    t.comes_back(&artifact, OCI_INDEX, &[&artifact.digest.to_string()]).await;
}

async fn sparse_indexes(t: &Target) {
    t.clause("index-sparse");
    let here = t.pushed_image("here", None).await;
    let missing = t.of(&t.image("missing").await);
    let index = t.of(&t.index(&[&here, &missing]));
    t.store(&index, OCI_INDEX, Some("sparse")).await;
    t.comes_back(&index, OCI_INDEX, &["sparse"]).await;
    t.get(&t.manifest(missing.digest)).await.error(404, "MANIFEST_UNKNOWN");
    // It comes, and goes, and neither is the index's concern.
    t.store(&missing, OCI_MANIFEST, None).await;
    t.comes_back(&missing, OCI_MANIFEST, &[&missing.digest.to_string()]).await;
    t.delete(&t.manifest(missing.digest)).await.expect(202);
    t.store(&index, OCI_INDEX, Some("sparse")).await;
    t.comes_back(&index, OCI_INDEX, &["sparse"]).await;
}

async fn caches(t: &Target) {
    t.clause("index-cache");
    let config = "application/vnd.buildkit.cacheconfig.v0";
    t.push("cached layer").await;
    t.push("{\"layers\":[]}").await;
    let mut document = t.index(&[]);
    document["manifests"] =
        json!([t.descriptor(OCI_LAYER, "cached layer"), t.descriptor(config, "{\"layers\":[]}")]);
    let cache = t.of(&document);
    t.store(&cache, OCI_INDEX, Some("buildcache")).await;
    t.comes_back(&cache, OCI_INDEX, &["buildcache"]).await;

    document["manifests"][0] = t.descriptor(OCI_LAYER, format!("not in {}", t.repository()));
    let broken = t.of(&document);
    t.put(broken.digest, OCI_INDEX, &broken.text).await.error(400, "MANIFEST_BLOB_UNKNOWN");
}

async fn docker_formats(t: &Target) {
    t.clause("docker-image");
    let mut image = t.image("docker").await;
    image["mediaType"] = DOCKER_MANIFEST.into();
    image["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    image["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let manifest = t.of(&image);
    t.store(&manifest, DOCKER_MANIFEST, Some("image")).await;
    t.comes_back(&manifest, DOCKER_MANIFEST, &["image", &manifest.digest.to_string()]).await;

    t.clause("docker-list");
    let mut list = t.index(&[&manifest]);
    list["mediaType"] = DOCKER_LIST.into();
    list["manifests"][0]["mediaType"] = DOCKER_MANIFEST.into();
    list["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let list = t.of(&list);
    t.store(&list, DOCKER_LIST, Some("list")).await;
    t.comes_back(&list, DOCKER_LIST, &["list"]).await;
    // What one tool pushed as a list another may name in an OCI index.
    let mut mixed = t.index(&[&list]);
    mixed["manifests"][0]["mediaType"] = DOCKER_LIST.into();
    t.store(&t.of(&mixed), OCI_INDEX, None).await;
}

async fn schema_1(t: &Target) {
    t.clause("docker-schema-1");
    let document = json!({
        "schemaVersion": 1,
        "name": "x",
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": [{ "blobSum": t.digest("layer").to_string() }],
        "history": [{ "v1Compatibility": "{}" }],
    });
    for media_type in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
        DOCKER_MANIFEST,
    ] {
        let refused = t.put("v1", media_type, &document.to_string()).await;
        let errors = refused.error(400, "MANIFEST_INVALID");
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.contains("schema version 1") && message.contains("schema 2"), "{message}");
    }
    t.get(&t.manifest("v1")).await.error(404, "MANIFEST_UNKNOWN");
}
