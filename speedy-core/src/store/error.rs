use std::io;
use std::path::PathBuf;

use crate::id::{ChunkId, StoreId};
use crate::sync::Arc;

/// Why a chunk store did not open. Nothing was changed, except that an empty directory may have been prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path names a file.
    #[error("{} is not a directory: name a directory for the chunk store", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A store that was to be read, and is not there.
    #[error("there is no chunk store in {}: name the directory that a chunk node was given with --data-dir", path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// The directory can't be written.
    #[error("{} is not writable: {source}; give this user write permission, or mount it read-write", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error(
        "{} is in use by {}: stop it first, or choose another directory",
        path.display(),
        holder.map_or("another process".into(), |pid| format!("another process ({pid})"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder's process id, where it could be read.
        holder: Option<u32>,
    },
    /// A file was written by a newer release.
    #[error(
        "{} has format version {found}, and this release reads up to {supported}: run the release that wrote it, \
         or a newer one",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version that this release reads.
        supported: u32,
    },
    /// The file that identifies the store can't be read, or is missing though there are volumes.
    #[error(
        "{}: {reason}, so nobody knows whose volumes these are: put the file back from a backup. A chunk node of a group \
         with other replicas may start empty instead, with all files moved away, and is filled from them; where there \
         are none, as under speedy serve, keep the files: they are all there is",
        path.display()
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Directories of two stores.
    #[error(
        "{} belongs to store {first_store} and {} to store {second_store}: name the directories of one store",
        first.display(),
        second.display()
    )]
    OtherStore {
        /// A directory.
        first: PathBuf,
        /// Its store.
        first_store: StoreId,
        /// Another directory.
        second: PathBuf,
        /// Its store.
        second_store: StoreId,
    },
    /// One directory by two paths.
    #[error("{} and {} are the same directory: name it once", first.display(), second.display())]
    SameDirectory {
        /// A path.
        first: PathBuf,
        /// Another path.
        second: PathBuf,
    },
    /// Two directories that can't both be of the store.
    #[error(
        "{} and {} exclude each other: one is a copy of the other, or each was used while the other was given up; \
         leave one of them out",
        first.display(),
        second.display()
    )]
    Clash {
        /// A directory.
        first: PathBuf,
        /// Another directory.
        second: PathBuf,
    },
    /// No directory knows whether all directories of the store are there.
    #[error(
        "{}: its list of the store's directories is damaged, so nobody knows which are missing: open it together with          the others, or, where these are all, once with forget_missing",
        path.display()
    )]
    Siblings {
        /// The directory.
        path: PathBuf,
    },
    /// The store was told that this directory is gone for good, and went on without it.
    #[error(
        "{} was given up: the store was opened with forget_missing while it was away. Leave it out; to use the disk          again, move all files away, and it joins as a new directory",
        path.display()
    )]
    Forgotten {
        /// The directory.
        path: PathBuf,
    },
    /// An option is out of its bounds.
    #[error("bad store option: {0}")]
    Option(String),
    /// The system refused something.
    #[error("{}: {source}; see the system's log for disk errors", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: PathBuf, source: io::Error) -> Self {
        Self::Io { path, source }
    }

    /// The error of a write to a directory: says so where it is a matter of permission.
    pub(super) fn from_write(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Why a chunk was not written or deleted, by what the caller does next. A write that failed left nothing that can
/// be read under its id. If it was the disk that failed, the next start may find the chunk, whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The id was deleted and is spent. Take a fresh one.
    #[error("chunk {0} was deleted, and its id is never accepted again")]
    Deleted(ChunkId),
    /// The id holds other bytes; or a write of other bytes failed on the disk, and the next start may find them. Take a
    /// fresh one.
    #[error(
        "chunk {0} exists with other content, or a write of other content has failed and may be on the disk"
    )]
    Conflict(ChunkId),
    /// The id holds a chunk that can't be read, so the two can't be compared. Heal it.
    #[error("chunk {id} exists, but is damaged: {reason}; heal it from a replica")]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        reason: String,
    },
    /// The length is not 1 byte to 64 MiB.
    #[error("a chunk has 1 byte to 64 MiB, not {0} bytes")]
    InvalidLength(u64),
    /// The bytes were fewer or more than announced.
    #[error("{announced} bytes were announced for chunk {id}, and {received} came")]
    WrongLength {
        /// The chunk.
        id: ChunkId,
        /// Bytes that were announced.
        announced: u64,
        /// Bytes that came, so far.
        received: u64,
    },
    /// No room. Reads go on, and writes go on as soon as there is room.
    #[error("no room on the file system of {}: {source}; make room there, add a directory on another disk, or in a cluster another group", path.display())]
    Full {
        /// The volume or the directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store was opened to be read.
    #[error("the store was opened to be read: open it without read_only")]
    ReadOnly,
    /// The disk failed. The volume is sealed; a new try goes to another volume.
    #[error("{}: {source}; the volume takes no more writes: look for disk errors in the system's log", path.display())]
    Disk {
        /// The volume or the directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Volume after volume failed, in every directory; nothing is written until the store is opened again.
    #[error("{} takes no writes: {volumes} volumes failed in a row; replace the disk, then restart", path.display())]
    GaveUp {
        /// The directory; the first one where the store has several.
        path: PathBuf,
        /// Volumes that failed there, one after the other.
        volumes: u32,
    },
}

impl WriteError {
    pub(super) fn io(path: PathBuf, source: Arc<io::Error>) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Disk { path, source },
        }
    }

    /// What a failed read of the chunk that is already there means to the writer.
    pub(super) fn from_read(error: ReadError) -> Self {
        match error {
            ReadError::Deleted(id) => Self::Deleted(id),
            ReadError::Damaged { id, reason } => Self::Damaged { id, reason },
            ReadError::Io { path, source } => Self::Disk { path, source: Arc::new(source) },
            ReadError::NotFound(id)
            | ReadError::Unavailable { id, .. }
            | ReadError::InvalidRange { id, .. } => Self::Conflict(id),
        }
    }
}

/// Why a chunk was not read, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such chunk.
    #[error("chunk {0} is not here")]
    NotFound(ChunkId),
    /// The chunk is not in the directories that are there, and not all are there. Read another replica.
    #[error("chunk {id} is not in the directories that are there; {missing}")]
    Unavailable {
        /// The chunk.
        id: ChunkId,
        /// Which directories are not there, and why.
        missing: Arc<str>,
    },
    /// The chunk was deleted.
    #[error("chunk {0} was deleted")]
    Deleted(ChunkId),
    /// The bytes on disk are not those that were written. Read another replica, and heal this one.
    #[error("chunk {id} is damaged: {reason}")]
    Damaged {
        /// The chunk.
        id: ChunkId,
        /// What is wrong, and where.
        reason: String,
    },
    /// The range is empty or reaches past the end.
    #[error("bytes {start}..{end} are not inside chunk {id} of {length} bytes")]
    InvalidRange {
        /// The chunk.
        id: ChunkId,
        /// First byte asked for.
        start: u64,
        /// First byte not asked for.
        end: u64,
        /// The chunk's length.
        length: u64,
    },
    /// The disk failed under the read. Read another replica.
    #[error("{}: {source}; look for disk errors in the system's log", path.display())]
    Io {
        /// The volume.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
