//! What the clients push: bytes that a seed makes again at any time.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use crate::bytes::digest_of;

/// The largest blob.
const LARGEST: f64 = (20 << 20) as f64;

/// A blob: random bytes of a seed.
#[derive(Debug)]
pub(super) struct Content {
    seed: u64,
    /// Bytes.
    pub(super) length: usize,
    /// `sha256:…`
    pub(super) digest: String,
}

impl Content {
    /// A new one of 1 byte to 20 MiB, each order of magnitude as likely as the others, and its bytes.
    pub(super) fn random(random: &mut Xoshiro256PlusPlus) -> (Self, Vec<u8>) {
        // Lossless: from 1 to 20 Mi.
        let length = LARGEST.powf(random.random_range(0.0..=1.0)) as usize;
        let mut content = Self { seed: random.next_u64(), length: length.max(1), digest: String::new() };
        let bytes = content.bytes();
        content.digest = digest_of(&bytes);
        (content, bytes)
    }

    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        Xoshiro256PlusPlus::seed_from_u64(self.seed).fill_bytes(&mut bytes);
        bytes
    }
}
