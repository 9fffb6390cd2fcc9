//! Identifiers: what names a chunk, a group, a node and a blob.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names a chunk inside its group. Ids are handed out by the master and are never used twice in a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(u64);

impl ChunkId {
    /// The chunk id of this number.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Names a group: the chunk nodes that hold the same chunks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(u32);

impl GroupId {
    /// The group id of this number.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The version of a group's membership. It rises with each change; a write names the version that it was made for
/// and a node with another one refuses it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion(u64);

impl GroupVersion {
    /// The version of a group that has never had a complete set of members.
    pub const INITIAL: Self = Self(0);

    /// The group version of this number.
    pub const fn new(version: u64) -> Self {
        Self(version)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// All that a reader needs to find a chunk, whatever the ring says today.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The group that holds the chunk, for ever.
    pub group: GroupId,
    /// The chunk inside the group.
    pub chunk: ChunkId,
}

impl FileId {
    /// The file id of a chunk in a group.
    pub const fn new(group: GroupId, chunk: ChunkId) -> Self {
        Self { group, chunk }
    }
}

/// Whom a chunk was written for: a blob, and where in it the chunk's first byte stands. The record of every chunk
/// carries its owner, so a store can be checked alone and layouts can be rebuilt from chunk nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Owner {
    /// The blob.
    pub blob: BlobId,
    /// Byte offset of the chunk in the blob.
    pub offset: u64,
}

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh random id.
            ///
            /// # Panics
            /// If the operating system cannot supply random bytes, which Linux does only before its first boot
            /// entropy is there.
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the operating system supplies random bytes");
                Self(bytes)
            }

            /// The id of these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        /// 32 lower-case hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                bytes.try_into().map(Self).map_err(|_| ParseIdError::Bytes(stringify!($name)))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Reads 32 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError::Text(stringify!($name)))?;
                Ok(Self(bytes))
            }
        }
    };
}

sixteen_bytes! {
    /// Names a blob for its whole life. It says nothing of the content: a digest points to a `BlobId`.
    BlobId
}

impl BlobId {
    /// An id for a blob that begins now: its first four bytes are the time in spells of 16 s, the others are random.
    ///
    /// Rows are kept in the order of ids, so what is pushed together lies together: an image's rows are on a few pages of a large store
    /// rather than each on a page of its own. Nothing else rests on it, and no clock has to be right.
    ///
    /// # Panics
    /// As [`random`](Self::random) does.
    pub fn fresh() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::begun_at(since.as_millis() as u64)
    }

    fn begun_at(milliseconds: u64) -> Self {
        let mut id = Self::random();
        id.0[..4].copy_from_slice(&((milliseconds >> 14) as u32).to_be_bytes());
        id
    }
}

sixteen_bytes! {
    /// Names a chunk node for its whole life, across restarts and changes of address. Kept in its data directory.
    NodeId
}

sixteen_bytes! {
    /// Names an upload session.
    UploadId
}

sixteen_bytes! {
    /// Names a directory of a chunk store for its whole life, wherever it is mounted.
    DirectoryId
}

sixteen_bytes! {
    /// Names a chunk store for its whole life. Every volume carries it, so a volume of another store is noticed.
    StoreId
}

/// Text or bytes are not an identifier. Each case names the type of the identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text has not 32 hexadecimal digits.
    #[error("an id ({0}) has 32 hexadecimal digits")]
    Text(&'static str),
    /// There are not 16 bytes.
    #[error("an id ({0}) has 16 bytes")]
    Bytes(&'static str),
}

macro_rules! number {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number!(ChunkId);
number!(GroupId);
number!(GroupVersion);

/// `GROUP/CHUNK`, both in decimal.
impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.chunk)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_byte_ids_survive_their_text() {
        let id = BlobId::random();
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert_eq!(BlobId::try_from(&id.as_bytes()[..]).unwrap(), id);
        assert!("xyz".parse::<NodeId>().is_err());
        assert!(NodeId::try_from(&[1u8, 2][..]).is_err());
    }

    #[test]
    fn ids_of_blobs_rise_with_time_and_none_is_made_twice() {
        let time = 1_800_000_000_000;
        let (now, same, later) =
            (BlobId::begun_at(time), BlobId::begun_at(time), BlobId::begun_at(time + (1 << 14)));
        assert!(now < later && same < later);
        assert_ne!(now, same);
        assert_eq!(now.as_bytes()[..4], same.as_bytes()[..4]);
        assert_ne!(BlobId::fresh(), BlobId::fresh());
    }

    #[test]
    fn file_ids_read_as_group_and_chunk() {
        assert_eq!(FileId::new(GroupId::new(3), ChunkId::new(77)).to_string(), "3/77");
    }
}
