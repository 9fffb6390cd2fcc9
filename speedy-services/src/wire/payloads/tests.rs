//! Both ways are held against the codec of the library, which neighbours of other releases use.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use speedy_proto::chunk::v1::write_request::Part;
use speedy_proto::chunk::v1::{Blocks, Link, Owner, WriteHeader, WriteRequest};
use tonic::body::Body;
use tonic::codec::{EncodeBody, Streaming};
use tonic::{Code, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::outgoing::{Sending, Side};
use super::{Incoming, PREFIX, outgoing};
use crate::wire::MAX_MESSAGE;

fn message(part: Part) -> WriteRequest {
    WriteRequest { part: Some(part) }
}

fn run(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

fn header() -> WriteRequest {
    let link = Link { node: run(16), address: "host:7654".into(), is_optional: true };
    let owner = Some(Owner { blob: run(16), offset: 4 << 20 });
    let header =
        WriteHeader { id: 300, owner, length: 5, checksum: 7, chain: vec![link], ..Default::default() };
    message(Part::Header(header))
}

/// All of a body that is there at once: its data, and how it ended.
fn data_of<B>(body: B) -> (Bytes, Result<Option<Status>, Status>)
where
    B: HttpBody<Data = Bytes, Error = Status>,
{
    let mut body = std::pin::pin!(body);
    let mut data = BytesMut::new();
    let mut end = Ok(None);
    while let Some(frame) = body.frame().now_or_never().expect("it is all there") {
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => data.put(bytes),
            Ok(Err(frame)) => {
                let trailers = frame.into_trailers().expect("no data, so trailers");
                end = Ok(Status::from_header_map(&trailers));
            }
            Err(status) => end = Err(status),
        }
    }
    (data.freeze(), end)
}

fn ours(messages: Vec<WriteRequest>) -> Bytes {
    let (data, end) = data_of(outgoing(stream::iter(messages)));
    assert!(matches!(end, Ok(None)), "{end:?}");
    data
}

fn theirs<M: Message + 'static>(messages: Vec<M>) -> Bytes {
    let messages = stream::iter(messages).map(Ok);
    data_of(EncodeBody::new_client(ProstEncoder::default(), messages, None, Some(MAX_MESSAGE))).0
}

/// A body that comes in these frames.
fn body(frames: Vec<Bytes>) -> Body {
    Body::new(StreamBody::new(stream::iter(frames).map(|data| Ok::<_, Status>(Frame::data(data)))))
}

/// `data` in frames of these lengths, over and over.
fn cut(mut data: Bytes, lengths: &[usize]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while data.has_remaining() {
        let length = lengths.next().map_or(data.len(), |&length| length.min(data.len()));
        frames.push(data.split_to(length));
    }
    frames
}

type Received = (Vec<WriteRequest>, Result<(), Status>);

fn received(body: Body) -> Received {
    let mut incoming = Incoming::<WriteRequest>::new(body);
    let mut messages = Vec::new();
    loop {
        match incoming.message().now_or_never().expect("it is all there") {
            Ok(Some(message)) => messages.push(message),
            end => {
                let after = incoming.message().now_or_never();
                assert!(matches!(after, Some(Ok(None))), "nothing follows the end: {after:?}");
                return (messages, end.map(drop));
            }
        }
    }
}

fn received_by_theirs(body: Body) -> Received {
    let decoder = ProstDecoder::<WriteRequest>::default();
    let mut streaming = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE));
    let mut messages = Vec::new();
    loop {
        match streaming.message().now_or_never().expect("it is all there") {
            Ok(Some(message)) => messages.push(message),
            end => return (messages, end.map(drop)),
        }
    }
}

/// The same messages however runs are cut: those behind each other as one.
fn joined(messages: Vec<WriteRequest>) -> Vec<WriteRequest> {
    let mut joined: Vec<WriteRequest> = Vec::new();
    for next in messages {
        match (joined.last_mut().and_then(|last| last.part.as_mut()), next.part) {
            (Some(Part::Frame(last)), Some(Part::Frame(more))) => *last = [&last[..], &more].concat().into(),
            (_, part) => joined.push(WriteRequest { part }),
        }
    }
    joined
}

fn any_message() -> impl Strategy<Value = WriteRequest> {
    let lengths =
        prop_oneof![0usize..40, 100usize..300, 4090usize..4100, 16_300usize..16_500, 200_000usize..400_000];
    prop_oneof![
        6 => lengths.prop_map(|length| message(Part::Frame(run(length)))),
        1 => Just(header()),
        1 => ".{0,200}".prop_map(|why| message(Part::Abort(why))),
        1 => Just(WriteRequest { part: None }),
    ]
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1usize..20, 1..5), vec(1usize..20_000, 1..5), vec(1usize..300_000, 1..5)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_library_sends_is_understood_however_it_is_cut(
        messages in vec(any_message(), 0..8), lengths in lengths(),
    ) {
        let frames = cut(theirs(messages.clone()), &lengths);
        let (found, end) = received(body(frames));
        prop_assert!(end.is_ok(), "{end:?}");
        prop_assert_eq!(joined(found), joined(messages));
    }

    #[test]
    fn the_library_understands_what_is_sent(messages in vec(any_message(), 0..8)) {
        let (found, end) = received_by_theirs(body(vec![ours(messages.clone())]));
        prop_assert!(end.is_ok(), "{end:?}");
        prop_assert_eq!(joined(found), joined(messages));
    }

    #[test]
    fn one_message_is_the_same_to_the_byte(message in any_message()) {
        prop_assert_eq!(ours(vec![message.clone()]), theirs(vec![message]));
    }

    #[test]
    fn blocks_are_the_same_to_the_byte(
        offset in prop_oneof![Just(0), any::<u64>()],
        length in 0usize..300_000,
        checksums in vec(any::<u32>(), 0..5),
    ) {
        let blocks = Blocks { offset, data: run(length), checksums };
        let sent = Sending::new(stream::iter([Ok(blocks.clone())]).boxed(), Side::Client);
        prop_assert_eq!(data_of(sent).0, theirs(vec![blocks]));
    }

    /// Bytes of any kind: messages that are cut, changed or made up.
    #[test]
    fn nonsense_is_what_it_is_to_the_library(
        messages in vec(any_message(), 0..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        end in any::<prop::sample::Index>(),
        lengths in lengths(),
    ) {
        let mut data = theirs(messages).to_vec();
        for (at, value) in changes {
            // What stands before a payload is where it matters.
            let most = data.len().min(64);
            if most > 0 {
                data[at.index(most)] = value;
            }
        }
        data.truncate(end.index(data.len() + 1));
        let (mut found, end) = received(body(cut(data.clone().into(), &lengths)));
        let (mut expected, expected_end) = received_by_theirs(body(vec![data.into()]));
        match (&end, &expected_end) {
            (Err(status), Err(expected)) => prop_assert_eq!(status.code(), expected.code()),
            // The library takes a stream that ends right behind a prefix for one that is whole.
            (Err(status), Ok(())) => prop_assert_eq!(status.code(), Code::Internal),
            (end, expected) => prop_assert_eq!(end.is_ok(), expected.is_ok()),
        }
        // Of the message that broke off, part of its run may have been given out.
        if end.is_err() {
            let whole = |messages: &mut Vec<WriteRequest>| {
                let is_run = |message: &&WriteRequest| matches!(message.part, Some(Part::Frame(_)));
                let runs = messages.iter().rev().take_while(is_run).count();
                messages.truncate(messages.len() - runs);
            };
            whole(&mut found);
            whole(&mut expected);
        }
        prop_assert_eq!(joined(found), joined(expected));
    }
}

#[test]
fn streams_that_are_none_end_with_the_librarys_code() {
    let prefixed = |flag: u8, length: u32, rest: &[u8]| -> Bytes {
        [&[flag], &length.to_be_bytes()[..], rest].concat().into()
    };
    for (data, code, text) in [
        (prefixed(1, 1, b"x"), Code::Internal, "compressed"),
        (prefixed(7, 1, b"x"), Code::Internal, "out of step"),
        (prefixed(0, MAX_MESSAGE as u32 + 1, b""), Code::OutOfRange, "the longest has 4194304"),
        (prefixed(0, 3, &[0x0a, 9, 1]), Code::Internal, "decode"),
        (prefixed(0, 11, &[0x12; 11]), Code::Internal, "decode"),
        (prefixed(0, 12, &[&[0x12][..], &[0xff; 11]].concat()), Code::Internal, "decode"),
        (prefixed(0, 4, &[0x12, 2, 1]), Code::Internal, "in the middle"),
        (Bytes::from_static(&[0, 0]), Code::Internal, "in the middle"),
    ] {
        let end = received(body(vec![data.clone()])).1.unwrap_err();
        assert_eq!(end.code(), code, "{data:?}: {end}");
        assert!(end.message().contains(text), "{data:?}: {end}");
        let theirs = received_by_theirs(body(vec![data.clone()])).1.unwrap_err();
        assert_eq!(theirs.code(), code, "{data:?}: {theirs}");
    }
}

#[test]
fn a_run_with_something_beside_it_is_still_a_run() {
    // Field 9, which no release knows, behind the run and before it.
    for rest in [&[0x12, 2, b'a', b'b', 0x48, 1][..], &[0x48, 1, 0x12, 2, b'a', b'b'][..]] {
        let data = [&[0, 0, 0, 0, rest.len() as u8][..], rest].concat();
        let (found, end) = received(body(cut(data.into(), &[1])));
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(found, [message(Part::Frame(Bytes::from_static(b"ab")))]);
    }
}

#[test]
fn a_sender_that_goes_away_ends_the_stream_and_one_that_fails_breaks_it() {
    for (code, expected) in [(Code::Cancelled, None), (Code::Unavailable, Some(Code::Unavailable))] {
        let frames = [Ok(Frame::data(ours(vec![header()]))), Err(Status::new(code, "reset"))];
        let (found, end) = received(Body::new(StreamBody::new(stream::iter(frames))));
        assert_eq!(found, [header()]);
        assert_eq!(end.err().map(|status| status.code()), expected);
    }
}

#[test]
fn payloads_are_not_copied() {
    let payload = run(300_000);
    let held = payload.as_ptr_range();
    let short = run(10);
    let parts = [payload.slice(..100_000), short, payload.slice(100_000..)];
    let messages = parts.map(|part| message(Part::Frame(part)));
    let mut body = outgoing(stream::iter(messages));
    let mut sent = Vec::new();
    while let Some(frame) = body.frame().now_or_never().expect("it is all there") {
        sent.push(frame.unwrap().into_data().unwrap());
    }
    let lengths: Vec<usize> = sent.iter().map(Bytes::len).collect();
    // Both short enough for one message, then one of its own; the short one behind the first.
    assert_eq!(lengths, [PREFIX + 4, 100_000, 10, PREFIX + 4, 200_000]);
    assert!([1, 4].iter().all(|&at: &usize| held.contains(&sent[at].as_ptr())), "{lengths:?}");

    let (found, _) = received(self::body(sent));
    let kept = found.iter().filter(|message| match &message.part {
        Some(Part::Frame(run)) => held.contains(&run.as_ptr()),
        _ => false,
    });
    assert_eq!(kept.count(), 2);
}

#[test]
fn runs_that_are_ready_leave_together_and_none_waits_for_the_next() {
    let runs = stream::iter([10_000, 10_000].map(|length| message(Part::Frame(run(length)))));
    let mut body = outgoing(runs.chain(stream::pending()));
    let mut data = BytesMut::new();
    while let Some(frame) = body.frame().now_or_never() {
        data.put(frame.unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(data.freeze(), theirs(vec![message(Part::Frame([run(10_000), run(10_000)].concat().into()))]));
}

#[test]
fn an_answer_ends_with_its_status() {
    let blocks = |length| Blocks { offset: 0, data: run(length), checksums: vec![1] };
    let ends: [Result<Blocks, Status>; 2] = [Ok(blocks(1)), Err(Status::data_loss("damaged"))];
    for end in ends {
        let messages = || stream::iter([Ok(blocks(70_000)), end.clone()]);
        let (data, status) = data_of(Sending::new(messages().boxed(), Side::Server));
        let settings = Default::default();
        let encoder = ProstEncoder::default();
        let (their_data, their_status) =
            data_of(EncodeBody::new_server(encoder, messages(), None, settings, Some(MAX_MESSAGE)));
        assert_eq!(data, their_data);
        let said = |status: Result<Option<Status>, Status>| {
            let status = status.unwrap().expect("a status in the trailers");
            (status.code(), status.message().to_owned())
        };
        assert_eq!(said(status), said(their_status));
    }
}

#[test]
fn a_message_that_nobody_takes_is_not_sent() {
    for (side, in_trailers) in [(Side::Client, false), (Side::Server, true)] {
        let messages = stream::iter([Ok(message(Part::Frame(run(MAX_MESSAGE))))]);
        let (data, end) = data_of(Sending::new(messages.boxed(), side));
        assert!(data.is_empty());
        let status = if in_trailers { end.unwrap().unwrap() } else { end.unwrap_err() };
        assert_eq!(status.code(), Code::OutOfRange);
    }
}
