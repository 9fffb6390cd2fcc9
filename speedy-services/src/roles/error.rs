use std::io;

use speedy_core::{embedded, meta, store};

use crate::address::HostPort;
use crate::listen::ListenError;

/// Why a role can't start, or can't go on. The text says on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The directory of `speedy serve` can't be opened.
    #[error("{0} (--data-dir names the directory)")]
    Embedded(#[from] embedded::OpenError),
    /// The directory of a metadata store can't be opened.
    #[error("{0} (--data-dir names the directory)")]
    Meta(#[from] meta::OpenError),
    /// The directories of a chunk store can't be opened.
    #[error("{0} (--data-dir names the directories)")]
    Store(#[from] store::OpenError),
    /// Others have no address to dial.
    #[error("listening on {0} says nothing of what others dial; name this host with --advertise HOST:PORT")]
    Advertise(HostPort),
    /// Signals can't be watched for.
    #[error("cannot watch for SIGTERM and SIGINT: {0}")]
    Signals(io::Error),
    /// The gRPC transport failed as a whole.
    #[error("the server of gRPC calls failed: {0}; restart the process")]
    Transport(#[from] tonic::transport::Error),
}
