//! Speedy's core: store immutable chunks durably, place and replicate them, and keep blobs over them.
//!
//! The crate knows nothing of gRPC, HTTP or command lines; `speedy-services` adds those. The design, its words and
//! its promises are in `docs/architecture.md` of the repository.

#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod blob;
pub mod budget;
mod buffer;
pub mod checksum;
pub mod digest;
pub mod embedded;
pub mod id;
pub mod meta;
pub mod payload;
pub mod placement;
pub mod ranges;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod replay;
pub mod replicate;
pub mod request;
pub mod split;
pub mod store;
mod sync;
