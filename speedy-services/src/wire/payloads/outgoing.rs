use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use prost::length_delimiter_len;
use tonic::Status;
use tonic::body::Body;

use super::{Cut, LONGEST_VARINT, Outgoing, PREFIX, RUN, put_field};
use crate::wire::{MAX_FRAME, MAX_MESSAGE};

/// Bytes of runs that are ready at the same time and leave in one message. Each message costs an HTTP/2 frame of its own, for
/// what stands before the payload.
const TOGETHER: usize = MAX_FRAME as usize;
/// Runs shorter than this are copied behind what stands before them: a frame of their own would cost more.
const SHORT: usize = 4 << 10;

/// Who sends, which decides how a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// An error breaks the stream off.
    Client,
    /// The status, an error's too, is in the trailers.
    Server,
}

/// The body of a call that sends these messages.
pub(crate) fn outgoing<M: Outgoing + Send + 'static>(
    messages: impl futures_util::Stream<Item = M> + Send + 'static,
) -> Body {
    Body::new(Sending::new(messages.map(Ok).boxed(), Side::Client))
}

/// The messages of a stream as a body of HTTP/2.
pub(super) struct Sending<M> {
    messages: BoxStream<'static, Result<M, Status>>,
    side: Side,
    /// What is to be sent before the stream is asked again.
    ready: VecDeque<Bytes>,
    /// Taken from the stream, and not to be joined to what is ready.
    held: Option<Cut>,
    end: Option<End>,
}

/// How the stream ended.
enum End {
    /// What is ready goes first.
    Due(Result<(), Status>),
    Said,
}

impl<M: Outgoing> Sending<M> {
    pub(super) fn new(messages: BoxStream<'static, Result<M, Status>>, side: Side) -> Self {
        Self { messages, side, ready: VecDeque::new(), held: None, end: None }
    }

    /// Makes the next message ready, or the end due.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut runs = Vec::new();
        let mut length = 0;
        loop {
            let next = match self.held.take() {
                Some(cut) => Some(Ok(cut)),
                None => match self.messages.poll_next_unpin(context) {
                    Poll::Ready(next) => next.map(|message| message.map(Outgoing::cut)),
                    Poll::Pending if runs.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                },
            };
            match next {
                Some(Ok(Cut::Run(run))) if runs.is_empty() || length + run.len() <= TOGETHER => {
                    length += run.len();
                    runs.push(run);
                }
                Some(Ok(cut)) if runs.is_empty() => {
                    self.make_ready(cut);
                    return Poll::Ready(());
                }
                Some(Ok(cut)) => {
                    self.held = Some(cut);
                    break;
                }
                Some(Err(status)) => {
                    self.end = Some(End::Due(Err(status)));
                    break;
                }
                None => {
                    self.end = Some(End::Due(Ok(())));
                    break;
                }
            }
        }
        if !runs.is_empty() {
            self.join(runs, length);
        }
        Poll::Ready(())
    }

    fn make_ready(&mut self, cut: Cut) {
        match cut {
            Cut::Run(run) => {
                let length = run.len();
                self.join(vec![run], length);
            }
            Cut::Whole(message) => {
                let Some(mut head) = self.begin(message.len()) else { return };
                self.put(&mut head, message);
                self.push(head);
            }
            Cut::Around { before, field, payload, after } => {
                let length =
                    before.len() + 1 + length_delimiter_len(payload.len()) + payload.len() + after.len();
                let Some(mut head) = self.begin(length) else { return };
                head.extend_from_slice(&before);
                put_field(&mut head, field, payload.len());
                self.put(&mut head, payload);
                head.unsplit(after);
                self.push(head);
            }
        }
    }

    /// One message of several runs.
    fn join(&mut self, runs: Vec<Bytes>, length: usize) {
        let Some(mut head) = self.begin(1 + length_delimiter_len(length) + length) else { return };
        put_field(&mut head, RUN, length);
        for run in runs {
            self.put(&mut head, run);
        }
        self.push(head);
    }

    /// What stands before a message; `None` where the message is longer than anybody takes.
    fn begin(&mut self, length: usize) -> Option<BytesMut> {
        if length > MAX_MESSAGE {
            let text = format!("a message of {length} bytes; the longest has {MAX_MESSAGE}");
            self.end = Some(End::Due(Err(Status::out_of_range(text))));
            return None;
        }
        let mut head = BytesMut::with_capacity(PREFIX + 1 + LONGEST_VARINT);
        head.put_u8(0);
        head.put_u32(length as u32);
        Some(head)
    }

    /// Puts bytes behind what is in `head`, which is sent first where they are long.
    fn put(&mut self, head: &mut BytesMut, bytes: Bytes) {
        if bytes.len() < SHORT {
            head.extend_from_slice(&bytes);
        } else {
            self.push(head.split());
            self.ready.push_back(bytes);
        }
    }

    fn push(&mut self, bytes: BytesMut) {
        if !bytes.is_empty() {
            self.ready.push_back(bytes.freeze());
        }
    }

    /// The last frame, if there is one.
    fn end(&mut self, end: Result<(), Status>) -> Option<Result<Frame<Bytes>, Status>> {
        match self.side {
            Side::Client => end.err().map(Err),
            Side::Server => {
                let status = end.err().unwrap_or_else(|| Status::ok(""));
                let mut trailers = HeaderMap::new();
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
        }
    }
}

impl<M: Outgoing> HttpBody for Sending<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match this.end.replace(End::Said) {
                Some(End::Due(end)) => return Poll::Ready(this.end(end)),
                Some(End::Said) => return Poll::Ready(None),
                None => this.end = None,
            }
            std::task::ready!(this.poll_ready(context));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && matches!(self.end, Some(End::Said))
    }
}
