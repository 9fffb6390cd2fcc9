//! Rows and records of a blob that is made live again.

use std::sync::Arc;

use bytes::Bytes;

use crate::blob::ingest::ROW;
use crate::blob::records::{BlobRecord, DigestRecord, LayoutRow, State, decode_of, encode};
use crate::blob::{BlobError, BlobInfo, BlobStore, Fragment, keys};
use crate::id::BlobId;
use crate::meta::{Check, Entry, MemoryMeta, MetaStore, Transaction, Write};

/// Rows written in one transaction: far below what one may hold.
const ROWS_AT_ONCE: usize = 64;

/// The rows of a blob's layout, as far as there are any.
pub(super) async fn layout(store: &BlobStore, id: BlobId) -> Result<Vec<(Entry, Vec<Fragment>)>, BlobError> {
    let (mut rows, mut rest) = (Vec::new(), Some(keys::layout_from(id, 0)));
    while let Some(range) = rest {
        let page = store.meta().scan(range, 256).await?;
        for entry in page.entries {
            let row: LayoutRow = decode_of(id, &entry)?;
            rows.push((entry, row.fragments().collect()));
        }
        rest = page.next;
    }
    Ok(rows)
}

/// The rows that these fragments make.
fn rows(id: BlobId, fragments: &[Fragment]) -> Vec<Write> {
    let row = |fragments: &[Fragment]| {
        let end = fragments.last().map_or(0, |last| last.offset + last.length);
        Write::Put(keys::layout_row(id, end), encode(&LayoutRow::new(fragments)))
    };
    fragments.chunks(ROW).map(row).collect()
}

async fn write(meta: &dyn MetaStore, writes: &[Write]) -> Result<(), BlobError> {
    for writes in writes.chunks(ROWS_AT_ONCE) {
        let transaction = Transaction { writes: writes.to_vec(), ..Transaction::new() };
        // Without a check nothing can be in its way.
        let _ = meta.transact(transaction).await?;
    }
    Ok(())
}

/// A store that knows the layout of this one blob and reads it as the real one would.
pub(super) async fn scratch(
    store: &BlobStore,
    id: BlobId,
    fragments: &[Fragment],
) -> Result<BlobStore, BlobError> {
    let meta = MemoryMeta::new();
    write(&meta, &rows(id, fragments)).await?;
    let options = store.options().clone();
    Ok(BlobStore::new(Arc::new(meta), Arc::clone(store.fragments()), store.budget().clone(), options))
}

/// An upload that the metadata knows, and that went on after the backup that it comes from.
pub(super) struct Known<'a> {
    /// The blob's record.
    pub(super) blob: &'a Entry,
    /// The session's.
    pub(super) session: &'a Entry,
}

/// Makes a blob live. `fragments` are those that no row names yet: all, unless part of the blob is `known`. `false` where
/// something changed meanwhile, or the digest points somewhere by now.
pub(super) async fn commit(
    store: &BlobStore,
    info: &BlobInfo,
    fragments: &[Fragment],
    known: Option<&Known<'_>>,
) -> Result<bool, BlobError> {
    let meta = store.meta();
    let wanted = rows(info.id, fragments);
    let digest = keys::digest(&info.digest);
    let pointer = DigestRecord { blob: Bytes::copy_from_slice(info.id.as_bytes()), size: info.size };
    let live = BlobRecord {
        state: State::Live.into(),
        size: info.size,
        digests: vec![info.digest.to_string()],
        since: meta.now().await?.0,
    };
    let key = keys::blob(info.id);
    let mut transaction = Transaction::new()
        .unchanged(key.clone(), known.map(|known| known.blob))
        .check(Check::Absent(digest.clone()))
        .write(Write::Put(key, encode(&live)))
        .write(Write::Put(digest, encode(&pointer)));
    match known {
        // Its session may be taken up again at any moment, so its rows change together with its record.
        Some(Known { session, .. }) => {
            transaction = transaction
                .check(Check::Version(session.key.clone(), session.version))
                .write(Write::Delete(session.key.clone()));
            transaction = wanted.into_iter().fold(transaction, Transaction::write);
        }
        // Rows mean nothing without the record. A run before this one may have chosen other chunks, or have ended
        // between two rows.
        None => {
            let stale = layout(store, info.id).await?.into_iter().map(|(entry, _)| entry.key);
            let stale = stale.filter(|key| !wanted.iter().any(|row| row.key() == key)).map(Write::Delete);
            write(meta.as_ref(), &stale.collect::<Vec<_>>()).await?;
            write(meta.as_ref(), &wanted).await?;
        }
    }
    Ok(meta.transact(transaction).await?.is_committed())
}

/// Fragments that can be added to an upload in one transaction.
pub(super) const MOST_ADDED: usize = 100 * ROW;
