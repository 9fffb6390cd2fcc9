//! The keys of the repositories. All begin with `R/` and a letter; `docs/registry.md` lists them with their values.
//!
//! A repository name has no NUL, so `NUL` ends it and no name's keys lie among another's. A digest is written as its
//! algorithm, a colon and the raw bytes: the algorithm says how many follow.

use bytes::{BufMut, Bytes, BytesMut};
use speedy_core::blob::{references, references_of};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::KeyRange;

use crate::registry::names::{RepositoryName, Tag};

/// What of a client's paging position is compared: more than any name or tag has.
const LONGEST_POSITION: usize = 300;

/// What the images of v1 begin with as holders of references. No name of a repository begins so.
pub(in crate::registry) const IMAGES: &str = "V/";

struct Key(BytesMut);

impl Key {
    fn new(prefix: &[u8; 4]) -> Self {
        let mut key = BytesMut::with_capacity(128);
        key.put_slice(prefix);
        Self(key)
    }

    fn in_repository(prefix: &[u8; 4], name: &RepositoryName) -> Self {
        Self::new(prefix).text(name.as_str()).text("\0")
    }

    fn text(mut self, text: &str) -> Self {
        self.0.put_slice(text.as_bytes());
        self
    }

    fn digest(mut self, digest: &Digest) -> Self {
        self.0.put_slice(digest.algorithm().name().as_bytes());
        self.0.put_u8(b':');
        self.0.put_slice(digest.as_bytes());
        self
    }

    fn blob(mut self, blob: BlobId) -> Self {
        self.0.put_slice(blob.as_bytes());
        self
    }

    fn end(self) -> Bytes {
        self.0.freeze()
    }

    /// The keys that begin with this one.
    fn range(self) -> KeyRange {
        KeyRange::prefix(self.end())
    }
}

/// `R/r/` name: the repository's record.
pub(super) fn repository(name: &RepositoryName) -> Bytes {
    Key::new(b"R/r/").text(name.as_str()).end()
}

/// All repositories in order of their names, or those after `last`.
pub(crate) fn repositories(last: Option<&str>) -> KeyRange {
    after(Key::new(b"R/r/").range(), last)
}

/// The repository of a record.
pub(crate) fn name_of_repository(key: &[u8]) -> Option<RepositoryName> {
    text_after(key, 4)?.parse().ok()
}

/// `R/b/` name NUL digest: the link that makes a blob visible in a repository.
pub(super) fn link(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/b/", name).digest(digest).end()
}

/// `R/h/` blob name NUL digest: says that a repository links a blob, under this digest.
pub(super) fn holder(blob: BlobId, name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::new(b"R/h/").blob(blob).text(name.as_str()).text("\0").digest(digest).end()
}

/// The repositories that link a blob.
pub(super) fn holders(blob: BlobId) -> KeyRange {
    Key::new(b"R/h/").blob(blob).range()
}

/// The name in a key of [`holders`].
pub(super) fn name_of_holder(key: &[u8]) -> Option<RepositoryName> {
    name_at(key, 4 + 16)
}

/// The repositories other than this one that link a blob: those before it, and those after it.
pub(super) fn other_holders(blob: BlobId, name: &RepositoryName) -> [KeyRange; 2] {
    let all = holders(blob);
    let own = KeyRange::prefix(Key::new(b"R/h/").blob(blob).text(name.as_str()).text("\0").end());
    let after = own.end.unwrap_or_else(|| own.start.clone());
    [KeyRange { start: all.start, end: Some(own.start) }, KeyRange { start: after, end: all.end }]
}

/// The references by manifests of repositories other than this one to a blob.
pub(super) fn other_references(blob: BlobId, name: &RepositoryName) -> Vec<KeyRange> {
    // Images of v1 hold by their own names, which lie between those of repositories.
    let images = references_of(blob, IMAGES.as_bytes());
    let mut left_out = [references_of(blob, &reference_holders(name)), images];
    left_out.sort_unstable_by(|one, other| one.start.cmp(&other.start));
    let all = references(blob);
    let (mut parts, mut start) = (Vec::with_capacity(3), Some(all.start));
    for range in left_out {
        parts.extend(start.map(|start| KeyRange { start, end: Some(range.start) }));
        start = range.end;
    }
    parts.extend(start.map(|start| KeyRange { start, end: all.end }));
    parts
}

/// `R/m/` name NUL digest: a manifest.
pub(super) fn manifest(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/m/", name).digest(digest).end()
}

/// `R/n/` name NUL digest: a manifest whose references are being written.
pub(super) fn pending(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/n/", name).digest(digest).end()
}

/// `R/i/` name NUL digest: since when the collector has found a link unused.
pub(super) fn unused(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/i/", name).digest(digest).end()
}

/// `R/u/` name NUL digest: since when the collector has found a manifest without a tag.
pub(super) fn untagged(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/u/", name).digest(digest).end()
}

/// `R/d/` name NUL digest: a manifest that is gone may have left references.
pub(super) fn leftover(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key::in_repository(b"R/d/", name).digest(digest).end()
}

/// All manifests that may have left references.
pub(crate) fn leftovers() -> KeyRange {
    Key::new(b"R/d/").range()
}

/// All links of all repositories.
pub(crate) fn all_links() -> KeyRange {
    Key::new(b"R/b/").range()
}

/// The links of a repository.
pub(super) fn links(name: &RepositoryName) -> KeyRange {
    Key::in_repository(b"R/b/", name).range()
}

/// The links of the repositories after this one.
pub(super) fn links_after(name: &str) -> KeyRange {
    let all = all_links();
    // What ends a name is the byte before this one.
    KeyRange { start: Key::new(b"R/b/").text(name).text("\u{1}").end(), end: all.end }
}

/// All manifests of all repositories.
pub(crate) fn all_manifests() -> KeyRange {
    Key::new(b"R/m/").range()
}

/// The manifests of a repository.
pub(super) fn manifests(name: &RepositoryName) -> KeyRange {
    Key::in_repository(b"R/m/", name).range()
}

/// All manifests whose references are being written.
pub(crate) fn all_pending() -> KeyRange {
    Key::new(b"R/n/").range()
}

/// Those of a repository.
pub(super) fn pending_in(name: &RepositoryName) -> KeyRange {
    Key::in_repository(b"R/n/", name).range()
}

/// The indexes that name a manifest.
pub(super) fn parents(name: &RepositoryName, child: &Digest) -> KeyRange {
    Key::in_repository(b"R/p/", name).digest(child).range()
}

/// What the indexes of a repository name.
pub(super) fn parents_in(name: &RepositoryName) -> KeyRange {
    Key::in_repository(b"R/p/", name).range()
}

/// Whether a key of [`parents_in`] is of this index.
pub(super) fn is_of_parent(key: &[u8], parent: &Digest) -> bool {
    key.ends_with(&Key(BytesMut::with_capacity(128)).digest(parent).0)
}

/// What all holders of references of a repository begin with.
pub(super) fn reference_holders(name: &RepositoryName) -> Bytes {
    Key(BytesMut::with_capacity(128)).text(name.as_str()).text("\0").end()
}

/// The repository and the digest in a key that consists of both.
pub(crate) fn name_and_digest(key: &[u8]) -> Option<(RepositoryName, Digest)> {
    let name = name_at(key, 4)?;
    let digest = digest_after(key, 4 + name.as_str().len() + 1)?;
    Some((name, digest))
}

/// The repository whose name stands in a key at this position.
pub(super) fn name_at(key: &[u8], at: usize) -> Option<RepositoryName> {
    let rest = key.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// `c/gc`: how far the collector is.
pub(crate) const PROGRESS: Bytes = Bytes::from_static(b"c/gc");

/// What a manifest is called as a holder of references to blobs.
pub(super) fn reference_holder(name: &RepositoryName, digest: &Digest) -> Bytes {
    Key(BytesMut::with_capacity(128)).text(name.as_str()).text("\0").digest(digest).end()
}

/// `R/p/` name NUL child parent: says that an index names a manifest.
pub(super) fn parent(name: &RepositoryName, child: &Digest, parent: &Digest) -> Bytes {
    Key::in_repository(b"R/p/", name).digest(child).digest(parent).end()
}

/// `R/t/` name NUL tag: what a tag points to.
pub(super) fn tag(name: &RepositoryName, tag: &Tag) -> Bytes {
    Key::in_repository(b"R/t/", name).text(tag.as_str()).end()
}

/// The tags of a repository in order, or those after `last`.
pub(super) fn tags(name: &RepositoryName, last: Option<&str>) -> KeyRange {
    after(Key::in_repository(b"R/t/", name).range(), last)
}

/// `R/x/` name NUL digest tag: says that a tag points to a manifest.
pub(super) fn tag_of(name: &RepositoryName, manifest: &Digest, tag: &Tag) -> Bytes {
    Key::in_repository(b"R/x/", name).digest(manifest).text(tag.as_str()).end()
}

/// The tags that point to a manifest.
pub(super) fn tags_of(name: &RepositoryName, manifest: &Digest) -> KeyRange {
    Key::in_repository(b"R/x/", name).digest(manifest).range()
}

/// `R/s/` name NUL subject referrer: the descriptor of a manifest that is about another.
pub(super) fn referrer(name: &RepositoryName, subject: &Digest, referrer: &Digest) -> Bytes {
    Key::in_repository(b"R/s/", name).digest(subject).digest(referrer).end()
}

/// The referrers of a manifest in order of their digests, or those after `last`.
pub(super) fn referrers(name: &RepositoryName, subject: &Digest, last: Option<&Digest>) -> KeyRange {
    let all = Key::in_repository(b"R/s/", name).digest(subject).range();
    match last {
        Some(last) => all.after(&referrer(name, subject, last)),
        None => all,
    }
}

/// The text of a key after what its range begins with.
pub(super) fn text_after(key: &[u8], prefix: usize) -> Option<&str> {
    std::str::from_utf8(key.get(prefix..)?).ok()
}

/// The digest that a key ends with, after what its range begins with.
pub(super) fn digest_after(key: &[u8], prefix: usize) -> Option<Digest> {
    use speedy_core::digest::Algorithm;
    let rest = key.get(prefix..)?;
    let colon = rest.iter().position(|&byte| byte == b':')?;
    let algorithm = [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .find(|algorithm| algorithm.name().as_bytes() == &rest[..colon])?;
    Digest::from_bytes(algorithm, &rest[colon + 1..])
}

fn after(all: KeyRange, last: Option<&str>) -> KeyRange {
    let Some(last) = last else { return all };
    let position = &last.as_bytes()[..last.len().min(LONGEST_POSITION)];
    all.after(&[&all.start, position].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn no_repository_has_keys_among_those_of_another() {
        let digest = Digest::sha256(b"x");
        let tag_a: Tag = "b".parse().unwrap();
        for other in ["a/b", "a-b", "aa", "a.b"] {
            assert!(!tags(&name("a"), None).contains(&tag(&name(other), &tag_a)), "{other}");
            assert!(
                !tags_of(&name("a"), &digest).contains(&tag_of(&name(other), &digest, &tag_a)),
                "{other}"
            );
        }
        assert!(tags(&name("a"), None).contains(&tag(&name("a"), &tag_a)));
    }

    #[test]
    fn keys_give_back_what_they_were_made_of() {
        let (subject, last) = (Digest::sha256(b"subject"), Digest::sha256(b"referrer"));
        let range = referrers(&name("a"), &subject, None);
        let key = referrer(&name("a"), &subject, &last);
        assert!(range.contains(&key) && !referrers(&name("a"), &subject, Some(&last)).contains(&key));
        assert_eq!(digest_after(&key, range.start.len()), Some(last));
        let blob = BlobId::random();
        assert_eq!(name_of_holder(&holder(blob, &name("a/b"), &subject)), Some(name("a/b")));
    }

    #[test]
    fn a_repository_has_no_holders_among_the_others() {
        let (blob, digest) = (BlobId::random(), Digest::sha256(b"x"));
        let is_other =
            |key: &Bytes| other_holders(blob, &name("a/b")).iter().any(|range| range.contains(key));
        assert!(!is_other(&holder(blob, &name("a/b"), &digest)));
        for other in ["a", "a/a", "a/b/c", "a/b-c", "a/bb", "z"] {
            assert!(is_other(&holder(blob, &name(other), &digest)), "{other}");
            assert!(!is_other(&holder(BlobId::random(), &name(other), &digest)), "another blob");
        }
        let key_of = |holder: &[u8]| speedy_core::blob::reference_key(blob, holder);
        for own in ["0/1", "a/b"] {
            let is_other =
                |key: &Bytes| other_references(blob, &name(own)).iter().any(|range| range.contains(key));
            for other in ["0", "0/1", "0/1/2", "9", "a", "a/a", "a/b", "a/b/c", "a/b-c", "z"] {
                let key = key_of(&reference_holder(&name(other), &digest));
                assert_eq!(is_other(&key), other != own, "{own} {other}");
            }
            assert!(!is_other(&key_of(b"V/00")) && !is_other(&key_of(b"V/ff")), "images are nobody's");
        }
        let key = link(&name("a/b"), &digest);
        assert_eq!(name_and_digest(&key), Some((name("a/b"), digest)));
        assert!(
            !links_after("a/b").contains(&key) && links_after("a/b").contains(&link(&name("a/b/c"), &digest))
        );
        let parent_key = parent(&name("a"), &Digest::sha256(b"child"), &digest);
        assert!(is_of_parent(&parent_key, &digest) && !is_of_parent(&parent_key, &Digest::sha256(b"child")));
    }

    #[test]
    fn the_longest_names_fit_into_a_key() {
        use speedy_core::digest::Algorithm;
        let name = name(&"n".repeat(255));
        let digest = Digest::of(Algorithm::Sha512, b"x");
        let tag_longest: Tag = "t".repeat(128).parse().unwrap();
        let holder = reference_holder(&name, &digest);
        for key in [
            parent(&name, &digest, &digest),
            tag_of(&name, &digest, &tag_longest),
            speedy_core::blob::reference_key(BlobId::random(), &holder),
            tags(&name, Some(&"z".repeat(5000))).start,
        ] {
            assert!(key.len() <= speedy_core::meta::MAX_KEY_LEN, "{}", key.len());
        }
    }
}
