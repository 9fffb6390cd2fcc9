//! Speedy's nodes and registry: each a thin layer between a type of `speedy-core` and the network.
//!
//! The `speedy` binary has one subcommand a role; [`roles`] says what each is made of. The nodes' gRPC services and
//! the clients that implement the core's traits are in [`master`], [`meta`], [`chunk`] and [`image`].

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod address;
pub mod admin;
pub mod chunk;
pub mod cli;
pub mod drain;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod image;
pub mod listen;
pub mod logging;
pub mod master;
pub mod meta;
pub mod registry;
pub mod roles;
pub mod tools;
pub mod wire;
