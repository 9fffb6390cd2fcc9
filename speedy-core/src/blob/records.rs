//! What the blob room keeps in the metadata store. Values are protocol buffers, so that neighbouring versions read
//! each other's: a field is added with a new number and none ever changes its meaning.

use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::id::{BlobId, ChunkId, FileId, GroupId};
use crate::meta::Entry;

use super::{BlobError, Fragment};

/// Where a blob is in its life. It only ever moves down this list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum State {
    /// Written by a record that this version does not know.
    Unknown = 0,
    /// Bytes are coming in.
    Uploading = 1,
    /// Complete; digests point to it.
    Live = 2,
    /// Nothing points to it; its chunks are to be freed.
    Dead = 3,
}

/// `b/`: the record of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BlobRecord {
    #[prost(enumeration = "State", tag = "1")]
    pub state: i32,
    /// Length in bytes, once it is live.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// The digests that point to it, as text.
    #[prost(string, repeated, tag = "3")]
    pub digests: Vec<String>,
    /// When the state last changed, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "4")]
    pub since: u64,
}

/// `d/`: where the blob of a digest is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DigestRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub blob: Bytes,
    #[prost(uint64, tag = "2")]
    pub size: u64,
}

/// `l/`: consecutive fragments of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LayoutRow {
    /// Offset of the first fragment in the blob.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(message, repeated, tag = "2")]
    pub fragments: Vec<FragmentRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FragmentRecord {
    #[prost(uint64, tag = "1")]
    pub length: u64,
    #[prost(uint32, tag = "2")]
    pub group: u32,
    #[prost(fixed64, tag = "3")]
    pub chunk: u64,
    #[prost(fixed32, tag = "4")]
    pub checksum: u32,
}

impl LayoutRow {
    pub(super) fn new(fragments: &[Fragment]) -> Self {
        let record = |fragment: &Fragment| FragmentRecord {
            length: fragment.length,
            group: fragment.file.group.get(),
            chunk: fragment.file.chunk.get(),
            checksum: fragment.checksum,
        };
        Self {
            offset: fragments.first().map_or(0, |first| first.offset),
            fragments: fragments.iter().map(record).collect(),
        }
    }

    pub(super) fn fragments(&self) -> impl Iterator<Item = Fragment> {
        self.fragments.iter().scan(self.offset, |offset, record| {
            let fragment = Fragment {
                offset: *offset,
                length: record.length,
                file: FileId::new(GroupId::new(record.group), ChunkId::new(record.chunk)),
                checksum: record.checksum,
            };
            *offset = offset.saturating_add(record.length);
            Some(fragment)
        })
    }
}

/// `u/`: an upload session.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UploadRecord {
    /// The blob that it fills.
    #[prost(bytes = "bytes", tag = "1")]
    pub blob: Bytes,
    /// What the caller called it: the repository.
    #[prost(string, tag = "2")]
    pub label: String,
    /// Bytes that are on stable storage and in the layout.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// The exported SHA-256 state after those bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub sha256: Bytes,
    /// When it last grew, in milliseconds by the metadata store's clock.
    #[prost(uint64, tag = "5")]
    pub active: u64,
    /// The exported SHA-512 state after those bytes; empty where the content was not expected to be named by it.
    #[prost(bytes = "bytes", tag = "7")]
    pub sha512: Bytes,
    /// When it began; 0 in records of builds that did not write it.
    #[prost(uint64, tag = "6")]
    pub begun: u64,
}

/// `c/collector`: which process collects, and until when unless it renews.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CollectorLease {
    #[prost(bytes = "bytes", tag = "1")]
    pub holder: Bytes,
    #[prost(uint64, tag = "2")]
    pub until: u64,
    /// Where it is, for people.
    #[prost(string, tag = "3")]
    pub place: String,
}

/// `c/restored`: when the metadata store was made of a backup, in milliseconds by its clock.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RestoredRecord {
    #[prost(uint64, tag = "1")]
    pub at: u64,
}

/// A record as a value.
pub(super) fn encode(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

/// The record in an entry.
pub(super) fn decode<R: Message + Default>(entry: &Entry) -> Result<R, prost::DecodeError> {
    R::decode(entry.value.clone())
}

/// The record in an entry that belongs to a blob.
pub(super) fn decode_of<R: Message + Default>(blob: BlobId, entry: &Entry) -> Result<R, BlobError> {
    decode(entry).map_err(|error| BlobError::Damaged {
        blob,
        reason: format!("its metadata at {} cannot be read: {error}", entry.key.escape_ascii()),
    })
}

impl BlobRecord {
    /// The digests that point to the blob; text that is no digest (of a later version, say) is passed over.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.digests.iter().filter_map(|text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_offsets_by_adding_lengths() {
        let fragment = |offset, length, chunk| Fragment {
            offset,
            length,
            file: FileId::new(GroupId::new(1), ChunkId::new(chunk)),
            checksum: 5,
        };
        let fragments = [fragment(100, 10, 1), fragment(110, 1, 7), fragment(111, 64 << 20, 3)];
        let row = LayoutRow::new(&fragments);
        assert_eq!(row.fragments().collect::<Vec<_>>(), fragments);
        assert_eq!(LayoutRow::decode(encode(&row)).unwrap(), row);
    }
}
