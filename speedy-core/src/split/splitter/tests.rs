use std::io;

use futures_util::stream::{self, BoxStream};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::super::gather::BUFFER;
use super::*;
use crate::buffer::is_on_page;
use crate::checksum::crc32c;

type Source = BoxStream<'static, Result<Bytes, io::Error>>;

fn source(frames: Vec<Bytes>) -> Source {
    stream::iter(frames.into_iter().map(Ok)).boxed()
}

/// A source that sends what the test tells it to, and is silent otherwise.
fn channel() -> (mpsc::UnboundedSender<Result<Bytes, io::Error>>, Source) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let source = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    (sender, source.boxed())
}

fn options(fragment_size: u64) -> SplitOptions {
    SplitOptions::new().with_fragment_size(fragment_size).unwrap()
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into()
}

fn joined(payload: &Payload) -> Vec<u8> {
    payload.frames().concat()
}

#[tokio::test]
async fn an_empty_stream_has_no_piece() {
    let budget = Budget::new(1 << 20);
    let mut splitter = Splitter::new(source(vec![Bytes::new(), Bytes::new()]), budget.clone(), options(100));
    assert!(splitter.next().await.is_none());
    assert!(splitter.next().await.is_none());
    assert_eq!(budget.available(), budget.total());
}

#[tokio::test]
async fn a_piece_keeps_no_memory_of_its_source_alive() {
    let frame = bytes(300_000);
    let mut splitter =
        Splitter::starting_at(7_000, source(vec![frame.clone()]), Budget::default(), options(128 * 1024));
    let mut at = 0;
    while let Some(piece) = splitter.next().await {
        let piece = piece.unwrap();
        assert_eq!(piece.offset, 7_000 + at as u64);
        for part in piece.payload.frames() {
            assert_eq!(part, &frame[at..at + part.len()]);
            assert!(!frame.as_ptr_range().contains(&part.as_ptr()), "the frame is held");
            // Direct I/O carries all of it but a short end.
            assert!(is_on_page(part) || part.len() < BUFFER.bytes());
            at += part.len();
        }
        assert_eq!(piece.reservation.bytes(), piece.payload.len().next_multiple_of(1024));
    }
    assert_eq!(at, frame.len());
}

#[tokio::test]
async fn tiny_frames_do_not_pile_up() {
    let frames = vec![bytes(100); 20_000];
    let mut splitter = Splitter::new(source(frames.clone()), Budget::default(), options(4 << 20));
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!(joined(&piece.payload), frames.concat());
    assert!(
        piece.payload.frames().len() <= 2_000_000 / BUFFER.bytes() + 1,
        "{}",
        piece.payload.frames().len()
    );
}

#[tokio::test]
async fn what_came_before_an_error_is_given_out_first() {
    let frames = [Ok(bytes(150)), Ok(bytes(20)), Err(io::Error::other("reset")), Ok(bytes(5))];
    let mut splitter = Splitter::new(stream::iter(frames), Budget::default(), options(100));
    assert_eq!(splitter.next().await.unwrap().unwrap().payload.len(), 100);
    assert_eq!(splitter.next().await.unwrap().unwrap().payload.len(), 70);
    assert_eq!(splitter.next().await.unwrap().unwrap_err().to_string(), "reset");
    assert!(splitter.next().await.is_none());
}

#[tokio::test]
async fn memory_is_held_until_the_piece_is_dropped() {
    let budget = Budget::new(1 << 20);
    let mut splitter = Splitter::new(source(vec![bytes(200_000)]), budget.clone(), options(128 * 1024));
    let first = splitter.next().await.unwrap().unwrap();
    assert_eq!(first.reservation.bytes(), 128 * 1024);
    let second = splitter.next().await.unwrap().unwrap();
    assert!(splitter.next().await.is_none());
    assert_eq!(budget.available(), budget.total() - first.reservation.bytes() - second.reservation.bytes());
    drop((first, second));
    assert_eq!(budget.available(), budget.total());
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_silent_source_become_a_short_piece() {
    let budget = Budget::new(1 << 20);
    let (sender, body) = channel();
    let mut splitter = Splitter::new(body, budget.clone(), options(1000));
    sender.send(Ok(bytes(300))).unwrap();
    let start = Instant::now();
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!((piece.offset, piece.payload.len()), (0, 300));
    assert_eq!(start.elapsed().as_secs(), 2);
    drop(piece);
    // From then on the splitter waits without holding anything.
    assert!(timeout(Duration::from_secs(60), splitter.next()).await.is_err());
    assert!(timeout(Duration::from_secs(60), splitter.next()).await.is_err());
    {
        let mut next = Box::pin(splitter.next());
        assert!(timeout(TICK * 2, &mut next).await.is_err());
        assert_eq!(budget.available(), budget.total());
    }
    sender.send(Ok(bytes(1000))).unwrap();
    let piece = splitter.next().await.unwrap().unwrap();
    assert_eq!((piece.offset, piece.payload.len()), (300, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_looks_in_often_does_not_put_off_the_stall() {
    let (sender, body) = channel();
    let mut splitter = Splitter::new(body, Budget::default(), options(1000));
    sender.send(Ok(bytes(300))).unwrap();
    let start = Instant::now();
    let piece = loop {
        if let Ok(piece) = timeout(TICK / 4, splitter.next()).await {
            break piece.unwrap().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(3));
    };
    assert_eq!(piece.payload.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_gives_way_to_somebody_who_waits() {
    let budget = Budget::new(256 * 1024);
    let (sender, body) = channel();
    let mut splitter = Splitter::new(body, budget.clone(), options(1 << 20));
    sender.send(Ok(bytes(200_000))).unwrap();
    let start = Instant::now();
    let (piece, _all) = tokio::join!(
        async { splitter.next().await.unwrap().unwrap().payload.len() },
        budget.reserve(budget.total())
    );
    assert_eq!(piece, 200_000);
    assert!(start.elapsed() <= TICK * 2, "{:?}", start.elapsed());
}

/// Runs an upload whose pieces take a moment to store, one after another.
async fn upload(body: Source, budget: Budget, fragment_size: u64) -> (u64, usize) {
    let mut splitter = Splitter::new(body, budget, options(fragment_size));
    let (mut total, mut pieces) = (0, 0);
    while let Some(piece) = splitter.next().await {
        let piece = piece.unwrap();
        assert_eq!(piece.offset, total);
        assert!(piece.reservation.bytes() >= piece.payload.len());
        total += piece.payload.len();
        pieces += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (total, pieces)
}

#[tokio::test(start_paused = true)]
async fn uploads_that_want_more_than_the_budget_all_end() {
    let budget = Budget::new(1 << 20);
    let body = || source(vec![bytes(10_000); 500]);
    let uploads = (0..50).map(|_| tokio::spawn(upload(body(), budget.clone(), 4 << 20)));
    for upload in futures_util::future::join_all(uploads).await {
        assert_eq!(upload.unwrap().0, 5_000_000);
    }
    assert_eq!(budget.available(), budget.total());
}

#[tokio::test(start_paused = true)]
async fn one_upload_uses_a_budget_below_its_fragment_size_without_waiting() {
    let budget = Budget::new(512 * 1024);
    let start = Instant::now();
    let (total, pieces) = upload(source(vec![bytes(10_000); 500]), budget, 4 << 20).await;
    assert_eq!(total, 5_000_000);
    assert_eq!(start.elapsed(), Duration::from_millis(pieces as u64), "time passed other than in storing");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_stalled_uploads_do_not_stop_a_healthy_one() {
    let budget = Budget::new(16 << 20);
    let mut senders = Vec::new();
    let mut stalled = Vec::new();
    for _ in 0..1000 {
        let (sender, body) = channel();
        sender.send(Ok(bytes(40_000))).unwrap();
        senders.push(sender);
        stalled.push(tokio::spawn(upload(body, budget.clone(), 4 << 20)));
    }
    // They hold 1,000 x 40,000 bytes between them, more than twice the budget.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(budget.available() < STEP);
    let start = Instant::now();
    let (total, pieces) = upload(source(vec![bytes(100_000); 1000]), budget.clone(), 4 << 20).await;
    assert_eq!(total, 100_000_000);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(pieces <= 60, "{pieces} pieces where 24 would be full");
    drop(senders);
    for upload in stalled {
        assert_eq!(upload.await.unwrap().0, 40_000);
    }
    assert_eq!(budget.available(), budget.total());
}

#[test]
fn impossible_options_are_refused() {
    let options = SplitOptions::new();
    assert!(options.with_fragment_size(0).is_err());
    assert!(options.with_fragment_size(SplitOptions::MAX_FRAGMENT_SIZE + 1).is_err());
    assert!(options.with_fragment_size(SplitOptions::MAX_FRAGMENT_SIZE).is_ok());
    assert!(options.with_stall(Duration::ZERO).is_err());
    assert!(options.with_stall(Duration::from_secs(3601)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_are_the_stream_again(
        lengths in prop::collection::vec(0..20_000usize, 0..40),
        fragment_size in prop_oneof![1..2_000u64, 2_000..200_000u64],
        budget in 1..200_000u64,
    ) {
        let whole = bytes(lengths.iter().sum());
        let mut rest = whole.clone();
        let frames = lengths.iter().map(|&len| rest.split_to(len)).collect();
        let budget = Budget::new(budget);
        let mut splitter = Splitter::new(source(frames), budget.clone(), options(fragment_size));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut found = Vec::new();
        while let Some(piece) = runtime.block_on(splitter.next()) {
            let piece = piece.unwrap();
            let data = joined(&piece.payload);
            prop_assert_eq!(piece.offset, found.len() as u64);
            prop_assert_eq!(piece.payload.len(), data.len() as u64);
            prop_assert_eq!(piece.payload.checksum(), crc32c(&data));
            prop_assert!(!data.is_empty() && data.len() as u64 <= fragment_size);
            found.extend(data);
            let short = (piece.payload.len() < fragment_size) && found.len() < whole.len();
            prop_assert!(!short || fragment_size > budget.total() / 2, "a short piece with budget to spare");
        }
        prop_assert_eq!(&found, &whole);
        prop_assert_eq!(budget.available(), budget.total());
    }
}
