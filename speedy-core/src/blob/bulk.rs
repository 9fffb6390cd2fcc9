//! The rows of blobs that are live, one by one, for a benchmark that fills a metadata store with millions of them in
//! the order of its keys. Nothing is checked: a node writes blobs through a [`BlobStore`](super::BlobStore).

use bytes::Bytes;

use super::records::{BlobRecord, DigestRecord, LayoutRow, State, encode};
use super::{BlobInfo, Fragment, keys};
use crate::id::BlobId;
use crate::meta::{Timestamp, Write};

/// `b/`: the record of a blob with one digest.
pub fn record(blob: &BlobInfo, since: Timestamp) -> Write {
    let record = BlobRecord {
        state: State::Live.into(),
        size: blob.size,
        digests: vec![blob.digest.to_string()],
        since: since.0,
    };
    Write::Put(keys::blob(blob.id), encode(&record))
}

/// `d/`: what points from the digest to the blob.
pub fn pointer(blob: &BlobInfo) -> Write {
    let record = DigestRecord { blob: Bytes::copy_from_slice(blob.id.as_bytes()), size: blob.size };
    Write::Put(keys::digest(&blob.digest), encode(&record))
}

/// `l/`: one row of the blob's layout, of consecutive fragments.
pub fn layout_row(blob: BlobId, fragments: &[Fragment]) -> Write {
    let end = fragments.last().map_or(0, |last| last.offset + last.length);
    Write::Put(keys::layout_row(blob, end), encode(&LayoutRow::new(fragments)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::records::decode;
    use crate::blob::{BlobOptions, BlobStore, MemoryFragments, body_of};
    use crate::budget::Budget;
    use crate::meta::{Entry, KeyRange, MemoryMeta, MetaStore, Transaction};

    #[tokio::test]
    async fn a_row_is_what_a_committed_blob_leaves() {
        let meta = Arc::new(MemoryMeta::new());
        let fragments = Arc::new(MemoryFragments::new());
        let store = BlobStore::new(meta.clone(), fragments, Budget::default(), BlobOptions::default());
        let blob = store.put(body_of(&b"some bytes"[..]), None, &|_| Transaction::new()).await.unwrap();
        let found = async |prefix: &'static str| {
            let mut page = meta.scan(KeyRange::prefix(prefix), 10).await.unwrap();
            assert_eq!(page.entries.len(), 1, "{prefix}");
            page.entries.remove(0)
        };
        let as_write = |entry: &Entry| Write::Put(entry.key.clone(), entry.value.clone());
        let (row, written) = (found("l/").await, found("b/").await);
        let stored: BlobRecord = decode(&written).unwrap();
        assert_eq!(as_write(&written), record(&blob, Timestamp(stored.since)));
        assert_eq!(as_write(&found("d/").await), pointer(&blob));
        let fragments: Vec<Fragment> = decode::<LayoutRow>(&row).unwrap().fragments().collect();
        assert_eq!(fragments.len(), 1);
        assert_eq!(as_write(&row), layout_row(blob.id, &fragments));
    }
}
