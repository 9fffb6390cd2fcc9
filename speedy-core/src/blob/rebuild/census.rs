//! All chunks that there are, counted first, and then listed in parts that fit in memory.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::blob::{BlobError, Fragment};
use crate::id::{BlobId, FileId, GroupId};
use crate::replicate::{ChunkStat, Fragments};

/// Chunks listed at once.
const PAGE: usize = 1000;
/// Chunks in memory at once, of 64 bytes each, unless one blob has more.
const MOST: u64 = 1_000_000;

/// A chunk, and the blob that it is a fragment of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) blob: BlobId,
    pub(super) fragment: Fragment,
}

/// How many chunks there are.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) groups: BTreeSet<GroupId>,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    /// By the last two bytes of their blobs' ids, which are random. The first ones are the time.
    by_suffix: Vec<u32>,
}

fn suffix(blob: BlobId) -> u16 {
    let bytes = blob.as_bytes();
    u16::from_be_bytes([bytes[14], bytes[15]])
}

/// Calls `each` with every chunk.
async fn list(fragments: &dyn Fragments, mut each: impl FnMut(GroupId, &ChunkStat)) -> Result<(), BlobError> {
    let mut cursor = None;
    loop {
        let page = fragments.list(cursor, PAGE).await;
        let page =
            page.map_err(|error| BlobError::Unavailable(format!("chunks cannot be listed: {error}")))?;
        page.chunks.iter().for_each(|(group, chunk)| each(*group, chunk));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

impl Census {
    pub(super) async fn take(fragments: &dyn Fragments) -> Result<Self, BlobError> {
        let mut census = Self { groups: BTreeSet::new(), chunks: 0, bytes: 0, by_suffix: vec![0; 1 << 16] };
        list(fragments, |group, chunk| {
            census.groups.insert(group);
            census.chunks += 1;
            census.bytes += chunk.length;
            let count = &mut census.by_suffix[usize::from(suffix(chunk.owner.blob))];
            *count = count.saturating_add(1);
        })
        .await?;
        Ok(census)
    }

    /// Ranges of suffixes that cover all, each of few enough chunks.
    pub(super) fn parts(&self) -> Vec<RangeInclusive<u16>> {
        self.parts_of(MOST)
    }

    fn parts_of(&self, most: u64) -> Vec<RangeInclusive<u16>> {
        let (mut parts, mut start, mut held) = (Vec::new(), 0, 0);
        for (suffix, count) in (0..=u16::MAX).zip(&self.by_suffix) {
            let count = u64::from(*count);
            if held > 0 && held + count > most {
                parts.push(start..=suffix - 1);
                (start, held) = (suffix, 0);
            }
            held += count;
        }
        if held > 0 {
            parts.push(start..=u16::MAX);
        }
        parts
    }
}

/// The chunks of blobs whose ids end like this.
pub(super) async fn chunks_of(
    fragments: &dyn Fragments,
    suffixes: RangeInclusive<u16>,
) -> Result<Vec<Chunk>, BlobError> {
    let mut chunks = Vec::new();
    list(fragments, |group, chunk| {
        if suffixes.contains(&suffix(chunk.owner.blob)) {
            let fragment = Fragment {
                offset: chunk.owner.offset,
                length: chunk.length,
                file: FileId::new(group, chunk.id),
                checksum: chunk.checksum,
            };
            chunks.push(Chunk { blob: chunk.owner.blob, fragment });
        }
    })
    .await?;
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once_and_are_small() {
        let mut census = Census { groups: BTreeSet::new(), chunks: 0, bytes: 0, by_suffix: vec![3; 1 << 16] };
        // One blob, or a few, with more than a part should have.
        census.by_suffix[77] = 5000;
        let parts = census.parts_of(100);
        let mut next = 0u32;
        for part in &parts {
            assert_eq!(u32::from(*part.start()), next);
            next = u32::from(*part.end()) + 1;
            let held: u32 = part.clone().map(|suffix| census.by_suffix[usize::from(suffix)]).sum();
            assert!(held <= 100 || part.start() == part.end(), "{part:?} has {held}");
        }
        assert_eq!(next, 1 << 16);
        census.by_suffix.fill(0);
        assert_eq!(census.parts_of(100), []);
    }
}
