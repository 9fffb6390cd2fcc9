//! The bytes on disk. `docs/format.md` specifies them; this is the only code that knows them.
//!
//! All integers are little-endian. Each offset is derived from the one before by writing and reading the fields in
//! order.

mod checkpoint;
mod head;
mod record;
mod scrub;
mod siblings;

pub(super) use checkpoint::{COVERED_LEN, CheckpointHead, Covered, checkpoint_footer, verified_body};
pub(super) use head::{Head, HeadError, Superblock, VolumeHeader, VolumeKind};
pub(super) use record::{
    Footer, Geometry, HEADER_LEN, LARGE, RecordHeader, RecordKind, Seed, footer_len, write_footer,
};
pub(super) use scrub::{ScrubState, ScrubTally};
pub(super) use siblings::{MAX_DIRECTORIES, Siblings};

/// The newest version of the format that this release reads, and the one that it writes.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Unit of alignment of large records, and the size of a head copy with its padding.
pub(super) const PAGE: u64 = crate::buffer::PAGE as u64;

/// Where a volume's records begin: after two copies of its header, a page each.
pub(super) const FIRST_RECORD: u64 = 2 * PAGE;

/// The bytes of one chunk at most: 64 MiB.
pub const MAX_CHUNK_LEN: u64 = 64 << 20;
