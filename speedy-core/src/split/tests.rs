use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_stream_of::stream_of;

use super::*;
use crate::budget::Budget;
use crate::checksum::crc32c;

mod tokio_stream_of {
    use futures_util::stream::{self, Stream};

    use super::*;

    /// The receiving end of a channel as a stream.
    pub(super) fn stream_of(
        receiver: mpsc::UnboundedReceiver<Bytes>,
    ) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
        Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|bytes| (Ok(bytes), receiver))
        }))
    }
}

fn bytes_of(piece: &Piece) -> Vec<u8> {
    piece.payload.frames().concat()
}

fn options(size: u64) -> SplitOptions {
    SplitOptions::default().size(size).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_are_the_source_cut_at_the_size(
        runs in prop::collection::vec(0usize..20_000, 0..20),
        size in 1u64..30_000,
        fails in any::<bool>(),
    ) {
        let total: usize = runs.iter().sum();
        let all: Vec<u8> = (0..total).map(|i| (i / 7) as u8).collect();
        let mut at = 0;
        let mut source: Vec<Result<Bytes, &str>> = runs.iter().map(|run| {
            at += run;
            Ok(Bytes::copy_from_slice(&all[at - run..at]))
        }).collect();
        if fails {
            source.push(Err("broken"));
        }
        let budget = Budget::new(64 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut splitter = Splitter::new(stream::iter(source), 5, options(size), budget.clone());
            let (mut got, mut error) = (Vec::new(), None);
            while let Some(next) = splitter.next().await {
                match next {
                    Ok(piece) => {
                        assert_eq!(piece.offset, 5 + got.len() as u64);
                        let bytes = bytes_of(&piece);
                        assert!(!bytes.is_empty() && bytes.len() as u64 <= size);
                        assert!(bytes.len() as u64 == size || got.len() + bytes.len() == total);
                        assert_eq!(piece.payload.checksum(), crc32c(&bytes));
                        assert!(piece.reserved.bytes() >= bytes.len() as u64);
                        got.extend(bytes);
                    }
                    Err(text) => error = Some(text),
                }
            }
            assert_eq!(got, all);
            assert_eq!(error, fails.then_some("broken"));
            assert!(splitter.next().await.is_none());
        });
        prop_assert_eq!(budget.available(), budget.total());
    }
}

#[test]
fn sizes_that_a_chunk_cannot_have_are_refused() {
    for size in [0, MAX_FRAGMENT + 1] {
        assert!(SplitOptions::default().size(size).is_err());
    }
    assert!(SplitOptions::default().size(MAX_FRAGMENT).is_ok());
}

#[tokio::test]
async fn long_runs_are_not_copied() {
    let run = Bytes::from(vec![1; 100_000]);
    let start = run.as_ptr();
    let mut splitter =
        Splitter::new(stream::iter([Ok::<_, ()>(run)]), 0, options(1 << 20), Budget::default());
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!(piece.payload.frames()[0].as_ptr(), start);
}

#[tokio::test]
async fn tiny_runs_are_copied_together() {
    let source = stream::iter((0..10_000).map(|_| Ok::<_, ()>(Bytes::from_static(b"xyz"))));
    let mut splitter = Splitter::new(source, 0, options(1 << 20), Budget::default());
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!((piece.payload.len(), piece.payload.frames().len()), (30_000, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_source_gets_its_bytes_cut() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut splitter = Splitter::new(stream_of(receiver), 0, options(1000), Budget::default());
    sender.send(Bytes::from_static(b"early")).unwrap();
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!(bytes_of(&piece), b"early");
    // With nothing in hand it waits for as long as it takes.
    let waits = tokio::time::timeout(Duration::from_secs(3600), splitter.next()).await;
    assert!(waits.is_err());
    sender.send(Bytes::from_static(b"late")).unwrap();
    drop(sender);
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!((piece.offset, bytes_of(&piece)), (5, b"late".to_vec()));
    assert!(splitter.next().await.is_none());
}

/// A thousand uploads that sent something and then nothing hold no budget: the one that moves goes through.
#[tokio::test(start_paused = true)]
async fn stalled_uploads_leave_the_budget_to_those_that_move() {
    let budget = Budget::new(8 << 20);
    let mut stalled = Vec::new();
    for _ in 0..1000 {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(Bytes::from(vec![0; 100_000])).unwrap();
        let mut splitter = Splitter::new(stream_of(receiver), 0, options(4 << 20), budget.clone());
        let task = tokio::spawn(async move { while let Some(Ok(_written)) = splitter.next().await {} });
        stalled.push((sender, task));
    }
    let source = stream::iter((0..640).map(|_| Ok::<_, ()>(Bytes::from(vec![1; 100_000])))).boxed();
    let mut healthy = Splitter::new(source, 0, options(4 << 20), budget.clone());
    let mut received = 0;
    while let Some(Ok(piece)) = healthy.next().await {
        received += piece.payload.len();
    }
    assert_eq!(received, 64_000_000);
    assert!(stalled.iter().all(|(_, task)| !task.is_finished()));
}

/// A budget smaller than one fragment gives short fragments rather than none.
#[tokio::test]
async fn a_small_budget_gives_short_fragments() {
    let budget = Budget::new(300 * 1024);
    let source = stream::iter((0..40).map(|_| Ok::<_, ()>(Bytes::from(vec![1; 100_000])))).boxed();
    let mut splitter = Splitter::new(source, 0, options(4 << 20), budget.clone());
    let mut received = 0;
    while let Some(Ok(piece)) = splitter.next().await {
        assert!(piece.payload.len() <= 300 * 1024);
        received += piece.payload.len();
    }
    assert_eq!(received, 4_000_000);
    assert_eq!(budget.available(), budget.total());
}
