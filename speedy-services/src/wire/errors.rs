//! The one table between the errors of the core's traits and what is on the wire.
//!
//! An error crosses as data (`speedy.error.v1.Error`, in the status details) beside a gRPC code for proxies and a
//! text for people. The core's enums may grow: a kind that this version does not know crosses as "unavailable",
//! which every caller knows how to handle.

use bytes::Bytes;
use prost::Message;
use speedy_core::id::{ChunkId, FileId, GroupId, GroupVersion, NodeId};
use speedy_core::meta::MetaError;
use speedy_core::placement::MasterError;
use speedy_core::replicate::FragmentError;
use speedy_core::replicate::{Link, NodeError};
use speedy_proto::error::v1 as proto;
use speedy_proto::error::v1::error::Kind;
use tonic::{Code, Status};

use crate::address::HostPort;

/// Longest text that crosses, in bytes. It travels in HTTP/2 headers, whose size is limited, and twice.
const MAX_TEXT: usize = 2048;

/// An error of one of the core's traits that can cross the wire.
pub(crate) trait WireError: std::error::Error + Sized {
    /// Its form on the wire.
    fn to_kind(&self) -> Kind;

    /// The error of this form; `None` where the trait has no such error.
    fn from_kind(kind: Kind) -> Option<Self>;

    /// The peer can't be reached, or did not answer as a peer does.
    fn unavailable(text: String) -> Self;

    /// The request can't be served by anyone.
    fn invalid(text: String) -> Self;

    /// Whether another peer, or the same one later, may do what this one did not.
    fn is_unavailable(&self) -> bool;

    /// The status that a server answers.
    fn to_status(&self) -> Status {
        let kind = shortened(self.to_kind());
        let code = code(&kind);
        let details = proto::Error { kind: Some(kind) }.encode_to_vec();
        Status::with_details(code, shorten(self.to_string()), Bytes::from(details))
    }

    /// The error that a client makes of a status.
    fn from_status(status: &Status, peer: &HostPort) -> Self {
        let sent = proto::Error::decode(status.details()).ok().and_then(|error| error.kind);
        if let Some(error) = sent.and_then(Self::from_kind) {
            return error;
        }
        match status.code() {
            // What the library answers for a message above the limits or that can't be decoded.
            Code::OutOfRange | Code::InvalidArgument => {
                Self::invalid(format!("{peer}: {}", status.message()))
            }
            _ => unavailable_at(peer, &cause(status)),
        }
    }
}

/// The error of a peer that did not answer as a peer does.
pub(crate) fn unavailable_at<E: WireError>(peer: &HostPort, what: &str) -> E {
    E::unavailable(format!("{peer}: {what}"))
}

/// The innermost cause, which names what happened, where the outer ones say "transport error".
pub(super) fn cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match status.code() {
        _ if !std::ptr::addr_eq(cause, status) => cause.to_string(),
        Code::Unimplemented => {
            "it does not offer this service: is this the address of such a node?".to_owned()
        }
        code => format!("{} ({code:?})", status.message()),
    }
}

fn code(kind: &Kind) -> Code {
    match kind {
        Kind::NotFound(_) | Kind::Deleted(_) => Code::NotFound,
        Kind::Conflict(_) => Code::AlreadyExists,
        Kind::Damaged(_) => Code::DataLoss,
        Kind::WrongVersion(_) | Kind::Refused(_) => Code::FailedPrecondition,
        Kind::Body(_) | Kind::Invalid(_) => Code::InvalidArgument,
        Kind::Full(_) => Code::ResourceExhausted,
        Kind::Unavailable(_) => Code::Unavailable,
        Kind::Downstream(downstream) => {
            let cause = downstream.error.as_ref().and_then(|error| error.kind.as_ref());
            cause.map_or(Code::Unavailable, code)
        }
        Kind::Failed(_) => Code::Internal,
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn shortened(kind: Kind) -> Kind {
    match kind {
        Kind::Body(text) => Kind::Body(shorten(text)),
        Kind::Invalid(text) => Kind::Invalid(shorten(text)),
        Kind::Full(text) => Kind::Full(shorten(text)),
        Kind::Unavailable(text) => Kind::Unavailable(shorten(text)),
        Kind::Failed(text) => Kind::Failed(shorten(text)),
        Kind::Refused(text) => Kind::Refused(shorten(text)),
        Kind::Damaged(proto::Damaged { chunk, reason }) => {
            Kind::Damaged(proto::Damaged { chunk, reason: shorten(reason) })
        }
        Kind::Downstream(mut downstream) => {
            if let Some(error) = &mut downstream.error {
                error.kind = error.kind.take().map(shortened);
            }
            Kind::Downstream(downstream)
        }
        kind @ (Kind::NotFound(_) | Kind::Deleted(_) | Kind::Conflict(_) | Kind::WrongVersion(_)) => kind,
    }
}

fn chunk(id: &ChunkId) -> proto::Chunk {
    proto::Chunk { chunk: id.get(), group: None }
}

fn file(id: &FileId) -> proto::Chunk {
    proto::Chunk { chunk: id.chunk.get(), group: Some(id.group.get()) }
}

fn file_id(chunk: &proto::Chunk) -> Option<FileId> {
    Some(FileId::new(GroupId::new(chunk.group?), ChunkId::new(chunk.chunk)))
}

impl WireError for NodeError {
    fn to_kind(&self) -> Kind {
        match self {
            Self::NotFound(id) => Kind::NotFound(chunk(id)),
            Self::Deleted(id) => Kind::Deleted(chunk(id)),
            Self::Conflict(id) => Kind::Conflict(chunk(id)),
            Self::Damaged { id, reason } => {
                Kind::Damaged(proto::Damaged { chunk: Some(chunk(id)), reason: reason.clone() })
            }
            Self::WrongVersion { current } => {
                Kind::WrongVersion(proto::WrongVersion { current: current.get() })
            }
            Self::Body(text) => Kind::Body(text.clone()),
            Self::Invalid(text) => Kind::Invalid(text.clone()),
            Self::Full(text) => Kind::Full(text.clone()),
            Self::Unavailable(text) => Kind::Unavailable(text.clone()),
            Self::Downstream { link, error } => Kind::Downstream(Box::new(proto::Downstream {
                node: link.node.as_bytes().to_vec().into(),
                address: link.address.clone(),
                error: Some(Box::new(proto::Error { kind: Some(error.to_kind()) })),
            })),
            other => Kind::Unavailable(other.to_string()),
        }
    }

    fn from_kind(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::NotFound(at) => Self::NotFound(ChunkId::new(at.chunk)),
            Kind::Deleted(at) => Self::Deleted(ChunkId::new(at.chunk)),
            Kind::Conflict(at) => Self::Conflict(ChunkId::new(at.chunk)),
            Kind::Damaged(damaged) => {
                Self::Damaged { id: ChunkId::new(damaged.chunk?.chunk), reason: damaged.reason }
            }
            Kind::WrongVersion(version) => Self::WrongVersion { current: GroupVersion::new(version.current) },
            Kind::Body(text) => Self::Body(text),
            Kind::Invalid(text) => Self::Invalid(text),
            Kind::Full(text) => Self::Full(text),
            Kind::Unavailable(text) => Self::Unavailable(text),
            Kind::Downstream(downstream) => {
                let proto::Downstream { node, address, error } = *downstream;
                let link = Link::new(NodeId::try_from(&node[..]).ok()?, address);
                Self::Downstream { link, error: Box::new(Self::from_kind(error?.kind?)?) }
            }
            Kind::Failed(_) | Kind::Refused(_) => return None,
        })
    }

    fn unavailable(text: String) -> Self {
        Self::Unavailable(text)
    }

    fn invalid(text: String) -> Self {
        Self::Invalid(text)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl WireError for MetaError {
    fn to_kind(&self) -> Kind {
        match self {
            Self::Invalid(text) => Kind::Invalid(text.clone()),
            Self::Unavailable(text) => Kind::Unavailable(text.clone()),
            Self::Full(text) => Kind::Full(text.clone()),
            Self::Failed(text) => Kind::Failed(text.clone()),
            other => Kind::Unavailable(other.to_string()),
        }
    }

    fn from_kind(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Invalid(text) => Self::Invalid(text),
            Kind::Unavailable(text) => Self::Unavailable(text),
            Kind::Full(text) => Self::Full(text),
            Kind::Failed(text) => Self::Failed(text),
            Kind::NotFound(_)
            | Kind::Deleted(_)
            | Kind::Conflict(_)
            | Kind::Damaged(_)
            | Kind::WrongVersion(_)
            | Kind::Body(_)
            | Kind::Downstream(_)
            | Kind::Refused(_) => return None,
        })
    }

    fn unavailable(text: String) -> Self {
        Self::Unavailable(text)
    }

    fn invalid(text: String) -> Self {
        Self::Invalid(text)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl WireError for MasterError {
    fn to_kind(&self) -> Kind {
        match self {
            Self::Refused(text) => Kind::Refused(text.clone()),
            Self::Unavailable(text) => Kind::Unavailable(text.clone()),
            other => Kind::Unavailable(other.to_string()),
        }
    }

    fn from_kind(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Refused(text) => Self::Refused(text),
            Kind::Unavailable(text) => Self::Unavailable(text),
            Kind::NotFound(_)
            | Kind::Deleted(_)
            | Kind::Conflict(_)
            | Kind::Damaged(_)
            | Kind::WrongVersion(_)
            | Kind::Body(_)
            | Kind::Invalid(_)
            | Kind::Full(_)
            | Kind::Downstream(_)
            | Kind::Failed(_) => return None,
        })
    }

    fn unavailable(text: String) -> Self {
        Self::Unavailable(text)
    }

    fn invalid(text: String) -> Self {
        Self::Refused(text)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl WireError for FragmentError {
    fn to_kind(&self) -> Kind {
        match self {
            Self::NotFound(id) => Kind::NotFound(file(id)),
            Self::Damaged { file: id, reason } => {
                Kind::Damaged(proto::Damaged { chunk: Some(file(id)), reason: reason.clone() })
            }
            Self::Invalid(text) => Kind::Invalid(text.clone()),
            Self::Full(text) => Kind::Full(text.clone()),
            Self::Unavailable(text) => Kind::Unavailable(text.clone()),
            other => Kind::Unavailable(other.to_string()),
        }
    }

    fn from_kind(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::NotFound(at) => Self::NotFound(file_id(&at)?),
            Kind::Damaged(damaged) => {
                Self::Damaged { file: file_id(&damaged.chunk?)?, reason: damaged.reason }
            }
            Kind::Invalid(text) => Self::Invalid(text),
            Kind::Full(text) => Self::Full(text),
            Kind::Unavailable(text) => Self::Unavailable(text),
            Kind::Deleted(_)
            | Kind::Conflict(_)
            | Kind::WrongVersion(_)
            | Kind::Body(_)
            | Kind::Failed(_)
            | Kind::Downstream(_)
            | Kind::Refused(_) => return None,
        })
    }

    fn unavailable(text: String) -> Self {
        Self::Unavailable(text)
    }

    fn invalid(text: String) -> Self {
        Self::Invalid(text)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

#[cfg(test)]
mod tests;
