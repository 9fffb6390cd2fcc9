//! What keeps a chunk that is about to be freed from being named after all.
//!
//! A chunk is written first and named in a layout by a transaction that follows within seconds. Nothing bounds how late that
//! transaction may come: its process can be stopped, or its machine suspended, for longer than any grace. So before
//! an orphan is freed, the entry is changed that the transaction which could still name it relies on:
//!
//! * The owner has no record: the first record of a blob is written by a transaction that checks that there is none. The
//!   collector writes one, of a dead blob without a layout. It is forgotten after
//!   [`fence_expiry`](crate::blob::BlobOptions::fence_expiry).
//! * The owner has a row of its layout for that place, which names another chunk: a [`Transfer`](crate::blob::Transfer) puts
//!   a copy into a row that is as it read it. The collector writes the row anew, with the same value.
//! * The owner is live or dead and has no row for the place: rows are only added while it is uploading.
//!
//! Whichever transaction is first makes the other fail. Where it is the collector's that fails, the chunk is kept and met again.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::blob::records::{BlobRecord, State, encode};
use crate::blob::{BlobError, BlobStore, keys};
use crate::id::{BlobId, FileId};
use crate::meta::{Check, Entry, Timestamp, Transaction, Write};

/// Fences written in one transaction; each takes at most three operations.
const AT_ONCE: usize = 32;

/// A chunk without a place in a layout.
#[derive(Clone, Debug)]
pub(super) struct Placeless {
    pub file: FileId,
    /// Bytes.
    pub length: u64,
    pub fence: Fence,
}

/// What has to be changed before the chunk is freed.
#[derive(Clone, Debug)]
pub(super) enum Fence {
    Unneeded,
    /// The record of this blob, which is not there.
    Record(BlobId),
    /// A row of a layout, which names other chunks.
    Row(Entry),
}

impl Fence {
    /// The entry that it changes.
    fn key(&self) -> Option<Bytes> {
        match self {
            Self::Unneeded => None,
            Self::Record(blob) => Some(keys::blob(*blob)),
            Self::Row(row) => Some(row.key.clone()),
        }
    }

    fn transaction(&self, now: Timestamp, until: Timestamp) -> Transaction {
        match self {
            Self::Unneeded => Transaction::new(),
            Self::Record(blob) => {
                let dead = BlobRecord { state: State::Dead.into(), since: now.0, ..BlobRecord::default() };
                Transaction::new()
                    .check(Check::Absent(keys::blob(*blob)))
                    .write(Write::Put(keys::blob(*blob), encode(&dead)))
                    .write(Write::Put(keys::dead(until, *blob), Bytes::new()))
            }
            Self::Row(row) => Transaction::new()
                .check(Check::Version(row.key.clone(), row.version))
                .write(Write::Put(row.key.clone(), row.value.clone())),
        }
    }
}

/// Sets the fences of these chunks, durably, and answers those of which nothing came to be known meanwhile: they can be freed.
///
/// # Errors
/// What the metadata store reports.
pub(super) async fn set(store: &BlobStore, chunks: Vec<Placeless>) -> Result<Vec<Placeless>, BlobError> {
    let (mut free, mut fenced) = (Vec::new(), BTreeMap::<Bytes, Vec<Placeless>>::new());
    for chunk in chunks {
        match chunk.fence.key() {
            None => free.push(chunk),
            Some(key) => fenced.entry(key).or_default().push(chunk),
        }
    }
    let fenced: Vec<Vec<Placeless>> = fenced.into_values().collect();
    for some in fenced.chunks(AT_ONCE) {
        if commit(store, some).await? {
            free.extend(some.iter().flatten().cloned());
            continue;
        }
        // Something became of one of them: that one is kept, and the others don't wait for it.
        for one in some {
            if commit(store, std::slice::from_ref(one)).await? {
                free.extend(one.iter().cloned());
            }
        }
    }
    Ok(free)
}

/// Sets one fence for all chunks of each list. `false` where one of them could not be set.
async fn commit(store: &BlobStore, lists: &[Vec<Placeless>]) -> Result<bool, BlobError> {
    let now = store.meta().now().await?;
    let until = now.after(store.options().fence_expiry);
    let fences = lists.iter().filter_map(|chunks| chunks.first()).map(|chunk| &chunk.fence);
    let transaction =
        fences.fold(Transaction::new(), |transaction, fence| transaction.and(fence.transaction(now, until)));
    Ok(store.meta().transact(transaction).await?.is_committed())
}
