//! The master by gRPC: the service over any [`Master`](speedy_core::placement::Master), and the client that is one.

mod client;
mod server;
mod wire;

pub use client::MasterClient;
pub use server::MasterServer;
