//! What every gRPC service and client here shares: connections, failover, errors and the form of payloads.

mod blocks;
mod calls;
mod connections;
mod errors;
mod failover;
mod figures;
mod frames;
mod health;
mod ids;
mod payloads;
mod server;

pub(crate) use blocks::{blocks_from_wire, blocks_to_wire};
pub(crate) use calls::{Connection, REQUEST_ID, meant_for};
pub(crate) use connections::{Peer, unary};
pub(crate) use errors::WireError;
pub(crate) use failover::{Choice, Patience, Peers};
pub(crate) use figures::PeerFigures;
pub(crate) use frames::{FRAME_PATIENCE, pieces, within};
pub(crate) use health::{Health, HealthOf};
pub(crate) use ids::{
    link_from_wire, link_to_wire, owner_from_wire, owner_to_wire, stat_from_wire, stat_to_wire,
};
pub use payloads::PayloadService;
pub(crate) use payloads::{Incoming, Instead, answer, outgoing};
pub use server::{serve, serve_counted};

use std::time::Duration;

/// Largest run of payload bytes in one message. Larger messages are slower: they fill the windows in bursts.
pub(crate) const MAX_RUN: usize = 1 << 20;
/// Largest message that carries one such run, or a request of the metadata store: room for a header of any kind.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
/// HTTP/2 flow control window of a stream, both ends: what lies here of a stream that nobody reads from. A fragment that a
/// reader opens ahead is counted in its budget with as much.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2 flow control window of a connection, both ends: the greatest there is. Were it less than those of all its streams
/// together, streams that nobody reads from for now could fill it, and the one that is read from would wait for them.
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Largest HTTP/2 frame that either end takes.
pub(crate) const MAX_FRAME: u32 = 256 << 10;
/// An idle connection is pinged this often, and is dead when no answer comes in [`PING_TIMEOUT`].
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a ping may go unanswered.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TCP connection may take to come up.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call with one small answer may take. Streams have no such limit.
pub(crate) const UNARY_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest chunk, and so longest fragment, in bytes: 64 MiB.
pub(crate) const MAX_CHUNK_LENGTH: u64 = 64 << 20;
