//! Image nodes by gRPC: the service over any [`Fragments`](speedy_core::replicate::Fragments), and the client that is one.

mod client;
mod resume;
mod server;
mod wire;

pub use client::ImageClient;
pub use server::ImageServer;
