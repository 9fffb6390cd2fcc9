//! Streams of messages that carry payloads, past the codec of the gRPC library, which copies each byte twice in every
//! process: on the way in it joins HTTP/2 frames in a buffer of its own, and on the way out it writes each message into
//! another.
//!
//! Here a payload leaves as the bytes that somebody holds, behind a few bytes that say what they are, and comes in as the
//! runs in which HTTP/2 had it. What is on the wire is the same: `tests` holds both ways against the library's codec.
//! Messages are still cut and joined freely, as the contract allows: runs that are ready at the same time leave in one
//! message, and one message may come in as several runs.
//!
//! All else stays the library's: the generated clients and servers make the call, its headers, its deadline, its
//! status and the small message that answers it. They are given an empty body, and the real one goes beside them:
//! * [`Instead`] is a connection for one call, which puts the call's body in the place of the empty one.
//! * [`PayloadService`] is a service whose calls with payloads find their body through [`Incoming::of`], and
//!   may answer with one of their own ([`answer`]).

mod beside;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub use beside::PayloadService;
pub(crate) use beside::{Instead, answer};
pub(crate) use incoming::Incoming;
pub(crate) use outgoing::outgoing;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use speedy_proto::chunk::v1 as chunk;
use speedy_proto::image::v1 as image;

/// Before each message: whether it is compressed, which none here is, and its length in four bytes.
const PREFIX: usize = 5;
/// Longest form of a length in a message.
const LONGEST_VARINT: usize = 10;

/// The byte before a field that has a length: a field number below 16.
const fn key(field: u8) -> u8 {
    field << 3 | 2
}

/// The field of a run, in each message that is [`Carrier`].
const RUN: u8 = 2;

/// A message that is cut without a copy.
pub(crate) enum Cut {
    /// A run of a payload. What follows it may be joined to it.
    Run(Bytes),
    /// A message with a payload inside.
    Around {
        /// The fields before it.
        before: BytesMut,
        /// The number of its field.
        field: u8,
        payload: Bytes,
        /// The fields behind it.
        after: BytesMut,
    },
    /// Another message, whole.
    Whole(Bytes),
}

/// A message that can leave in pieces.
pub(crate) trait Outgoing {
    /// Its pieces.
    fn cut(self) -> Cut;
}

/// A message that is either a run of a payload, in field [`RUN`] and with nothing beside it, or something else.
pub(crate) trait Carrier: Message + Default {
    /// The message of a run.
    fn of_run(run: Bytes) -> Self;
}

impl Carrier for chunk::WriteRequest {
    fn of_run(run: Bytes) -> Self {
        Self { part: Some(chunk::write_request::Part::Frame(run)) }
    }
}

impl Outgoing for chunk::WriteRequest {
    fn cut(self) -> Cut {
        match self.part {
            Some(chunk::write_request::Part::Frame(run)) => Cut::Run(run),
            part => Cut::Whole(Self { part }.encode_to_vec().into()),
        }
    }
}

impl Carrier for image::WriteRequest {
    fn of_run(run: Bytes) -> Self {
        Self { part: Some(image::write_request::Part::Frame(run)) }
    }
}

impl Outgoing for image::WriteRequest {
    fn cut(self) -> Cut {
        match self.part {
            Some(image::write_request::Part::Frame(run)) => Cut::Run(run),
            part => Cut::Whole(Self { part }.encode_to_vec().into()),
        }
    }
}

impl Outgoing for chunk::Blocks {
    fn cut(mut self) -> Cut {
        if self.data.is_empty() {
            return Cut::Whole(self.encode_to_vec().into());
        }
        let payload = std::mem::take(&mut self.data);
        let checksums = std::mem::take(&mut self.checksums);
        let encode = |message: &Self| {
            let mut fields = BytesMut::with_capacity(message.encoded_len());
            message.encode(&mut fields).map(|()| fields).unwrap_or_default()
        };
        let before = encode(&self);
        let after = encode(&Self { checksums, ..Self::default() });
        Cut::Around { before, field: 2, payload, after }
    }
}

/// Puts the head of a field with a length.
fn put_field(buffer: &mut BytesMut, field: u8, length: usize) {
    buffer.put_u8(key(field));
    put_length(buffer, length);
}

fn put_length(buffer: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        buffer.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    buffer.put_u8(length as u8);
}
