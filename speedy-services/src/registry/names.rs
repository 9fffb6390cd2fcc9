//! Names that come from outside: repositories, tags, and what a manifest is asked for by. A value of these types is
//! valid; nothing further in checks again.

use std::fmt;
use std::str::FromStr;

use speedy_core::digest::{Digest, ParseDigestError};

/// The longest repository name, in bytes.
pub const MAX_NAME: usize = 255;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 128;

/// The name of a repository by the grammar of the OCI distribution specification: components of lower-case letters
/// and digits, separated inside by `.`, `_`, `__` or dashes, and from each other by slashes; 255 characters at most.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(InvalidName::Long(text.len()));
        }
        match text.split('/').find(|component| !is_component(component.as_bytes())) {
            Some(_) => Err(InvalidName::Component),
            None => Ok(Self(text.into())),
        }
    }
}

/// Runs of letters and digits with one separator between each two.
fn is_component(mut rest: &[u8]) -> bool {
    loop {
        let run = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            _ => rest.iter().take_while(|&&byte| byte == b'-').count(),
        };
        rest = &rest[separator..];
    }
}

/// Why text is not the name of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidName {
    /// There is none.
    #[error("the repository name is empty")]
    Empty,
    /// It has too many bytes.
    #[error("the repository name has {0} bytes; the most is {MAX_NAME}")]
    Long(usize),
    /// A component breaks the grammar.
    #[error(
        "a repository name is components of a-z and 0-9, separated inside by one of `.`, `_`, `__` or dashes, \
         and from each other by single slashes"
    )]
    Component,
}

/// A tag: up to 128 letters, digits, `.`, `_` and `-`, the first of them a letter, a digit or `_`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if valid { Ok(Self(text.into())) } else { Err(InvalidTag) }
    }
}

/// Text is not a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a tag has 1 to {MAX_TAG} characters of A-Z, a-z, 0-9, `_`, `.` and `-`, and begins with none of the last two"
)]
pub struct InvalidTag;

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

text!(RepositoryName);
text!(Tag);

/// What a manifest is asked for by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reference {
    /// What the tag points to now.
    Tag(Tag),
    /// The manifest with this digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        // No tag has a colon, and every digest has.
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(InvalidReference::Digest)
        } else {
            text.parse().map(Self::Tag).map_err(InvalidReference::Tag)
        }
    }
}

/// Why text is neither a tag nor a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidReference {
    /// Meant as a tag.
    #[error(transparent)]
    Tag(InvalidTag),
    /// Meant as a digest.
    #[error(transparent)]
    Digest(ParseDigestError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let longest = "a".repeat(255);
        for name in
            ["a", "library/debian", "a/b/c/d", "a.b", "a_b", "a__b", "a-b", "a----b", "0/1", longest.as_str()]
        {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(256);
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/B",
            "..",
            "a/..",
            "../a",
            ".a",
            "a.",
            "a..b",
            "_a",
            "a_",
            "a___b",
            "-a",
            "a-",
            "a._b",
            "a.-b",
            "a b",
            "a\0b",
            "a:b",
            "a@b",
            "a%2fb",
            "é",
            "a\n",
            long.as_str(),
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        let longest = "t".repeat(128);
        for tag in ["latest", "_", "V1.0-rc_1", "1", "sha256-ab.sig", longest.as_str()] {
            assert_eq!(tag.parse::<Tag>().unwrap().as_str(), tag);
        }
        let long = "t".repeat(129);
        for tag in ["", ".a", "-a", "a/b", "a b", "a+b", "é", "a\n", "..", long.as_str()] {
            assert_eq!(tag.parse::<Tag>(), Err(InvalidTag), "{tag:?}");
        }
    }

    #[test]
    fn a_reference_with_a_colon_is_a_digest() {
        let digest = Digest::sha256(b"x");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
        assert_eq!("v1".parse(), Ok(Reference::Tag("v1".parse().unwrap())));
        assert!(matches!("sha256:x".parse::<Reference>(), Err(InvalidReference::Digest(_))));
        assert!(matches!(".x".parse::<Reference>(), Err(InvalidReference::Tag(_))));
    }
}
