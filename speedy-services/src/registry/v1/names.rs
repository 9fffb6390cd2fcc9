//! What the v1 interface names: images and checksums. A value of these types is valid; nothing further in checks again.

use std::fmt;
use std::str::FromStr;

use speedy_core::digest::{Algorithm, Digest};

use crate::registry::names::{InvalidName, RepositoryName};

/// Where names without a slash are.
const LIBRARY: &str = "library";

/// The repository that a v1 path names: `NAME` is `library/NAME`.
pub(super) fn repository(text: &str) -> Result<RepositoryName, InvalidName> {
    if text.contains('/') {
        text.parse()
    } else {
        format!("{LIBRARY}/{}", text.parse::<RepositoryName>()?).parse()
    }
}

/// The id of an image: 32 bytes, written as 64 lower-case hexadecimal digits. Clients choose them at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ImageId([u8; 32]);

impl ImageId {
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id in these bytes, if they are as many as an id has.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Text is not the id of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an image id is 64 lower-case hexadecimal digits")]
pub(super) struct InvalidId;

impl FromStr for ImageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidId);
        }
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map_err(|_| InvalidId)?;
        Ok(Self(id))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageId({self})")
    }
}

/// The checksum of an image, as a client sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Checksum {
    /// `tarsum+sha256:…`: of the image's JSON and of what is in the layer, however it is packed.
    Tarsum(Digest),
    /// `sha256:…`: of the image's JSON, a newline, and the layer's bytes.
    Payload(Digest),
    /// By a method that this registry does not know.
    Other,
}

/// Text is not a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a checksum is METHOD:DIGITS, such as sha256: or tarsum+sha256: and 64 lower-case hexadecimal digits"
)]
pub(super) struct InvalidChecksum;

impl FromStr for Checksum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let (method, digits) = text.split_once(':').ok_or(InvalidChecksum)?;
        let known = match method {
            "tarsum+sha256" => Self::Tarsum,
            "sha256" => Self::Payload,
            _ => {
                let plain =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'_');
                let is_method = !method.is_empty() && method.bytes().all(plain);
                let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                return if is_method && is_hex { Ok(Self::Other) } else { Err(InvalidChecksum) };
            }
        };
        let id: ImageId = digits.parse().map_err(|_| InvalidChecksum)?;
        Digest::from_bytes(Algorithm::Sha256, id.as_bytes()).map(known).ok_or(InvalidChecksum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_without_a_slash_are_in_the_library() {
        for (text, name) in
            [("debian", "library/debian"), ("a/b", "a/b"), ("a/b/c", "a/b/c"), ("a.b", "library/a.b")]
        {
            assert_eq!(repository(text).unwrap().as_str(), name);
        }
        let long = "a".repeat(250);
        for text in ["", "/", "A", "a/", "/a", "a//b", "..", "a/../b", "a b", "a\0", "_a", long.as_str()] {
            assert!(repository(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        let digits = "0123456789abcdef".repeat(4);
        let digest = format!("sha256:{digits}").parse::<Digest>().unwrap();
        assert_eq!(format!("sha256:{digits}").parse(), Ok(Checksum::Payload(digest)));
        assert_eq!(format!("tarsum+sha256:{digits}").parse(), Ok(Checksum::Tarsum(digest)));
        assert_eq!(format!("tarsum.v1+sha256:{digits}").parse(), Ok(Checksum::Other));
        assert_eq!("md5:00".parse(), Ok(Checksum::Other));
        for text in ["", ":", "sha256", "sha256:", "sha256:00", "md5:xyz", "m d5:00", "tarsum+sha256:0"] {
            assert_eq!(text.parse::<Checksum>(), Err(InvalidChecksum), "{text:?}");
        }
        assert!(format!("sha256:{}", digits.to_uppercase()).parse::<Checksum>().is_err());
    }

    proptest! {
        #[test]
        fn ids_are_their_text(bytes in prop::array::uniform32(any::<u8>())) {
            let id = ImageId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(ImageId::from_bytes(id.as_bytes()), Some(id));
            let upper = id.to_string().to_uppercase();
            prop_assert_eq!(upper.parse::<ImageId>().is_ok(), upper == id.to_string());
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,80}") {
            if let Ok(id) = text.parse::<ImageId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(name) = repository(&text) {
                let in_library = format!("library/{text}");
                prop_assert!(name.as_str() == text || name.as_str() == in_library);
            }
            let _ = text.parse::<Checksum>();
        }
    }
}
