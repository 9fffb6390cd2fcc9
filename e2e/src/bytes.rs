//! Digests of bytes and files.

use std::io::Read;

use anyhow::Result;
use sha2::{Digest, Sha256};

/// `sha256:…` of the bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// `sha256:…` and length of all that `source` gives.
pub(crate) fn digest_stream(mut source: impl Read) -> Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok((format!("sha256:{}", hex::encode(hash.finalize())), length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}
