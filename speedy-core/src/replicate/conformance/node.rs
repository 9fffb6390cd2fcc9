use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::sample;
use crate::checksum::{BLOCK_SIZE, covering_blocks, crc32c};
use crate::id::{BlobId, ChunkId, GroupVersion, Owner};
use crate::payload::{BodyError, Frames};
use crate::replicate::{ChunkNode, MAX_CHUNK_LEN, NodeError, WriteHeader};

const VERSION: GroupVersion = GroupVersion::new(1);
const BLOCK: u64 = BLOCK_SIZE as u64;

fn id(number: u64) -> ChunkId {
    ChunkId::new(number)
}

fn owner(number: u64) -> Owner {
    Owner { blob: BlobId::from_bytes([number as u8; 16]), offset: number << 22 }
}

fn header(number: u64, data: &[u8]) -> WriteHeader {
    WriteHeader::new(id(number), owner(number), data.len() as u64, crc32c(data), VERSION)
}

/// The data in frames of uneven lengths.
fn frames(data: &Bytes) -> Frames {
    let mut rest = data.clone();
    let mut frames = Vec::new();
    for len in [1, 4095, 70_001, 256 * 1024].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        frames.push(Ok(rest.split_to(len.min(rest.len()))));
    }
    stream::iter(frames).boxed()
}

async fn write(node: &dyn ChunkNode, number: u64, data: &Bytes) -> Result<(), NodeError> {
    node.write(header(number, data), frames(data)).await.map(drop)
}

/// The whole blocks that hold a range, checked for order and for gaps. An error may come at once or in the stream.
async fn read(node: &dyn ChunkNode, number: u64, range: Range<u64>) -> Result<Bytes, NodeError> {
    let mut runs = node.read(id(number), range.clone()).await?;
    let start = covering_blocks(&range, u64::MAX).start;
    let mut data = Vec::new();
    while let Some(run) = runs.try_next().await? {
        assert_eq!(run.offset(), start + data.len() as u64, "blocks come in order and without gaps");
        assert!(!run.is_empty(), "no item of a read is empty");
        data.extend_from_slice(&run.into_bytes().expect("blocks match their checksums"));
    }
    Ok(data.into())
}

/// Asserts that a chunk was never written, as far as anybody can see.
async fn assert_absent(node: &dyn ChunkNode, number: u64) {
    assert_eq!(
        node.stat(id(number)).await,
        Err(NodeError::NotFound(id(number))),
        "stat of what is not there"
    );
    assert_eq!(
        read(node, number, 0..1).await,
        Err(NodeError::NotFound(id(number))),
        "read of what is not there"
    );
    let page = node.list(None, 100).await.expect("a list");
    assert!(page.chunks.iter().all(|chunk| chunk.id != id(number)), "a list names what is not there");
}

pub(super) async fn whole_chunks_and_ranges(node: &dyn ChunkNode) {
    let lengths = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 77, 1 << 20];
    for (number, length) in (1u64..).zip(lengths) {
        let data = sample(length as usize, number);
        write(node, number, &data).await.expect("a write");
        let stat = node.stat(id(number)).await.expect("a stat");
        let found = (stat.id, stat.owner, stat.length, stat.checksum);
        assert_eq!(found, (id(number), owner(number), length, crc32c(&data)), "the stat of what was written");
        let edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, length / 2, length - 1, length];
        for start in edges {
            for end in edges {
                if start < end && end <= length {
                    let blocks = covering_blocks(&(start..end), length);
                    let expected = data.slice(blocks.start as usize..blocks.end as usize);
                    let found = read(node, number, start..end).await.expect("a read");
                    assert!(found == expected, "bytes {start}..{end} of a chunk of {length}");
                }
            }
        }
    }
}

pub(super) async fn the_largest_chunk(node: &dyn ChunkNode) {
    let data = sample(MAX_CHUNK_LEN as usize, 1);
    write(node, 1, &data).await.expect("a write of 64 MiB");
    assert!(read(node, 1, 0..MAX_CHUNK_LEN).await.expect("a read of 64 MiB") == data, "64 MiB come back");
}

pub(super) async fn a_write_can_be_retried(node: &dyn ChunkNode) {
    let data = sample(100_000, 1);
    write(node, 1, &data).await.expect("a write");
    write(node, 1, &data).await.expect("the same bytes under the same id again");
    for other in [sample(100_000, 2), data.slice(..99_999), sample(200_000, 1)] {
        let refused = write(node, 1, &other).await;
        assert_eq!(refused, Err(NodeError::Conflict(id(1))), "other bytes under the same id");
    }
    assert!(read(node, 1, 0..100_000).await.expect("a read") == data, "the first bytes stay");
    assert_eq!(node.list(None, 10).await.expect("a list").chunks.len(), 1, "one chunk for one id");
}

pub(super) async fn bad_bodies_leave_nothing(node: &dyn ChunkNode) {
    let data = sample(150_000, 1);
    let broken = || {
        let parts = [Ok(data.slice(..70_000)), Err(BodyError("the client went away".into()))];
        stream::iter(parts).boxed()
    };
    let empty = || stream::iter([]).boxed();
    let bodies: [(&str, Frames); 6] = [
        ("one byte short", frames(&data.slice(..149_999))),
        ("empty", empty()),
        ("one byte long", frames(&sample(150_001, 1))),
        ("twice as long", frames(&sample(300_000, 1))),
        ("broken off", broken()),
        ("of the right length with another checksum", frames(&sample(150_000, 2))),
    ];
    for (number, (what, body)) in (1..).zip(bodies) {
        let result = node.write(header(number, &data), body).await;
        assert!(matches!(result, Err(NodeError::Body(_))), "a body {what}: {result:?}");
        assert_absent(node, number).await;
        write(node, number, &data).await.expect("the right body after a bad one");
    }
}

pub(super) async fn another_version_is_refused(node: &dyn ChunkNode) {
    let data = sample(10, 1);
    for version in [0, 2] {
        let version = GroupVersion::new(version);
        let refused = Err(NodeError::WrongVersion { current: VERSION });
        let header = WriteHeader { version, ..header(1, &data) };
        let written = node.write(header, frames(&data)).await.map(drop);
        assert_eq!(written, refused, "a write of {version:?}");
        assert_absent(node, 1).await;
        assert_eq!(node.delete(id(2), version).await, refused, "a delete of {version:?}");
    }
    write(node, 1, &data).await.expect("a write of the right version after a wrong one");
    write(node, 2, &data).await.expect("a write of an id whose delete was refused");
}

pub(super) async fn bad_lengths_are_refused(node: &dyn ChunkNode) {
    let data = sample(10, 1);
    for length in [0, MAX_CHUNK_LEN + 1, u64::MAX] {
        let header = WriteHeader { length, ..header(1, &data) };
        let result = node.write(header, frames(&data)).await;
        assert!(matches!(result, Err(NodeError::Invalid(_))), "a chunk of {length} bytes: {result:?}");
        assert_absent(node, 1).await;
    }
}

pub(super) async fn bad_ranges_are_refused(node: &dyn ChunkNode) {
    let data = sample(100_000, 1);
    write(node, 1, &data).await.expect("a write");
    #[allow(clippy::reversed_empty_ranges, reason = "a reversed range is one of the bad ones")]
    for range in [0..0, 5..5, 6..5, 0..100_001, 100_000..100_001, 99_999..u64::MAX, u64::MAX..u64::MAX] {
        let result = read(node, 1, range.clone()).await;
        assert!(matches!(result, Err(NodeError::Invalid(_))), "bytes {range:?} of 100,000: {result:?}");
    }
    assert!(read(node, 1, 0..100_000).await.is_ok(), "the node goes on after bad ranges");
}

pub(super) async fn unknown_chunks_are_not_found(node: &dyn ChunkNode) {
    assert_absent(node, 1).await;
    let page = node.list(None, 10).await.expect("a list");
    assert!(page.chunks.is_empty() && !page.more, "an empty node lists nothing: {page:?}");
    assert_absent(node, u64::MAX).await;
}

pub(super) async fn deletes_are_final(node: &dyn ChunkNode) {
    let data = sample(100_000, 1);
    write(node, 1, &data).await.expect("a write");
    write(node, 2, &data).await.expect("a write");
    for number in [1, 3] {
        node.delete(id(number), VERSION).await.expect("a delete, of an unknown id too");
        node.delete(id(number), VERSION).await.expect("the same delete again");
        let gone = |error: &NodeError| matches!(error, NodeError::Deleted(_) | NodeError::NotFound(_));
        assert!(read(node, number, 0..1).await.is_err_and(|error| gone(&error)), "read of a deleted chunk");
        assert!(node.stat(id(number)).await.is_err_and(|error| gone(&error)), "stat of a deleted chunk");
        let refused = write(node, number, &data).await;
        assert_eq!(refused, Err(NodeError::Deleted(id(number))), "a write of a deleted id");
    }
    let listed: Vec<_> =
        node.list(None, 10).await.expect("a list").chunks.iter().map(|chunk| chunk.id).collect();
    assert_eq!(listed, [id(2)], "a list after deletes");
    assert!(read(node, 2, 0..100_000).await.expect("a read") == data, "the other chunk stays");
}

pub(super) async fn lists_go_by_pages(node: &dyn ChunkNode) {
    let numbers = [40, 7, 1 << 40, 8, 9, u64::MAX - 1];
    for number in numbers {
        write(node, number, &sample(number as usize % 100 + 1, number)).await.expect("a write");
    }
    let mut expected = numbers;
    expected.sort_unstable();
    for limit in [1, 2, 3, 5, 6, 100] {
        let mut found = Vec::new();
        loop {
            let page = node.list(found.last().map(|&number| id(number)), limit).await.expect("a page");
            assert!(page.chunks.len() <= limit, "a page of at most {limit}");
            assert!(!page.chunks.is_empty(), "a page is empty only where nothing is left");
            for chunk in &page.chunks {
                assert_eq!(chunk.owner, owner(chunk.id.get()), "the owner in a list");
                assert_eq!(chunk.length, chunk.id.get() % 100 + 1, "the length in a list");
                assert_eq!(Ok(*chunk), node.stat(chunk.id).await, "a list says what stat says");
            }
            found.extend(page.chunks.iter().map(|chunk| chunk.id.get()));
            if !page.more {
                break;
            }
        }
        assert_eq!(found, expected, "all chunks in order, by pages of {limit}");
    }
    let page = node.list(Some(id(8)), 1).await.expect("a page");
    assert_eq!((page.chunks[0].id, page.more), (id(9), true), "what follows an id");
    let page = node.list(Some(id(10)), 1).await.expect("a page");
    assert_eq!(page.chunks[0].id, id(40), "what follows an id that is not there");
    let page = node.list(Some(id(u64::MAX)), 1).await.expect("a page");
    assert!(page.chunks.is_empty() && !page.more, "nothing follows the last id");
}

pub(super) async fn writers_of_one_id(node: &dyn ChunkNode) {
    for number in 1..=10 {
        let (one, other) = (sample(300_000, number), sample(300_000, number + 100));
        let (first, second) = tokio::join!(write(node, number, &one), write(node, number, &other));
        let kept = match (&first, &second) {
            (Ok(()), Err(NodeError::Conflict(_) | NodeError::Unavailable(_))) => one,
            (Err(NodeError::Conflict(_) | NodeError::Unavailable(_)), Ok(())) => other,
            both => panic!("of two writers of one id one wins and the other hears of a conflict: {both:?}"),
        };
        assert!(read(node, number, 0..300_000).await.expect("a read") == kept, "the winner's bytes are read");
        let again = write(node, number, &kept).await;
        assert_eq!(again, Ok(()), "the winner's bytes again");
    }
}

pub(super) async fn a_dropped_write_leaves_nothing(node: &dyn ChunkNode) {
    let data = sample(300_000, 1);
    for number in 1..=3 {
        let part = data.slice(..100_000 * (number as usize - 1));
        let body = frames(&part).chain(stream::pending()).boxed();
        let write_and_drop =
            tokio::time::timeout(Duration::from_millis(100), node.write(header(number, &data), body));
        assert!(write_and_drop.await.is_err(), "a write whose body does not end does not return");
        assert_absent(node, number).await;
    }
    // A remote node hears a moment later that the writer went away; until then it may hold on to the id.
    for number in 1..=3 {
        let mut result = write(node, number, &data).await;
        for _ in 0..50 {
            if !matches!(result, Err(NodeError::Unavailable(_))) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            result = write(node, number, &data).await;
        }
        result.expect("a write of an id whose first writer went away");
        assert!(read(node, number, 0..300_000).await.expect("a read") == data, "the second writer's bytes");
    }
}
