//! Replication: what a chunk node offers, and the client that keeps a group's members the same.

mod blocks;
mod local;
mod node;

pub use blocks::{BlockStream, Blocks, ChecksumMismatch};
pub use local::StoreNode;
pub use node::{BodyError, ChunkNode, ChunkPage, ChunkStat, Frames, NodeError, WriteHeader};
