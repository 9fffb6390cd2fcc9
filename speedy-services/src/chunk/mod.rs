//! Chunk nodes by gRPC: the service over any [`ChunkNode`](speedy_core::replicate::ChunkNode), the client that is
//! one, and the heartbeat that keeps a node known to the master.

mod client;
mod heartbeat;
mod nodes;
mod server;

pub use client::ChunkClient;
pub use heartbeat::{GroupMember, Report, heartbeat};
pub use nodes::ChunkNodes;
pub use server::ChunkServer;
