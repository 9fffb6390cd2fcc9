//! The keys of the blob room. Each begins with one letter and a slash; numbers are big-endian, so that bytewise
//! order is numeric order.

use bytes::{BufMut, Bytes, BytesMut};

use crate::digest::Digest;
use crate::id::{BlobId, GroupId, UploadId};
use crate::meta::{KeyRange, Timestamp};

fn key(prefix: &[u8], parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>());
    key.put_slice(prefix);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

/// `b/` blob: the record of a blob.
pub(super) fn blob(id: BlobId) -> Bytes {
    key(b"b/", &[id.as_bytes()])
}

/// All records of blobs.
pub(super) fn blobs() -> KeyRange {
    KeyRange::prefix(&b"b/"[..])
}

/// The blob that a record is of.
pub(super) fn blob_of_record(key: &[u8]) -> Option<BlobId> {
    BlobId::try_from(key.strip_prefix(b"b/")?).ok()
}

/// `l/` blob, end: a row of the blob's layout. The end is the offset after the row's last byte: a scan from a position
/// on then begins with the row that holds it.
pub(super) fn layout_row(id: BlobId, end: u64) -> Bytes {
    key(b"l/", &[id.as_bytes(), &end.to_be_bytes()])
}

/// What the keys of all layouts begin with.
pub(super) const LAYOUTS: &[u8] = b"l/";

/// The blob that a row of a layout belongs to.
pub(super) fn blob_of_layout(key: &[u8]) -> Option<BlobId> {
    BlobId::try_from(key.strip_prefix(LAYOUTS)?.get(..16)?).ok()
}

/// The rows of a blob's layout from the one that holds the byte at `offset` on.
pub(super) fn layout_from(id: BlobId, offset: u64) -> KeyRange {
    let all = KeyRange::prefix(key(b"l/", &[id.as_bytes()]));
    KeyRange { start: layout_row(id, offset.saturating_add(1)), end: all.end }
}

/// `d/` algorithm, `:`, raw digest: where the blob of a digest is. There as long as the blob is live.
pub(super) fn digest(digest: &Digest) -> Bytes {
    key(b"d/", &[digest.algorithm().name().as_bytes(), b":", digest.as_bytes()])
}

/// `u/` upload: the record of an upload session.
pub(super) fn upload(id: UploadId) -> Bytes {
    key(b"u/", &[id.as_bytes()])
}

/// All upload sessions.
pub(super) fn uploads() -> KeyRange {
    KeyRange::prefix(&b"u/"[..])
}

/// `q/` time, blob: a dead blob whose chunks wait to be freed, in order of the time of its death.
pub(super) fn dead(since: Timestamp, id: BlobId) -> Bytes {
    key(b"q/", &[&since.0.to_be_bytes(), id.as_bytes()])
}

/// Blobs that died before `until`.
pub(super) fn dead_before(until: Timestamp) -> KeyRange {
    KeyRange::new(&b"q/"[..], key(b"q/", &[&until.0.to_be_bytes()]))
}

/// The blob that a key of the dead names.
pub(super) fn blob_of_dead(key: &[u8]) -> Option<BlobId> {
    BlobId::try_from(key.get(10..)?).ok()
}

/// `c/collector`: which process collects.
pub(super) const COLLECTOR: Bytes = Bytes::from_static(b"c/collector");

/// `c/g/` group: all chunks of the group were written under this metadata store.
pub(super) fn known_group(group: GroupId) -> Bytes {
    key(b"c/g/", &[&group.get().to_be_bytes()])
}

/// All of those.
pub(super) fn known_groups() -> KeyRange {
    KeyRange::prefix(&b"c/g/"[..])
}

/// `c/restored`: when the store was made of a backup.
pub(super) const RESTORED: Bytes = Bytes::from_static(b"c/restored");

/// `f/` blob, holder: the key that says that `holder` (a manifest of a repository, say) needs the blob. Whoever writes
/// it checks in the same transaction that the blob is [live](super::LiveBlob::check_live).
pub fn reference_key(blob: BlobId, holder: &[u8]) -> Bytes {
    key(b"f/", &[blob.as_bytes(), holder])
}

/// The references to a blob whose holders begin with `holders`.
pub fn references_of(blob: BlobId, holders: &[u8]) -> KeyRange {
    KeyRange::prefix(reference_key(blob, holders))
}

/// All references to all blobs.
pub fn all_references() -> KeyRange {
    KeyRange::prefix(&b"f/"[..])
}

/// The holder in the key of a reference.
pub fn holder_of_reference(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"f/")?.get(16..)
}

/// All references to a blob.
pub fn references(blob: BlobId) -> KeyRange {
    KeyRange::prefix(key(b"f/", &[blob.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_scan_begins_with_the_row_that_holds_the_offset() {
        let id = BlobId::from_bytes([9; 16]);
        // Rows of [0, 100) and [100, 250).
        let (first, second) = (layout_row(id, 100), layout_row(id, 250));
        for (offset, has_first, has_second) in
            [(0, true, true), (99, true, true), (100, false, true), (250, false, false)]
        {
            let range = layout_from(id, offset);
            assert_eq!(
                (range.contains(&first), range.contains(&second)),
                (has_first, has_second),
                "{offset}"
            );
        }
        assert!(!layout_from(id, 0).contains(&layout_row(BlobId::from_bytes([10; 16]), 1)));
    }

    #[test]
    fn a_reference_names_its_holder() {
        let id = BlobId::random();
        let key = reference_key(id, b"a/b\0digest");
        assert_eq!(holder_of_reference(&key), Some(&b"a/b\0digest"[..]));
        assert!(all_references().contains(&key) && references(id).contains(&key));
        assert!(references_of(id, b"a/b\0").contains(&key) && !references_of(id, b"a\0").contains(&key));
    }

    #[test]
    fn the_dead_are_in_order_of_their_death() {
        let id = BlobId::random();
        let key = dead(Timestamp(300), id);
        assert_eq!(blob_of_dead(&key), Some(id));
        assert!(dead_before(Timestamp(301)).contains(&key) && !dead_before(Timestamp(300)).contains(&key));
    }
}
