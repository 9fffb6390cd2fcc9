//! Replication: what a chunk node offers, and the client that keeps a group's members the same.

mod blocks;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod node;

pub use blocks::{BlockStream, Blocks, ChecksumMismatch};
pub use memory::{MemoryFaults, MemoryNode};
pub use node::{BodyError, ChunkNode, ChunkPage, ChunkStat, Frames, MAX_CHUNK_LEN, NodeError, WriteHeader};
