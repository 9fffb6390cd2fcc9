//! What is pushed and pulled: bytes that don't compress, with their digests.

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use crate::client::Body;

/// A blob in memory.
#[derive(Debug, Clone)]
pub struct Blob {
    /// As in `sha256:...`.
    pub digest: String,
    /// All but its last bytes.
    start: Bytes,
    /// Those.
    end: Bytes,
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
        self.blobs.iter().map(Blob::length).sum()
    }

    /// So many of one size that differ in their last bytes only, so that a thousand need no more memory than one. A store
    /// of fragments of a set size, or one that compares whole blobs, has as much to do with them as with any others.
    ///
    /// # Panics
    /// If they are too short to differ.
    pub fn alike(repository: &'static str, count: usize, size: usize, at_once: usize) -> Self {
        let length = size.checked_sub(size_of::<u64>()).expect("blobs of at least 8 bytes");
        let start = Bytes::from(noise(&mut (size as u64), length));
        let hash = Sha256::new_with_prefix(&start);
        let blob = |number: usize| {
            let end = (number as u64).to_le_bytes();
            let digest = hash.clone().chain_update(end).finalize();
            Blob { digest: text_of(&digest), start: start.clone(), end: Bytes::copy_from_slice(&end) }
        };
        Self { repository, blobs: (0..count).map(blob).collect(), at_once }
    }
}

impl Blob {
    /// That of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { digest: digest_of(&bytes), start: Bytes::from(bytes), end: Bytes::new() }
    }

    /// Its bytes.
    pub fn body(&self) -> Body {
        self.start.clone().chain(self.end.clone())
    }

    /// How many they are.
    pub fn length(&self) -> usize {
        self.start.len() + self.end.len()
    }
}

/// As in `sha256:...`.
pub fn digest_of(bytes: &[u8]) -> String {
    text_of(&Sha256::digest(bytes))
}

fn text_of(digest: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest))
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
    bytes.truncate(size);
    bytes
}
