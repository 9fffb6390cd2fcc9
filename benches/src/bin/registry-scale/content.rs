//! What is in the store: everything follows from a number, so that nothing needs to be remembered.
//!
//! Every repository has as many images, each with one tag, and every image as many blobs, which no other has; the first
//! repository has [`MORE_TAGS`] more tags, so that there is something to page through.

use std::fmt::Write as _;

use bytes::Bytes;
use speedy_core::blob::{BlobInfo, Fragment};
use speedy_core::digest::Digest;
use speedy_core::id::{BlobId, ChunkId, FileId, GroupId};
use speedy_services::registry::manifest::OCI_MANIFEST;
use speedy_services::registry::names::{RepositoryName, Tag};

/// Tags that the first repository has beyond those of the others.
pub(crate) const MORE_TAGS: u64 = 1000;

/// Chunk ids that no store of this benchmark ever hands out: the blobs have no bytes, which nothing here reads.
const CHUNKS: u64 = 1 << 48;

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub repositories: u64,
    /// And as many images.
    pub tags: u64,
    pub blobs: u64,
}

impl Content {
    /// What an empty store has, so that its answers are as long as those of the full one: one page of the catalog.
    pub(crate) fn small(&self) -> Self {
        let repositories = 100;
        let tags = repositories * self.images_each();
        Self { repositories, tags, blobs: tags * self.blobs_each() }
    }

    pub(crate) fn images_each(&self) -> u64 {
        self.tags / self.repositories
    }

    pub(crate) fn blobs_each(&self) -> u64 {
        self.blobs / self.tags
    }

    pub(crate) fn name(&self, repository: u64) -> RepositoryName {
        let name = format!("group-{:04}/app-{repository:07}", repository / 100);
        name.parse().expect("the name follows the grammar")
    }

    /// The repository of an image.
    pub(crate) fn name_of(&self, image: u64) -> RepositoryName {
        self.name(image / self.images_each())
    }

    /// The tag of an image.
    pub(crate) fn tag_of(&self, image: u64) -> Tag {
        self.tag(image % self.images_each())
    }

    pub(crate) fn tag(&self, number: u64) -> Tag {
        format!("v{number:05}").parse().expect("the tag follows the grammar")
    }

    pub(crate) fn blob(&self, blob: u64) -> BlobInfo {
        BlobInfo {
            id: BlobId::from_bytes(self.id_of(blob)),
            size: 4096 + blob % 100_000,
            digest: Digest::sha256(&blob.to_be_bytes()),
        }
    }

    /// As [`BlobId::fresh`] makes them: the blobs of an image were pushed together, those of different images, also of
    /// one repository, at any times.
    fn id_of(&self, blob: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mixed(blob).to_be_bytes());
        id[8..].copy_from_slice(&mixed(!blob).to_be_bytes());
        let image = blob / self.blobs_each();
        id[..4].copy_from_slice(&(mixed(!image) as u32).to_be_bytes());
        id
    }

    /// Where the bytes of a blob would be.
    pub(crate) fn fragment(&self, blob: u64) -> Fragment {
        let file = FileId::new(GroupId::new(1), ChunkId::new(CHUNKS + blob));
        Fragment { offset: 0, length: self.blob(blob).size, file, checksum: blob as u32 }
    }

    /// The manifest of an image: its first blob is the configuration, the others are layers.
    pub(crate) fn manifest(&self, image: u64) -> Bytes {
        let each = self.blobs_each();
        let mut blobs = (image * each..(image + 1) * each).map(|blob| self.blob(blob));
        let mut text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":"#);
        let config = blobs.next().expect("every image has a blob");
        descriptor(&mut text, "application/vnd.oci.image.config.v1+json", config);
        text.push_str(r#","layers":["#);
        for (number, layer) in blobs.enumerate() {
            text.push_str(if number == 0 { "" } else { "," });
            descriptor(&mut text, "application/vnd.oci.image.layer.v1.tar+gzip", layer);
        }
        text.push_str("]}");
        Bytes::from(text)
    }
}

fn descriptor(text: &mut String, media_type: &str, blob: BlobInfo) {
    let BlobInfo { size, digest, .. } = blob;
    write!(text, r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        .expect("text can grow");
}

/// Splitmix64's last step: another number for every number.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
