use crate::digest::Digest;
use crate::id::{BlobId, UploadId};
use crate::meta::MetaError;

use crate::replicate::FragmentError;

/// Why a blob could not be stored, read or deleted, by what the caller does next.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such upload session: it was committed, cancelled, or expired. Begin a new one.
    #[error("upload {0} is unknown; it may have been finished, cancelled, or expired")]
    UnknownUpload(UploadId),
    /// The bytes do not go on where the session stands. Send from `expected` on.
    #[error("bytes out of order: the upload stands at {expected}")]
    OutOfOrder {
        /// Number of bytes that the session holds.
        expected: u64,
    },
    /// Another writer of the same session was first. Ask where the session stands and go on from there.
    #[error("upload {0} was changed by another writer")]
    UploadBusy(UploadId),
    /// The bytes are not those that the digest names. The session is gone.
    #[error("digest mismatch: expected {expected}, the content is {actual}")]
    DigestMismatch {
        /// What the client named.
        expected: Box<Digest>,
        /// What its bytes are.
        actual: Box<Digest>,
    },
    /// The source of the bytes broke off. What came before is kept in the session.
    #[error("the body broke off: {0}")]
    Body(String),
    /// There is no such live blob.
    #[error("blob {0} is not there")]
    NotFound(BlobId),
    /// Every replica of a chunk of the blob is damaged, or its metadata is.
    #[error("blob {blob} is damaged: {reason}")]
    Damaged {
        /// The blob.
        blob: BlobId,
        /// What is wrong with it.
        reason: String,
    },
    /// The request makes no sense, such as a range outside of the blob.
    #[error("invalid blob request: {0}")]
    Invalid(String),
    /// No room for new bytes; reads go on.
    #[error("storage is full: {0}")]
    Full(String),
    /// Storage or metadata can't be reached. Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// No changes are taken at the moment, for the reason that is given; reads go on.
    #[error("{0}")]
    Refused(String),
}

impl From<MetaError> for BlobError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Full(_) => Self::Full(error.to_string()),
            MetaError::Invalid(_) => Self::Invalid(error.to_string()),
            MetaError::Refused(reason) => Self::Refused(reason),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl BlobError {
    /// What an error of a fragment means for its blob.
    pub(super) fn of_fragment(blob: BlobId, error: FragmentError) -> Self {
        match error {
            FragmentError::NotFound(_) | FragmentError::Damaged { .. } => {
                Self::Damaged { blob, reason: error.to_string() }
            }
            FragmentError::Invalid(_) => Self::Invalid(error.to_string()),
            FragmentError::Full(_) => Self::Full(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
