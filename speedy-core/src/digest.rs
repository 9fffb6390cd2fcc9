//! Content digests as the OCI image specification writes them: `sha256:…` and `sha512:…`.

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm that Speedy accepts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Algorithm {
    /// SHA-256, the one that every client uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes in a digest of this algorithm.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    /// Reads what stands before the colon.
    fn from_str(name: &str) -> Result<Self, ParseDigestError> {
        [Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or(ParseDigestError::Algorithm)
    }
}

/// A digest: an algorithm and as many bytes as it makes. Its text has lower-case hexadecimal digits only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

impl Digest {
    /// The digest of `data`.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    /// The SHA-256 of `data`.
    pub fn sha256(data: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, data)
    }

    /// A digest from its raw bytes; `None` where their number is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut all = [0; 64];
        (bytes.len() == algorithm.digest_len()).then(|| {
            all[..bytes.len()].copy_from_slice(bytes);
            Self { algorithm, bytes: all }
        })
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes, as many as the algorithm makes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The lower-case hexadecimal digits after the colon.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

/// `ALGORITHM:HEX`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (name, digits) = text.split_once(':').ok_or(ParseDigestError::Form)?;
        let algorithm: Algorithm = name.parse()?;
        if digits.len() != algorithm.digest_len() * 2 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseDigestError::Form);
        }
        let bytes = hex::decode(digits).map_err(|_| ParseDigestError::Form)?;
        Self::from_bytes(algorithm, &bytes).ok_or(ParseDigestError::Form)
    }
}

/// Why text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// It is not `ALGORITHM:HEX` with the algorithm's number of lower-case digits.
    #[error("a digest is ALGORITHM:HEX with 64 (sha256) or 128 (sha512) lower-case hexadecimal digits")]
    Form,
    /// The algorithm is unknown.
    #[error("the digest algorithm is not one of sha256, sha512")]
    Algorithm,
}

/// Blocks that an imported state may have seen: an exbibyte for SHA-256. Its digest ends with the number of bits in 64
/// bits, and sha2 neither refuses a number of blocks for which those are too few nor counts on one.
const MOST_BLOCKS: u128 = 1 << 54;

/// How many blocks a state has seen, which sha2 writes behind the words of the state. `None` where the state is too short.
fn blocks_seen(algorithm: Algorithm, state: &[u8]) -> Option<u128> {
    let count = match algorithm {
        Algorithm::Sha256 => state.get(32..40)?,
        Algorithm::Sha512 => state.get(64..80)?,
    };
    Some(count.iter().rfold(0, |all, &byte| (all << 8) | u128::from(byte)))
}

/// A running digest whose state can be exported between any two updates and taken up by another process.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds bytes. A core hashes 1.1 to 1.7 GB a second: keep long runs off async workers.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 64];
        let algorithm = self.algorithm();
        match self.0 {
            State::Sha256(hasher) => bytes[..32].copy_from_slice(&hasher.finalize()),
            State::Sha512(hasher) => bytes.copy_from_slice(&hasher.finalize()),
        }
        Digest { algorithm, bytes }
    }

    /// The state as bytes, in sha2's own serialisation. It holds up to one hash block of the input in the clear.
    pub fn export(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(hasher) => hasher.serialize().to_vec(),
            State::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// A hasher that goes on from an exported state; `None` where the bytes are no such state, or one that has seen more
    /// than anybody has.
    pub fn import(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        if blocks_seen(algorithm, state)? > MOST_BLOCKS {
            return None;
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(state).ok()?;
                State::Sha256(Sha256::deserialize(&state).ok()?)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(state).ok()?;
                State::Sha512(Sha512::deserialize(&state).ok()?)
            }
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_digest_of_nothing() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
    }

    #[test]
    fn text_that_is_no_digest_is_refused() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for (text, error) in [
            ("", ParseDigestError::Form),
            ("sha256", ParseDigestError::Form),
            ("sha256:", ParseDigestError::Form),
            ("sha256:abc", ParseDigestError::Form),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", ParseDigestError::Algorithm),
            (upper.as_str(), ParseDigestError::Form),
            (&EMPTY.replace('e', "g"), ParseDigestError::Form),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_exported_state_goes_on_elsewhere() {
        let data: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for cut in [0, 1, 63, 64, 65, 127, 128, 129, 9_999] {
                let mut first = Hasher::new(algorithm);
                first.update(&data[..cut]);
                let mut second = Hasher::import(algorithm, &first.export()).unwrap();
                second.update(&data[cut..]);
                assert_eq!(second.finish(), Digest::of(algorithm, &data), "{algorithm:?} at {cut}");
            }
            assert!(Hasher::import(algorithm, b"short").is_none());
        }
    }

    #[test]
    fn a_state_that_has_seen_more_than_there_can_be_is_refused() {
        for (algorithm, count, block) in [(Algorithm::Sha256, 32..40, 64), (Algorithm::Sha512, 64..80, 128)] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&vec![7; 1000 * block + 1]);
            let mut state = hasher.export();
            assert_eq!(blocks_seen(algorithm, &state), Some(1000));
            let mut set = |blocks: u128| {
                let bytes = blocks.to_le_bytes();
                state[count.clone()].copy_from_slice(&bytes[..count.len()]);
                Hasher::import(algorithm, &state)
            };
            assert!(set(MOST_BLOCKS + 1).is_none());
            assert!(set(u128::MAX).is_none());
            // What is accepted can be gone on with, to the end.
            let mut most = set(MOST_BLOCKS).unwrap();
            most.update(&vec![7; 1000]);
            most.finish();
        }
    }
}
