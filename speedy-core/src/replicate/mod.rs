//! Replication: what a chunk node offers, and the client that keeps a group's members the same.

mod blocks;
mod cleanup;
mod client;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod delete;
mod fragments;
mod hedge;
mod ids;
mod list;
mod local;
mod memory;
mod metrics;
mod node;
mod options;
mod progress;
mod read;
mod refusal;
mod relay;
mod repair;
mod routes;
mod turns;
mod write;

pub use blocks::{BlockStream, Blocks, ChecksumMismatch};
pub use client::{Nodes, ReplicationClient};
pub use fragments::{FragmentError, FragmentPage, Fragments, ListCursor};
pub use ids::IdSource;
pub use local::StoreNode;
pub use memory::{MemoryFaults, MemoryNode};
pub use metrics::{ReplicationMetrics, ReplicationSnapshot};
pub use node::{
    ChunkNode, ChunkPage, ChunkStat, Holdings, Link, MAX_CHUNK_LEN, NodeError, RangeEntries, WriteHeader,
};
pub use options::{InvalidReplicationOption, ReplicationOptions};
pub use relay::RelayNode;
pub use repair::{Repair, RepairOptions, RepairSnapshot};
pub use routes::Routes;

#[cfg(test)]
mod tests;
