//! Blobs: bytes under a lifelong id, split into fragments, found by their digest.
//!
//! A [`BlobStore`] stands on [`Fragments`](crate::replicate::Fragments) (where bytes are) and a [`MetaStore`](crate::meta::MetaStore) (what they
//! mean). It streams: no blob is ever whole in memory, and what is held of it is counted in a
//! [`Budget`](crate::budget::Budget).
//!
//! ```
//! # use std::sync::Arc;
//! # use speedy_core::{blob::*, budget::Budget, digest::Digest, meta::{MemoryMeta, Transaction}};
//! # use futures_util::TryStreamExt;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BlobError> {
//! let store = BlobStore::new(
//!     Arc::new(MemoryMeta::new()),
//!     Arc::new(MemoryFragments::new()),
//!     Budget::default(),
//!     BlobOptions::default(),
//! );
//! let blob = store.put(body_of(&b"some bytes"[..]), None, &|_| Transaction::new()).await?;
//! assert_eq!(blob.digest, Digest::sha256(b"some bytes"));
//! let bytes: Vec<_> = store.read(&blob, 5..10)?.try_collect().await?;
//! assert_eq!(bytes.concat(), b"bytes");
//! # Ok(()) }
//! ```
//!
//! # Consistency
//! A blob has one record, `uploading -> live -> dead`, and every change of it is a compare-and-set. A commit makes
//! it live, points its digest at it and adds what the caller links to it in one transaction. A digest has a pointer
//! exactly as long as its blob is live: whoever relies on a blob checks in its own transaction that the pointer is
//! unchanged ([`LiveBlob::check_live`]).
//!
//! # Retries and other writers
//! Bytes that [`Upload::offset`] counts are on stable storage, in the layout, and hashed; the session is one record
//! that any process can take up. Two writers of one session are resolved by the version of that record: one goes
//! on, the other gets [`BlobError::UploadBusy`] and its bytes are dropped.
//!
//! # Cancellation
//! [`Upload::append`] works in a task of its own: when its caller goes away it goes on to the end of the body and
//! makes durable what came. Dropping a [`BlobReader`] ends the read.
//!
//! # What a crash leaves behind
//! Chunks that no layout names yet, and sessions that nobody continues. The [`Collector`] frees both.
//!
//! # What a loss of metadata leaves behind
//! The chunks, each with its blob and its place in it: [`BlobStore::rebuild`] makes blobs of them again. Until then the
//! collector spares what a store that lost records has no owner for.

mod ahead;
#[cfg(any(test, feature = "bulk"))]
#[doc(hidden)]
pub mod bulk;
mod collect;
mod error;
mod fragment;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod hashes;
mod ingest;
mod keys;
mod memory;
mod options;
mod pace;
mod reader;
mod rebuild;
mod records;
mod sessions;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod trust;
mod upload;

pub use collect::{Collected, Collector, Leaseholder};
pub use error::BlobError;
pub use fragment::Fragment;
pub use keys::{all_references, holder_of_reference, reference_key, references, references_of};
pub use memory::MemoryFragments;
pub use options::{BlobOptions, InvalidOption};
pub use pace::Pace;
pub use reader::BlobReader;
pub use rebuild::{NotRebuilt, RebuildObserver, RebuildOptions, Rebuilt};
pub use sessions::UploadInfo;
pub use store::{BlobInfo, BlobStore, Body, Link, LiveBlob, StoredBlob, body_of};
pub use transfer::{InGroup, Transfer, TransferOptions, Transferred};
pub use trust::distrust;
pub use upload::Upload;
