//! Chunks that no layout names.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::fence::{self, Fence, Placeless};
use super::{Collected, Collector, PAGE};
use crate::blob::records::{BlobRecord, LayoutRow, State, decode};
use crate::blob::{BlobError, keys, trust};
use crate::id::{BlobId, FileId, GroupId};
use crate::meta::{Entry, KeyRange};

/// Most chunks that are remembered as seen without a place in a layout. The others are met again in the next pass.
const MOST_SUSPECTS: usize = 1_000_000;

/// A group in a pass.
#[derive(Debug)]
struct Seen {
    /// Whether the store knows it from its first chunk on.
    is_known: bool,
    /// Chunks whose owner has no record, where it does not.
    unknown: u64,
}

impl Collector {
    /// Frees chunks that two passes have met without a place in a layout.
    ///
    /// # Errors
    /// What the stores report, and what [`keep_lease`](Self::keep_lease) does. What was not reached is met again.
    pub async fn free_orphans(&mut self, collected: &mut Collected) -> Result<(), BlobError> {
        let mut seen = HashMap::new();
        let mut groups = BTreeMap::new();
        let mut cursor = None;
        loop {
            self.keep_lease().await?;
            let page = self
                .store
                .fragments()
                .list(cursor, PAGE)
                .await
                .map_err(|error| BlobError::Unavailable(format!("chunks cannot be listed: {error}")))?;
            // Time is taken before the owners are looked at: a suspect is never older than it seems.
            let now = self.store.meta().now().await?;
            let mut orphans = Vec::new();
            for placeless in self.placeless(&page.chunks, &mut groups).await? {
                let since = self.suspects.get(&placeless.file).copied().unwrap_or(now);
                if self.suspects.contains_key(&placeless.file)
                    && now.since(since) >= self.store.options().orphan_grace
                {
                    orphans.push(placeless);
                } else if seen.len() < MOST_SUSPECTS {
                    seen.insert(placeless.file, since);
                }
            }
            let orphans = fence::set(&self.store, orphans).await?;
            let bytes: u64 = orphans.iter().map(|orphan| orphan.length).sum();
            let deleted = self.delete_all(orphans.into_iter().map(|orphan| orphan.file).collect()).await?;
            collected.chunks += deleted;
            collected.orphans += deleted;
            collected.orphan_bytes += bytes;
            self.pace.examined(page.chunks.len()).await;
            cursor = page.next;
            if cursor.is_none() {
                self.trust(&groups).await?;
                break;
            }
        }
        collected.suspects = seen.len() as u64;
        collected.unknown = groups.values().map(|group| group.unknown).sum();
        self.suspects = seen;
        self.say_unknown(collected.unknown);
        Ok(())
    }

    /// From now on the groups count as known of whose chunks every owner was met in a whole pass.
    async fn trust(&self, groups: &BTreeMap<GroupId, Seen>) -> Result<(), BlobError> {
        for (group, seen) in groups {
            if !seen.is_known && seen.unknown == 0 {
                trust::put(&self.store, *group).await?;
            }
        }
        Ok(())
    }

    /// Those of these chunks that have no place in the layout of their owner, and whose owner can't give them one.
    async fn placeless(
        &self,
        chunks: &[(GroupId, crate::replicate::ChunkStat)],
        groups: &mut BTreeMap<GroupId, Seen>,
    ) -> Result<Vec<Placeless>, BlobError> {
        let meta = self.store.meta();
        let keys: Vec<Bytes> = chunks.iter().map(|(_, chunk)| keys::blob(chunk.owner.blob)).collect();
        let mut placeless = Vec::new();
        for ((group, chunk), entry) in chunks.iter().zip(meta.get_many(&keys).await?) {
            let seen = match groups.entry(*group) {
                Occupied(seen) => seen.into_mut(),
                Vacant(new) => {
                    let is_known = trust::is_known(&self.store, *group).await?;
                    new.insert(Seen { is_known, unknown: 0 })
                }
            };
            let file = FileId::new(*group, chunk.id);
            let fence = match entry {
                None if !seen.is_known => {
                    seen.unknown += 1;
                    None
                }
                None => Some(Fence::Record(chunk.owner.blob)),
                Some(entry) => self.fence_of(chunk.owner.blob, &entry, chunk.owner.offset, file).await?,
            };
            placeless.extend(fence.map(|fence| Placeless { file, length: chunk.length, fence }));
        }
        Ok(placeless)
    }

    /// What keeps a blob that has a record from naming this chunk later; `None` where it names it, or may.
    async fn fence_of(
        &self,
        blob: BlobId,
        entry: &Entry,
        offset: u64,
        file: FileId,
    ) -> Result<Option<Fence>, BlobError> {
        // A record that can't be read keeps its chunks.
        let Ok(record) = decode::<BlobRecord>(entry) else { return Ok(None) };
        if !matches!(record.state(), State::Live | State::Dead) {
            return Ok(None);
        }
        let range: KeyRange = keys::layout_from(blob, offset);
        let page = self.store.meta().scan(range, 1).await?;
        let Some(entry) = page.entries.into_iter().next() else { return Ok(Some(Fence::Unneeded)) };
        let Ok(row) = decode::<LayoutRow>(&entry) else { return Ok(None) };
        let is_named = row.fragments().any(|fragment| fragment.offset == offset && fragment.file == file);
        Ok((!is_named).then_some(Fence::Row(entry)))
    }
}
