//! Meta nodes by gRPC: the service over any [`MetaStore`](speedy_core::meta::MetaStore), and the client that is one.

mod client;
mod server;
mod wire;

pub use client::MetaClient;
pub use server::MetaServer;
