//! What the registry reads in a manifest: its type, what it needs, and what it is about. The bytes themselves are
//! never rewritten.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;
use serde::de::IgnoredAny;
use speedy_core::digest::Digest;

use super::object::{Members, Object};

/// An image manifest of Docker, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A manifest list of Docker.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// An image manifest of OCI.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image index of OCI.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The largest manifest in bytes: 4 MiB, what the OCI specification asks for at the least.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The longest artifact type: a media type has 127 characters on either side of its slash.
const MAX_ARTIFACT_TYPE: usize = 255;

const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest that has been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Its type, one of the four that the registry takes.
    pub media_type: &'static str,
    /// What it names, each digest once.
    pub needs: Vec<Need>,
    /// What it is about: it is a referrer of that manifest, which may be missing.
    pub subject: Option<Digest>,
    /// What kind of artifact it is: its own word, or the type of its config.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Something that a manifest names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, by the manifest.
    pub size: u64,
    /// What it is.
    pub content: Content,
    /// Whether it must be in the repository: non-distributable layers need not, nor the manifests that an index names.
    pub required: bool,
}

/// What a manifest may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A config or a layer.
    Blob,
    /// A manifest in an index, which may be sparse: a mirror that keeps some platforms only has the index as it came.
    Manifest,
    /// An entry of an index with a type of its own, such as the layers in a cache index of BuildKit.
    Either,
}

/// Why bytes are not a manifest that the registry takes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidManifest(pub String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Object<Descriptor>>,
    layers: Option<Vec<Object<Descriptor>>>,
    manifests: Option<Vec<Object<Descriptor>>>,
    subject: Option<Object<Descriptor>>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

impl Members for Document {
    const NAMES: &'static [&'static str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "fsLayers",
    ];
}

impl Members for Descriptor {
    const NAMES: &'static [&'static str] = &["mediaType", "digest", "size"];
}

impl Manifest {
    /// Reads a manifest. `content_type` is what the client declared; without it the document's own `mediaType` counts.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let declared = content_type.map(essence);
        if declared
            .is_some_and(|declared| SCHEMA_1.iter().any(|schema| schema.eq_ignore_ascii_case(declared)))
        {
            return Err(schema_1());
        }
        // Members that are not looked at are passed over without a look at their bytes.
        if std::str::from_utf8(bytes).is_err() {
            return Err(invalid("the manifest is no JSON: it is not UTF-8"));
        }
        let Object(document) = serde_json::from_slice::<Object<Document>>(bytes)
            .map_err(|error| invalid(format!("the manifest is no JSON of a manifest: {error}")))?;
        if document.schema_version == Some(1) || document.fs_layers.is_some() {
            return Err(schema_1());
        }
        let media_type = media_type(declared, document.media_type.as_deref())?;
        if document.schema_version != Some(2) {
            return Err(invalid("schemaVersion must be 2"));
        }
        let mut needs = Needs::default();
        let is_index = matches!(media_type, DOCKER_LIST | OCI_INDEX);
        if is_index {
            // A document that reads as both would be one thing to one client and another to the next.
            if document.layers.is_some() || document.config.is_some() {
                return Err(invalid(format!("a {media_type} has no `config` and no `layers`")));
            }
            for Object(child) in document.manifests.iter().flatten() {
                let content = match child.media_type.as_deref() {
                    Some(DOCKER_MANIFEST | DOCKER_LIST | OCI_MANIFEST | OCI_INDEX) => Content::Manifest,
                    _ => Content::Either,
                };
                needs.add(child, content, content == Content::Either)?;
            }
        } else {
            if document.manifests.is_some() {
                return Err(invalid(format!("a {media_type} has no `manifests`")));
            }
            let config = document.config.as_ref().map(|Object(config)| config);
            let config = config.ok_or_else(|| invalid("the manifest has no `config`"))?;
            needs.add(config, Content::Blob, true)?;
            for Object(layer) in document.layers.iter().flatten() {
                needs.add(layer, Content::Blob, !is_foreign(layer.media_type.as_deref()))?;
            }
        }
        let artifact_type = document
            .artifact_type
            .filter(|declared| !declared.is_empty())
            .or_else(|| document.config.and_then(|Object(config)| config.media_type));
        if artifact_type.as_ref().is_some_and(|kind| kind.len() > MAX_ARTIFACT_TYPE) {
            return Err(invalid(format!("an artifact type has at most {MAX_ARTIFACT_TYPE} characters")));
        }
        Ok(Self {
            media_type,
            needs: needs.in_order,
            subject: document.subject.as_ref().map(|Object(subject)| digest_of(subject)).transpose()?,
            artifact_type,
            annotations: document.annotations.unwrap_or_default(),
        })
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The type that both say, or one of them. Case does not count in it (RFC 9110, section 8.3.1).
fn media_type(declared: Option<&str>, inside: Option<&str>) -> Result<&'static str, InvalidManifest> {
    for (name, said) in [("Content-Type", declared), ("mediaType", inside)] {
        if said == Some("") {
            return Err(invalid(format!("the manifest's type is unknown: its {name} is empty")));
        }
    }
    if let (Some(declared), Some(inside)) = (declared, inside)
        && !declared.eq_ignore_ascii_case(inside)
    {
        return Err(invalid(format!(
            "the Content-Type says {declared} and the manifest's mediaType says {inside}; they must agree"
        )));
    }
    let Some(name) = declared.or(inside) else {
        return Err(invalid("the manifest's type is unknown: send it as Content-Type"));
    };
    [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))
        .ok_or_else(|| invalid(format!("manifests of type {name} are not supported")))
}

/// Layers that may not be distributed are fetched from elsewhere and need not be pushed.
fn is_foreign(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|media_type| {
        media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
            || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
    })
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, InvalidManifest> {
    descriptor.digest.parse().map_err(|error| invalid(format!("digest {:?}: {error}", descriptor.digest)))
}

/// What a manifest names, each digest once.
#[derive(Default)]
struct Needs {
    in_order: Vec<Need>,
    at: BTreeMap<Digest, usize>,
}

impl Needs {
    fn add(
        &mut self,
        descriptor: &Descriptor,
        content: Content,
        required: bool,
    ) -> Result<(), InvalidManifest> {
        let need = Need { digest: digest_of(descriptor)?, size: descriptor.size, content, required };
        match self.at.entry(need.digest) {
            Entry::Vacant(entry) => {
                entry.insert(self.in_order.len());
                self.in_order.push(need);
            }
            Entry::Occupied(entry) => {
                let known = &mut self.in_order[*entry.get()];
                if known.size != need.size {
                    return Err(invalid(format!("{} is named with two sizes", need.digest)));
                }
                known.required |= required;
                // Named as a manifest once, it is one.
                if content == Content::Manifest {
                    known.content = content;
                }
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> InvalidManifest {
    InvalidManifest(message.into())
}

fn schema_1() -> InvalidManifest {
    invalid("manifests of schema version 1 are not supported; push it as Docker schema 2 or OCI")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_an_object_is_no_list() {
        let digest = Digest::sha256(b"x");
        let object = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let list = format!(r#"["x","{digest}",1]"#);
        let manifest = |config: &str, layer: &str, subject: &str| {
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"subject":{subject}}}"#)
        };
        let parse = |text: &str| Manifest::parse(Some(OCI_MANIFEST), text.as_bytes());
        assert_eq!(parse(&manifest(&object, &object, &object)).unwrap().needs.len(), 1);
        assert_eq!(parse(&manifest(&object, &object, "null")).unwrap().subject, None);
        let (a_list, listed) = (format!("[2,null,null,{object}]"), &list);
        for text in [
            "[]",
            &a_list,
            &manifest(listed, &object, "null"),
            &manifest(&object, listed, "null"),
            &manifest(&object, &object, listed),
        ] {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.contains("invalid type: sequence, expected an object"), "{text}: {told}");
        }
    }
}
