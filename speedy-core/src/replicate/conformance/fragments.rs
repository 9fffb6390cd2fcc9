//! What every [`Fragments`] must do.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::TryStreamExt;

use super::sample;
use crate::checksum::{BLOCK_SIZE, covering_blocks, crc32c};
use crate::id::{BlobId, ChunkId, FileId, Owner};
use crate::payload::Payload;
use crate::replicate::MAX_CHUNK_LEN;
use crate::replicate::{FragmentError, Fragments};

/// Runs all checks. Each gets fragments from `fresh` that hold nothing and can take some hundred MiB.
///
/// # Panics
/// If a check fails.
pub async fn run_all<F, Fut>(mut fresh: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Arc<dyn Fragments>>,
{
    what_is_written_is_read(&*fresh().await).await;
    bad_requests_are_refused(&*fresh().await).await;
    deleted_fragments_are_gone(&*fresh().await).await;
    lists_name_every_chunk_once(&*fresh().await).await;
}

fn owner(number: u64) -> Owner {
    Owner { blob: BlobId::from_bytes([number as u8; 16]), offset: number << 22 }
}

async fn write(fragments: &dyn Fragments, number: u64, data: &Bytes) -> FileId {
    let middle = data.len() / 3;
    let payload = Payload::new(vec![data.slice(..middle), data.slice(middle..)]);
    fragments.write(owner(number), payload).await.expect("a write")
}

async fn read(fragments: &dyn Fragments, file: FileId, range: Range<u64>) -> Result<Bytes, FragmentError> {
    let mut runs = fragments.read(file, range.clone()).await?;
    let start = covering_blocks(&range, u64::MAX).start;
    let mut data = Vec::new();
    while let Some(run) = runs.try_next().await? {
        assert_eq!(run.offset(), start + data.len() as u64, "blocks come in order and without gaps");
        data.extend_from_slice(&run.into_bytes().expect("blocks match their checksums"));
    }
    Ok(data.into())
}

async fn what_is_written_is_read(fragments: &dyn Fragments) {
    let block = BLOCK_SIZE as u64;
    let mut files = BTreeSet::new();
    for (number, length) in (1..).zip([1, block - 1, block, block + 1, 4 << 20, MAX_CHUNK_LEN]) {
        let data = sample(length as usize, number);
        let file = write(fragments, number, &data).await;
        assert!(files.insert(file), "each fragment has a chunk of its own");
        for range in [0..length, 0..1, length - 1..length, length / 2..length] {
            let blocks = covering_blocks(&range, length);
            if !range.is_empty() {
                let found = read(fragments, file, range.clone()).await.expect("a read");
                let expected = data.slice(blocks.start as usize..blocks.end as usize);
                assert!(found == expected, "bytes {range:?} of a fragment of {length}");
            }
        }
    }
}

async fn bad_requests_are_refused(fragments: &dyn Fragments) {
    let invalid = |result: Result<Bytes, FragmentError>| matches!(result, Err(FragmentError::Invalid(_)));
    let empty = fragments.write(owner(1), Payload::new(Vec::new())).await;
    assert!(matches!(empty, Err(FragmentError::Invalid(_))), "an empty fragment: {empty:?}");
    let data = sample(MAX_CHUNK_LEN as usize / 2 + 1, 1);
    let long = fragments.write(owner(1), Payload::new(vec![data.clone(), data])).await;
    assert!(matches!(long, Err(FragmentError::Invalid(_))), "a fragment above 64 MiB: {long:?}");
    let file = write(fragments, 2, &sample(1000, 2)).await;
    #[allow(clippy::reversed_empty_ranges, reason = "a reversed range is one of the bad ones")]
    for range in [0..0, 7..6, 0..1001, 1000..1001, 0..u64::MAX] {
        assert!(invalid(read(fragments, file, range.clone()).await), "bytes {range:?} of 1,000");
    }
}

async fn deleted_fragments_are_gone(fragments: &dyn Fragments) {
    let file = write(fragments, 1, &sample(100_000, 1)).await;
    let kept = write(fragments, 2, &sample(100_000, 2)).await;
    fragments.delete(file).await.expect("a delete");
    fragments.delete(file).await.expect("the same delete again");
    let unknown = FileId::new(kept.group, ChunkId::new(u64::MAX - 1));
    for gone in [file, unknown] {
        let result = read(fragments, gone, 0..1).await;
        assert_eq!(result, Err(FragmentError::NotFound(gone)), "a read of what is not there");
    }
    assert!(read(fragments, kept, 0..100_000).await.is_ok(), "the other fragment stays");
}

async fn lists_name_every_chunk_once(fragments: &dyn Fragments) {
    let mut expected = BTreeSet::new();
    for number in 1..=20 {
        let data = sample(1000 + number as usize, number);
        let file = write(fragments, number, &data).await;
        if number % 5 == 0 {
            fragments.delete(file).await.expect("a delete");
        } else {
            expected.insert((file, owner(number), data.len() as u64, crc32c(&data)));
        }
    }
    for limit in [1, 3, 100] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = fragments.list(cursor, limit).await.expect("a page");
            found.extend(page.chunks.iter().map(|(group, chunk)| {
                (FileId::new(*group, chunk.id), chunk.owner, chunk.length, chunk.checksum)
            }));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert!(found.is_sorted(), "in order of group and id");
        assert_eq!(found.len(), expected.len(), "each chunk once, by pages of {limit}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "by pages of {limit}");
    }
}
