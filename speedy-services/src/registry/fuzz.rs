use std::collections::BTreeSet;

use speedy_core::digest::Digest;

use super::manifest::{Content, DOCKER_LIST, DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST};
use super::names::{MAX_NAME, MAX_TAG, Reference, RepositoryName, Tag};

/// A document under a type that its first byte chooses: what is accepted is JSON with all that the specification
/// demands, and reads the same with blanks around it.
///
/// # Panics
/// Where that does not hold.
pub fn manifest(data: &[u8]) {
    let Some((&choice, document)) = data.split_first() else { return };
    let declared = match choice % 6 {
        0 => Some(OCI_MANIFEST),
        1 => Some(OCI_INDEX),
        2 => Some(DOCKER_MANIFEST),
        3 => Some(DOCKER_LIST),
        4 => Some("application/vnd.docker.distribution.manifest.v1+json"),
        _ => None,
    };
    let Ok(manifest) = Manifest::parse(declared, document) else { return };
    let text = std::str::from_utf8(document).expect("what is accepted is UTF-8");
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        // In members that nobody looks at, halves of characters are let through, as other registries do.
        assert!(text.contains("\\u"), "what is accepted is JSON");
        return;
    };
    assert_eq!(value["schemaVersion"].as_u64(), Some(2));
    assert!([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&manifest.media_type));
    assert!(declared.is_none_or(|declared| declared == manifest.media_type));
    let is_index = matches!(manifest.media_type, OCI_INDEX | DOCKER_LIST);
    assert_eq!(value.get("config").is_some_and(|config| !config.is_null()), !is_index);
    let digests: BTreeSet<Digest> = manifest.needs.iter().map(|need| need.digest).collect();
    assert_eq!(digests.len(), manifest.needs.len(), "each digest once");
    assert!(manifest.needs.iter().all(|need| is_index || need.content == Content::Blob));
    let text = value.to_string();
    assert!(digests.iter().chain(&manifest.subject).all(|digest| text.contains(&digest.to_string())));
    let padded = [b" \n", document, b"\r\n\t"].concat();
    assert_eq!(Manifest::parse(declared, &padded), Ok(manifest));
}

/// Text as everything that it could be meant as: what is accepted is written as it was read, and holds nothing that means
/// more in a path or in a key.
///
/// # Panics
/// Where that does not hold.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.to_string(), text);
        assert!(!text.is_empty() && text.len() <= MAX_NAME);
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte))
        );
        assert!(!text.contains("//") && !text.contains("..") && !text.contains("./") && !text.contains("/."));
        assert!(!text.starts_with('/') && !text.ends_with('/'));
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.to_string(), text);
        assert!(!text.is_empty() && text.len() <= MAX_TAG);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        assert!(!text.starts_with('.') && !text.starts_with('-'));
    }
    let digest = text.parse::<Digest>();
    if let Ok(digest) = &digest {
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::from_bytes(digest.algorithm(), digest.as_bytes()).as_ref(), Some(digest));
    }
    match text.parse::<Reference>() {
        Ok(Reference::Tag(tag)) => assert!(tag.as_str() == text && digest.is_err()),
        Ok(Reference::Digest(named)) => assert_eq!(Ok(named), digest),
        Err(_) => assert!(digest.is_err() && text.parse::<Tag>().is_err()),
    }
}
