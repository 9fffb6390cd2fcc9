use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::cluster::{Cluster, metrics, read};
use super::{bytes, owner, payload};
use crate::checksum::BLOCK_SIZE;
use crate::id::{ChunkId, FileId, GroupId};
use crate::placement::MemberState;
use crate::replicate::ReplicationClient;
use crate::replicate::{FragmentError, Fragments};

const LEN: usize = 2_000_000;

/// A group of three with one chunk of [`LEN`] bytes.
async fn one_chunk() -> (Cluster, ReplicationClient, FileId) {
    let cluster = Cluster::new(1, 3);
    let client = cluster.client();
    let file = client.write(owner(1), payload(LEN)).await.unwrap();
    (cluster, client, file)
}

async fn read_all(client: &ReplicationClient, file: FileId) -> Result<bytes::Bytes, FragmentError> {
    read(client, file, 0..LEN as u64).await
}

#[tokio::test]
async fn reads_spread_over_the_members() {
    let (cluster, client, file) = one_chunk().await;
    for _ in 0..30 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    let counts: Vec<_> = (1..=3).map(|member| cluster.node(1, member).runs_read()).collect();
    assert_eq!(counts[0], counts[1]);
    assert_eq!(counts[0], counts[2]);
    assert_eq!(metrics(&client).bytes_read, 30 * LEN as u64);
}

#[tokio::test]
async fn members_that_are_down_are_passed_over_and_then_avoided() {
    let (cluster, client, file) = one_chunk().await;
    cluster.node(1, 1).faults(|faults| faults.down = true);
    cluster.node(1, 2).faults(|faults| faults.down = true);
    for _ in 0..10 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    assert!(metrics(&client).read_failovers <= 2, "{:?}", metrics(&client));
}

#[tokio::test]
async fn a_member_that_dies_in_mid_stream_is_replaced_at_the_exact_block() {
    let (cluster, client, file) = one_chunk().await;
    let start = 3 * BLOCK_SIZE as u64 + 5;
    for member in [1, 2] {
        cluster.node(1, member).faults(|faults| faults.break_reads_at = Some(1_000_000));
    }
    for _ in 0..3 {
        let found = read(&client, file, start..LEN as u64).await.unwrap();
        assert_eq!(found, bytes(LEN).slice(3 * BLOCK_SIZE..));
    }
    assert!(metrics(&client).read_failovers > 0);
    let metrics = metrics(&client);
    assert_eq!(metrics.bytes_read, 3 * (LEN - 3 * BLOCK_SIZE) as u64, "no byte is read twice");
}

#[tokio::test]
async fn damaged_blocks_come_from_other_replicas() {
    let (cluster, client, file) = one_chunk().await;
    // Each replica is damaged, none in the same place: the chunk is whole.
    for (member, byte) in [(1, 10), (2, 700_000), (3, LEN as u64 - 1)] {
        cluster.node(1, member).faults(|faults| faults.corrupt_byte = Some(byte));
    }
    for _ in 0..3 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    let metrics = metrics(&client);
    assert!(metrics.checksum_mismatches >= 3, "{metrics:?}");
    assert_eq!(metrics.checksum_mismatches, metrics.read_failovers);
}

#[tokio::test]
async fn a_block_that_is_damaged_everywhere_is_never_given_out() {
    let (cluster, client, file) = one_chunk().await;
    for node in cluster.nodes() {
        node.faults(|faults| faults.corrupt_byte = Some(700_000));
    }
    let mut blocks = client.read(file, 0..LEN as u64).await.unwrap();
    let mut position = 0;
    let error = loop {
        match blocks.next().await.unwrap() {
            Ok(run) => position += run.len(),
            Err(error) => break error,
        }
    };
    assert!(position <= 700_000);
    assert!(matches!(error, FragmentError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("at 1.2: chunk 1 is damaged: checksum mismatch"), "{error}");
    assert!(blocks.next().await.is_none());
    assert_eq!(metrics(&client).checksum_mismatches, 3);
    // A range that does not touch the block is served.
    let end = read(&client, file, 1_000_000..LEN as u64).await.unwrap();
    assert_eq!(end, bytes(LEN).slice(15 * BLOCK_SIZE..));
}

#[tokio::test]
async fn a_chunk_is_gone_only_if_every_holder_says_so() {
    let (cluster, client, file) = one_chunk().await;
    let unknown = FileId::new(file.group, ChunkId::new(999));
    assert_eq!(read(&client, unknown, 0..1).await, Err(FragmentError::NotFound(unknown)));
    cluster.node(1, 3).faults(|faults| faults.down = true);
    let error = read(&client, unknown, 0..1).await.unwrap_err();
    assert!(matches!(&error, FragmentError::Unavailable(text) if text.contains("at 1.3")), "{error:?}");
    let stranger = FileId::new(GroupId::new(77), file.chunk);
    let error = read(&client, stranger, 0..1).await.unwrap_err();
    assert!(matches!(error, FragmentError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn lost_members_are_asked_last() {
    let (cluster, client, file) = one_chunk().await;
    cluster.change(1, |group| group.members[0].state = MemberState::Lost);
    for _ in 0..6 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    assert_eq!(cluster.node(1, 1).runs_read(), 0);
    cluster.node(1, 2).faults(|faults| faults.down = true);
    cluster.node(1, 3).faults(|faults| faults.down = true);
    assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    assert!(cluster.node(1, 1).runs_read() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_stalls_is_left_after_the_progress_timeout() {
    let (cluster, client, file) = one_chunk().await;
    cluster.node(1, 1).faults(|faults| faults.hangs = true);
    cluster.node(1, 2).faults(|faults| faults.hang_reads_at = Some(1_000_000));
    // It is slow and never stalls: every run takes most of the time that is allowed.
    cluster.node(1, 3).faults(|faults| faults.delay = Duration::from_secs(9));
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    assert!(start.elapsed() > Duration::from_secs(90), "{:?}", start.elapsed());
    // Nobody fails the reader, and nobody who stalls is asked for every run.
    let metrics = metrics(&client);
    assert!((2..=6).contains(&metrics.read_failovers), "{metrics:?}");
}

#[tokio::test]
async fn no_replica_is_asked_for_more_than_is_taken() {
    let (cluster, client, file) = one_chunk().await;
    let mut blocks = client.read(file, 0..LEN as u64).await.unwrap();
    blocks.next().await.unwrap().unwrap();
    blocks.next().await.unwrap().unwrap();
    drop(blocks);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(cluster.nodes().map(|node| node.runs_read()).sum::<u64>(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_replica_is_overtaken_by_another_and_then_avoided() {
    let (cluster, client, file) = one_chunk().await;
    cluster.node(1, 2).faults(|faults| faults.hangs = true);
    let start = Instant::now();
    for _ in 0..12 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    // A third of the reads begin there, until it has lost three.
    let metrics = metrics(&client);
    assert_eq!((metrics.reads_hedged, metrics.read_failovers), (3, 0));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stalls_in_mid_stream_is_overtaken_too() {
    let (cluster, client, file) = one_chunk().await;
    for member in 1..=2 {
        cluster.node(1, member).faults(|faults| faults.hang_reads_at = Some(1_000_000));
    }
    let start = Instant::now();
    for _ in 0..6 {
        assert_eq!(read_all(&client, file).await.unwrap(), bytes(LEN));
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
