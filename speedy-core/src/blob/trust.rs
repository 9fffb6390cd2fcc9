//! Which groups a metadata store knows from their first chunk on.
//!
//! The collector frees chunks whose owner has no record. In a store that has lost records, as one that was restored from
//! an old backup or begun anew, that would free blobs that can be [rebuilt](super::BlobStore::rebuild). So it does that only in groups
//! that are known to be known:
//!
//! * whoever is told that its fragment became chunk 1 of a group writes so: ids rise and are never given twice, so the
//!   group has held nothing before;
//! * and a pass of the collector that has listed a whole group and met the owner of every chunk.
//!
//! What says so is kept in the metadata store itself, is [dropped](distrust) from one that is made of a backup, and is not in
//! one that begins empty.

use bytes::Bytes;

use super::records::{RestoredRecord, decode, encode};
use super::{BlobError, BlobStore, keys};
use crate::id::{ChunkId, FileId, GroupId};
use crate::meta::{MetaError, MetaStore, Timestamp, Transaction, Write};

/// The first chunk of every group.
const FIRST: ChunkId = ChunkId::new(1);

/// Whether all chunks of a group that have no owner are leftovers.
pub(super) async fn is_known(store: &BlobStore, group: GroupId) -> Result<bool, BlobError> {
    Ok(store.meta().get(keys::known_group(group)).await?.is_some())
}

/// Writes that they are.
pub(super) async fn put(store: &BlobStore, group: GroupId) -> Result<(), BlobError> {
    let write = Transaction::new().write(Write::Put(keys::known_group(group), Bytes::new()));
    // Without a check nothing can be in its way.
    let _ = store.meta().transact(write).await?;
    Ok(())
}

/// Takes note of a chunk that was just written.
pub(super) async fn note(store: &BlobStore, file: FileId) {
    if file.chunk == FIRST
        && let Err(error) = put(store, file.group).await
    {
        tracing::debug!(group = %file.group, %error, "a pass of the collector will find out that a group is new");
    }
}

/// When the store was made of a backup; the beginning of time if it was not.
pub(super) async fn restored(store: &BlobStore) -> Result<Timestamp, BlobError> {
    let entry = store.meta().get(keys::RESTORED).await?;
    // A record that can't be read is of a later version: sessions then expire as they always do.
    let record = entry.and_then(|entry| decode::<RestoredRecord>(&entry).ok());
    Ok(Timestamp(record.map_or(0, |record| record.at)))
}

/// Forgets that any group is known, so that no chunk is freed for want of an owner, and lets the time of upload sessions
/// begin again. Called for a metadata store that was just made of a backup, before anybody works with it: what was
/// written since may still be rebuilt.
pub async fn distrust(meta: &dyn MetaStore) -> Result<(), MetaError> {
    let at = RestoredRecord { at: meta.now().await?.0 };
    let _ = meta.transact(Transaction::new().write(Write::Put(keys::RESTORED, encode(&at)))).await?;
    let mut rest = Some(keys::known_groups());
    while let Some(range) = rest {
        let page = meta.scan(range, 100).await?;
        let forget = page.entries.into_iter().map(|entry| Write::Delete(entry.key));
        let _ = meta.transact(forget.fold(Transaction::new(), Transaction::write)).await?;
        rest = page.next;
    }
    Ok(())
}
