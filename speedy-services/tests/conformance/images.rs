//! Manifests to push.

use serde_json::{Value, json};
use speedy_core::digest::{Algorithm, Digest};

use crate::target::Target;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest as text, and its digest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) text: String,
    pub(crate) digest: Digest,
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

impl Target {
    pub(crate) fn descriptor(&self, media_type: &str, content: impl AsRef<[u8]>) -> Value {
        let content = content.as_ref();
        json!({ "mediaType": media_type, "digest": self.digest(content).to_string(), "size": content.len() })
    }

    /// A manifest of this JSON.
    pub(crate) fn of(&self, document: &Value) -> Manifest {
        let text = document.to_string();
        Manifest { digest: self.digest(&text), text }
    }

    /// Pushes a config and a layer, and answers the manifest of an image of them. Another seed makes another image.
    pub(crate) async fn image(&self, seed: &str) -> Value {
        let (config, layer) = (format!("{{\"author\":\"{seed}\"}}"), format!("layer {seed}"));
        self.push(&config).await;
        self.push(&layer).await;
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(OCI_CONFIG, &config),
            "layers": [self.descriptor(OCI_LAYER, &layer)],
        })
    }

    /// Pushes an image, under a tag where one is given, and answers its manifest.
    pub(crate) async fn pushed_image(&self, seed: &str, tag: Option<&str>) -> Manifest {
        let manifest = self.of(&self.image(seed).await);
        self.store(&manifest, OCI_MANIFEST, tag).await;
        manifest
    }

    /// Puts a manifest by its digest, and points a tag at it.
    pub(crate) async fn store(&self, manifest: &Manifest, media_type: &str, tag: Option<&str>) {
        self.put(manifest.digest, media_type, &manifest.text).await.expect(201);
        if let Some(tag) = tag {
            self.put(self.under(manifest, tag), media_type, &manifest.text).await.expect(201);
        }
    }

    /// The reference to put a manifest by that points a tag at its digest. A tag alone means sha256.
    pub(crate) fn under(&self, manifest: &Manifest, tag: &str) -> String {
        match self.algorithm() {
            Algorithm::Sha256 => tag.to_owned(),
            Algorithm::Sha512 => format!("{}?tag={tag}", manifest.digest),
        }
    }

    /// An index of manifests.
    pub(crate) fn index(&self, manifests: &[&Manifest]) -> Value {
        let entries: Vec<Value> =
            manifests.iter().map(|manifest| self.descriptor(OCI_MANIFEST, &manifest.text)).collect();
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries })
    }

    /// Pushes the empty descriptor's blob, and answers an artifact of this type about a subject.
    pub(crate) async fn artifact(&self, kind: &str, subject: Option<&Manifest>) -> Value {
        self.push("{}").await;
        let empty = self.descriptor(OCI_EMPTY, "{}");
        let mut artifact = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [empty],
        });
        if let Some(subject) = subject {
            artifact["subject"] = self.descriptor(OCI_MANIFEST, &subject.text);
        }
        artifact
    }

    /// Demands that a manifest comes back as it was pushed, by each of these references.
    pub(crate) async fn comes_back(&self, manifest: &Manifest, media_type: &str, references: &[&str]) {
        for reference in references {
            let got = self.get(&self.manifest(reference)).await.expect(200);
            got.bytes(&manifest.text)
                .with("content-type", media_type)
                .with("docker-content-digest", manifest.digest);
        }
    }
}
