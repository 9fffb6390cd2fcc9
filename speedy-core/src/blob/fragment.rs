use crate::id::FileId;

/// One slice of a blob: where it stands, which chunk holds it, and the checksum of the whole of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Offset of its first byte in the blob.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The chunk that holds it.
    pub file: FileId,
    /// CRC-32C of all its bytes.
    pub checksum: u32,
}
