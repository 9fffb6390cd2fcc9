use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Carrier, LONGEST_VARINT, PREFIX, RUN, key};
use crate::wire::MAX_MESSAGE;

/// The messages of a call, as they come in.
///
/// A run of a payload is given out as it comes, in as many messages as there are pieces of it; any other message when all of
/// it is there. What does not fit its length, breaks off in the middle or is too long is an error, with the code
/// that the library has for it, and the last that comes.
#[derive(Debug)]
pub(crate) struct Incoming<M> {
    body: Body,
    /// What came last, and is not given out yet.
    frame: Bytes,
    /// The beginning of what is read: a prefix, or the key and the length of a message's first field.
    head: Head,
    state: State,
    messages: PhantomData<fn() -> M>,
}

#[derive(Debug)]
enum State {
    /// Before a message.
    Prefix,
    /// In a message of this length, of which it is not known yet whether it is a run.
    Key { length: usize },
    /// In a run, of which so much is still to come.
    Run { left: usize },
    /// In another message.
    Other { length: usize, message: BytesMut },
    /// Nothing more is read.
    Over,
}

impl<M: Carrier> Incoming<M> {
    pub(super) fn new(body: Body) -> Self {
        let (frame, head) = (Bytes::new(), Head::default());
        Self { body, frame, head, state: State::Prefix, messages: PhantomData }
    }

    /// The next message, or part of a run; `None` when the sender is done, or went away.
    ///
    /// # Errors
    /// Where the stream breaks off, or is no stream of such messages.
    pub(crate) async fn message(&mut self) -> Result<Option<M>, Status> {
        let polled = poll_fn(|context| self.poll_message(context)).await;
        if !matches!(polled, Ok(Some(_))) {
            self.state = State::Over;
        }
        polled
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<M>, Status>> {
        loop {
            if let Some(message) = self.step()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if matches!(self.state, State::Over) {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.frame = data,
                    // Trailers.
                    Err(_) => return Poll::Ready(self.end()),
                },
                // The sender went away, which ends a stream as its end does.
                Some(Err(status)) if status.code() == Code::Cancelled => return Poll::Ready(Ok(None)),
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => return Poll::Ready(self.end()),
            }
        }
    }

    fn end(&self) -> Result<Option<M>, Status> {
        match self.state {
            State::Prefix if self.head.is_empty() => Ok(None),
            _ => Err(Status::internal("the stream ended in the middle of a message")),
        }
    }

    /// Goes on in what is there, up to a message; `None` where there is none yet.
    fn step(&mut self) -> Result<Option<M>, Status> {
        loop {
            match &mut self.state {
                State::Over => return Ok(None),
                State::Prefix => {
                    while self.head.len() < PREFIX {
                        let Some(byte) = next_byte(&mut self.frame) else { return Ok(None) };
                        self.head.push(byte);
                    }
                    let length = length_of(self.head.bytes())?;
                    self.head.clear();
                    self.state = State::Key { length };
                }
                State::Key { length } => {
                    let length = *length;
                    self.state = match first_field(self.head.bytes(), length) {
                        First::Run(left) => State::Run { left },
                        First::Other => {
                            // As much as there is: a length is no reason yet to hold that much.
                            let mut message =
                                BytesMut::with_capacity(length.min(self.frame.len() + self.head.len()));
                            message.extend_from_slice(self.head.bytes());
                            State::Other { length, message }
                        }
                        First::Unknown => {
                            let Some(byte) = next_byte(&mut self.frame) else { return Ok(None) };
                            self.head.push(byte);
                            continue;
                        }
                    };
                    self.head.clear();
                    // A run of nothing is a message too.
                    if matches!(self.state, State::Run { left: 0 }) {
                        self.state = State::Prefix;
                        return Ok(Some(M::of_run(Bytes::new())));
                    }
                }
                State::Run { left } => {
                    if self.frame.is_empty() {
                        return Ok(None);
                    }
                    let run = self.frame.split_to(self.frame.len().min(*left));
                    *left -= run.len();
                    if *left == 0 {
                        self.state = State::Prefix;
                    }
                    return Ok(Some(M::of_run(run)));
                }
                State::Other { length, message } => {
                    let more = self.frame.split_to(self.frame.len().min(*length - message.len()));
                    message.extend_from_slice(&more);
                    if message.len() < *length {
                        return Ok(None);
                    }
                    let message = std::mem::take(message).freeze();
                    self.state = State::Prefix;
                    return M::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()));
                }
            }
        }
    }
}

fn next_byte(frame: &mut Bytes) -> Option<u8> {
    frame.has_remaining().then(|| frame.get_u8())
}

/// The length of the message behind a prefix.
fn length_of(prefix: &[u8]) -> Result<usize, Status> {
    match prefix {
        [0, length @ ..] => {
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            if length > MAX_MESSAGE {
                let text = format!("a message of {length} bytes; the longest has {MAX_MESSAGE}");
                return Err(Status::out_of_range(text));
            }
            Ok(length)
        }
        // A call that names a compression was refused before its first message.
        [1, ..] => Err(Status::internal("a message is compressed, and the call did not say how")),
        _ => Err(Status::internal("the stream is out of step: no message begins where one should")),
    }
}

/// What the first field of a message is.
enum First {
    /// A run that is all of the message.
    Run(usize),
    /// Anything else.
    Other,
    /// It takes another byte to know.
    Unknown,
}

/// What a message of `length` bytes that begins with `head` is.
fn first_field(head: &[u8], length: usize) -> First {
    let Some((&first, mut varint)) = head.split_first() else {
        return if length == 0 { First::Other } else { First::Unknown };
    };
    if first != key(RUN) {
        return First::Other;
    }
    let is_whole = varint.last().is_some_and(|&byte| byte < 0x80);
    if !is_whole {
        let is_too_long = head.len() == length || varint.len() == LONGEST_VARINT;
        return if is_too_long { First::Other } else { First::Unknown };
    }
    match prost::decode_length_delimiter(&mut varint) {
        Ok(run) if head.len().checked_add(run) == Some(length) => First::Run(run),
        _ => First::Other,
    }
}

/// A few bytes.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; 1 + LONGEST_VARINT],
    len: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn clear(&mut self) {
        self.len = 0;
    }
}
