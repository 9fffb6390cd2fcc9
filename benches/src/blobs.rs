//! What is pushed and pulled: bytes that don't compress, with their digests.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// A blob in memory.
#[derive(Debug, Clone)]
pub struct Blob {
    /// As in `sha256:...`.
    pub digest: String,
    /// What it is.
    pub bytes: Bytes,
}

/// Blobs of one size that are pushed and pulled together.
#[derive(Debug)]
pub struct Blobs {
    /// The repository that they go to.
    pub repository: &'static str,
    /// The blobs.
    pub blobs: Vec<Blob>,
    /// How many clients work at a time.
    pub at_once: usize,
}

impl Blobs {
    /// 16 of 64 MiB, 4 at a time.
    pub fn large() -> Self {
        Self::make("bench/large", 16, 64 << 20, 4)
    }

    /// 2,000 of 64 KiB, 8 at a time.
    pub fn small() -> Self {
        Self::make("bench/small", 2000, 64 << 10, 8)
    }

    /// So many of one size, the same in every run.
    pub fn make(repository: &'static str, count: usize, size: usize, at_once: usize) -> Self {
        let mut state = size as u64;
        let blobs = (0..count).map(|_| Blob::of(noise(&mut state, size))).collect();
        Self { repository, blobs, at_once }
    }

    /// Bytes of all.
    pub fn length(&self) -> usize {
        self.blobs.iter().map(|blob| blob.bytes.len()).sum()
    }
}

impl Blob {
    /// That of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { digest: digest_of(&bytes), bytes: Bytes::from(bytes) }
    }
}

/// As in `sha256:...`.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Splitmix64.
fn noise(state: &mut u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = *state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}
