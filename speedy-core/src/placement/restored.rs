//! The master's rows in a metadata store that was made of a backup.

use bytes::Bytes;
use prost::Message;

use super::MasterError;
use super::records::{GroupRecord, IdsRecord, REVISION, RevisionRecord, groups, ids_key};
use crate::id::GroupId;
use crate::meta::{Entry, MAX_PAGE_ENTRIES, MetaStore, Transaction, Write};

/// Bits below the time in the first version of a group after a restore, and in the first revision: 65,536 changes of a
/// group a millisecond before those of two restores could meet.
const VERSION_BITS: u32 = 16;
/// Chunk ids that are passed over: far more than are handed out between two backups.
const IDS_PASSED_OVER: u64 = 1 << 32;

/// Moves the versions of groups, the revision of the topology and the next chunk ids above all that the lost store told
/// anybody after the backup was taken. Called for a metadata store that was just made of a backup, before anybody works
/// with it; one that holds no state of a master is left as it is.
///
/// A version that named two sets of members would let a writer that remembers one of them confirm a chunk that a member of
/// the other one lacks. An older revision would be ignored by all who know a later one. And ids may be
/// in the hands of a writer that has not used them yet, so that no node reports them.
///
/// # Errors
/// [`MasterError::Unavailable`] when a row can't be read or written.
pub async fn after_restore(meta: &dyn MetaStore) -> Result<(), MasterError> {
    let Some(revision) = meta.get(REVISION).await? else { return Ok(()) };
    let first = meta.now().await?.0 << VERSION_BITS;
    let mut rest = Some(groups());
    while let Some(range) = rest {
        let page = meta.scan(range, MAX_PAGE_ENTRIES).await?;
        for entry in page.entries {
            let mut group: GroupRecord = decode(&entry)?;
            // A group that was never complete has taken nothing under any version.
            if group.version > 0 {
                group.version = first.max(group.version + 1);
            }
            let ids = ids_key(GroupId::new(group.id));
            let mut put = Transaction::new().write(Write::Put(entry.key, encode(&group)));
            if let Some(entry) = meta.get(ids.clone()).await? {
                let record: IdsRecord = decode(&entry)?;
                let next = record.next.saturating_add(IDS_PASSED_OVER);
                put = put.write(Write::Put(ids, encode(&IdsRecord { next })));
            }
            // Without a check nothing can be in its way.
            let _ = meta.transact(put).await?;
        }
        rest = page.next;
    }
    let record: RevisionRecord = decode(&revision)?;
    let record = RevisionRecord { revision: first.max(record.revision + 1) };
    let _ = meta.transact(Transaction::new().write(Write::Put(REVISION, encode(&record)))).await?;
    Ok(())
}

fn encode(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

fn decode<R: Message + Default>(entry: &Entry) -> Result<R, MasterError> {
    R::decode(entry.value.clone()).map_err(|error| {
        let key = entry.key.escape_ascii();
        MasterError::Unavailable(format!("the master's record at {key} cannot be read: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::NodeId;
    use crate::meta::{KeyRange, MemoryMeta};
    use crate::placement::{Heartbeat, Master, MasterOptions, MemberState, StoredMaster};

    const GROUP: GroupId = GroupId::new(7);

    async fn master(meta: &Arc<MemoryMeta>) -> StoredMaster {
        StoredMaster::new(meta.clone(), MasterOptions::default().replicas(1)).await.unwrap()
    }

    async fn beat(master: &StoredMaster, address: &str) {
        let heartbeat = Heartbeat::new(NodeId::from_bytes([1; 16]), GROUP, address);
        master.heartbeat(heartbeat).await.unwrap();
    }

    async fn copy(meta: &MemoryMeta) -> Arc<MemoryMeta> {
        let copy = MemoryMeta::new();
        for entry in meta.scan(KeyRange::prefix(Bytes::new()), 1000).await.unwrap().entries {
            let put = Transaction::new().write(Write::Put(entry.key, entry.value));
            assert!(copy.transact(put).await.unwrap().is_committed());
        }
        Arc::new(copy)
    }

    #[tokio::test]
    async fn nothing_that_was_told_after_the_backup_is_told_again() {
        let meta = Arc::new(MemoryMeta::new());
        let lost = master(&meta).await;
        beat(&lost, "a:1").await;
        lost.allocate_chunks(GROUP, 100).await.unwrap();
        let backup = copy(&meta).await;
        let mut told = lost.topology().await.unwrap();
        let mut ids = 0;
        for number in 0..20 {
            // Each change of address is a version.
            beat(&lost, &format!("b:{number}")).await;
            told = lost.topology().await.unwrap();
            ids = lost.allocate_chunks(GROUP, 10_000).await.unwrap().end;
        }
        for _ in 0..2 {
            let restored = copy(&backup).await;
            after_restore(restored.as_ref()).await.unwrap();
            let master = master(&restored).await;
            beat(&master, "a:1").await;
            let now = master.topology().await.unwrap();
            assert!(now.revision > told.revision, "{} after {}", now.revision, told.revision);
            let (group, before) = (now.group(GROUP).unwrap(), told.group(GROUP).unwrap());
            assert!(group.version > before.version, "{} after {}", group.version, before.version);
            assert_eq!(group.members[0].state, MemberState::InSync);
            let range = master.allocate_chunks(GROUP, 10).await.unwrap();
            assert!(range.start >= ids);
            told = now;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn a_store_without_a_master_is_left_alone() {
        let meta = MemoryMeta::new();
        after_restore(&meta).await.unwrap();
        assert_eq!(meta.scan(KeyRange::prefix(Bytes::new()), 10).await.unwrap().entries, []);
    }
}
