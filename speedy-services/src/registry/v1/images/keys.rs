//! The keys of the v1 interface. All begin with `V/` and a letter; `docs/registry.md` lists them with their values.
//!
//! As among the keys of the repositories, a name ends with a NUL. An image is written as the 32 bytes of its id.

use bytes::{BufMut, Bytes, BytesMut};
use speedy_core::id::BlobId;
use speedy_core::meta::KeyRange;

use super::super::names::ImageId;
use crate::registry::names::{RepositoryName, Tag};
use crate::registry::repositories::keys::IMAGES;

/// What of a paging position is compared: more than any name has.
const LONGEST_POSITION: usize = 300;

fn key(prefix: &[u8; 4], parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(4 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.put_slice(prefix);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

fn in_repository(prefix: &[u8; 4], name: &RepositoryName, rest: &[u8]) -> Bytes {
    key(prefix, &[name.as_str().as_bytes(), b"\0", rest])
}

/// `V/i/` image: its record.
pub(super) fn image(id: &ImageId) -> Bytes {
    key(b"V/i/", &[id.as_bytes()])
}

/// All images.
pub(in crate::registry) fn all() -> KeyRange {
    KeyRange::prefix(key(b"V/i/", &[]))
}

/// `V/g/` image: since when the collector has found that no tag reaches it.
pub(super) fn mark(id: &ImageId) -> Bytes {
    key(b"V/g/", &[id.as_bytes()])
}

/// `V/a/` image: its ancestry, itself first.
pub(super) fn ancestry(id: &ImageId) -> Bytes {
    key(b"V/a/", &[id.as_bytes()])
}

/// `V/k/` parent child: an image is built on another.
pub(super) fn child(parent: &ImageId, child: &ImageId) -> Bytes {
    key(b"V/k/", &[parent.as_bytes(), child.as_bytes()])
}

/// The images that are built on this one.
pub(super) fn children(parent: &ImageId) -> KeyRange {
    KeyRange::prefix(key(b"V/k/", &[parent.as_bytes()]))
}

/// `V/r/` name: a repository.
pub(super) fn repository(name: &RepositoryName) -> Bytes {
    key(b"V/r/", &[name.as_str().as_bytes()])
}

/// All repositories in order of their names, or those after `last`.
pub(in crate::registry) fn repositories(last: Option<&str>) -> KeyRange {
    let all = KeyRange::prefix(key(b"V/r/", &[]));
    let Some(last) = last else { return all };
    all.after(&key(b"V/r/", &[&last.as_bytes()[..last.len().min(LONGEST_POSITION)]]))
}

/// `V/n/` name NUL image: a repository lists an image.
pub(super) fn listed(name: &RepositoryName, id: &ImageId) -> Bytes {
    in_repository(b"V/n/", name, id.as_bytes())
}

/// The images that a repository lists.
pub(super) fn list(name: &RepositoryName) -> KeyRange {
    KeyRange::prefix(in_repository(b"V/n/", name, b""))
}

/// `V/o/` image name: the same, seen from the image.
pub(super) fn lister(id: &ImageId, name: &RepositoryName) -> Bytes {
    key(b"V/o/", &[id.as_bytes(), name.as_str().as_bytes()])
}

/// The repositories that list an image.
pub(super) fn listers(id: &ImageId) -> KeyRange {
    KeyRange::prefix(key(b"V/o/", &[id.as_bytes()]))
}

/// `V/t/` name NUL tag: what a tag points to.
pub(super) fn tag(name: &RepositoryName, tag: &Tag) -> Bytes {
    in_repository(b"V/t/", name, tag.as_str().as_bytes())
}

/// The tags of a repository.
pub(super) fn tags(name: &RepositoryName) -> KeyRange {
    KeyRange::prefix(in_repository(b"V/t/", name, b""))
}

/// `V/x/` image name NUL tag: the same, seen from the image.
pub(super) fn tag_of(id: &ImageId, name: &RepositoryName, tag: &Tag) -> Bytes {
    key(b"V/x/", &[id.as_bytes(), name.as_str().as_bytes(), b"\0", tag.as_str().as_bytes()])
}

/// The tags that point to an image.
pub(super) fn tags_of(id: &ImageId) -> KeyRange {
    KeyRange::prefix(key(b"V/x/", &[id.as_bytes()]))
}

/// The tags of repositories other than this one that point to an image.
pub(super) fn other_tags_of(id: &ImageId, name: &RepositoryName) -> [KeyRange; 2] {
    let all = tags_of(id);
    let own = KeyRange::prefix(key(b"V/x/", &[id.as_bytes(), name.as_str().as_bytes(), b"\0"]));
    let after = own.end.unwrap_or_else(|| own.start.clone());
    [KeyRange { start: all.start, end: Some(own.start) }, KeyRange { start: after, end: all.end }]
}

/// `V/d/` image: something let go of it; it is to be removed where nothing else holds it.
pub(super) fn loose(id: &ImageId) -> Bytes {
    key(b"V/d/", &[id.as_bytes()])
}

/// All images that something let go of.
pub(super) fn all_loose() -> KeyRange {
    KeyRange::prefix(key(b"V/d/", &[]))
}

/// What an upload of an image's layer is called, and the image itself as a holder of a reference.
pub(super) fn label(id: &ImageId) -> String {
    format!("{IMAGES}{id}")
}

/// The references by which images hold a layer.
pub(super) fn references(layer: BlobId) -> KeyRange {
    speedy_core::blob::references_of(layer, IMAGES.as_bytes())
}

/// The image in a key of [`references`].
pub(super) fn image_of_reference(key: &[u8]) -> Option<ImageId> {
    let holder = speedy_core::blob::holder_of_reference(key)?;
    std::str::from_utf8(holder).ok()?.strip_prefix(IMAGES)?.parse().ok()
}

/// The reference by which an image holds its layer.
pub(super) fn reference(layer: BlobId, id: &ImageId) -> Bytes {
    speedy_core::blob::reference_key(layer, label(id).as_bytes())
}

/// The image that a key ends with.
pub(super) fn image_at_end(key: &[u8]) -> Option<ImageId> {
    ImageId::from_bytes(key.get(key.len().checked_sub(32)?..)?)
}

/// The text of a key after what its range begins with.
pub(super) fn text_after(key: &[u8], prefix: usize) -> Option<&str> {
    std::str::from_utf8(key.get(prefix..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_repository_has_keys_among_those_of_another() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let (id, latest): (ImageId, Tag) = ("ab".repeat(32).parse().unwrap(), "latest".parse().unwrap());
        for other in ["a/b", "a-b", "aa", "a.b"] {
            assert!(!tags(&name("a")).contains(&tag(&name(other), &latest)), "{other}");
            assert!(!list(&name("a")).contains(&listed(&name(other), &id)), "{other}");
        }
        assert!(tags(&name("a")).contains(&tag(&name("a"), &latest)));
        assert_eq!(image_at_end(&listed(&name("a"), &id)), Some(id));
        assert_eq!(image_at_end(b"short"), None);
        let layer = BlobId::random();
        assert!(references(layer).contains(&reference(layer, &id)));
        assert_eq!(image_of_reference(&reference(layer, &id)), Some(id));
        let is_other = |key: &Bytes| other_tags_of(&id, &name("a/b")).iter().any(|range| range.contains(key));
        for other in ["a", "a/a", "a/b", "a/b/c", "a/b-c", "z"] {
            assert_eq!(is_other(&tag_of(&id, &name(other), &latest)), other != "a/b", "{other}");
        }
    }

    #[test]
    fn the_longest_names_fit_into_a_key() {
        let name: RepositoryName = "n".repeat(255).parse().unwrap();
        let (id, longest): (ImageId, Tag) =
            ("ab".repeat(32).parse().unwrap(), "t".repeat(128).parse().unwrap());
        for key in [
            tag_of(&id, &name, &longest),
            tag(&name, &longest),
            listed(&name, &id),
            repositories(Some(&"z".repeat(5000))).start,
            reference(BlobId::random(), &id),
        ] {
            assert!(key.len() <= speedy_core::meta::MAX_KEY_LEN, "{}", key.len());
        }
    }
}
