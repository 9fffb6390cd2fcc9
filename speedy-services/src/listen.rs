//! Listening sockets, and the connections that come in on them.

use std::io;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::address::HostPort;

/// How long accepting pauses after it failed, which it does mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that the system takes of an answer before the client has room for them: by itself it takes up to 4 MiB for each client
/// that stands still. What is on the way to a client that takes it does not count.
const UNSENT: u32 = 256 << 10;

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error(
        "cannot listen on {address}: it is in use by another process; stop it or choose another port with {option}"
    )]
    InUse {
        /// The address.
        address: HostPort,
        /// The option that chooses it.
        option: &'static str,
    },
    /// The system forbids it.
    #[error(
        "cannot listen on {address}: permission denied; choose a port above 1023 with {option}, or allow the process to bind low ports"
    )]
    Denied {
        /// The address.
        address: HostPort,
        /// The option that chooses it.
        option: &'static str,
    },
    /// The host is not one of this machine's.
    #[error(
        "cannot listen on {address}: no interface of this machine has that address; correct {option}, or listen on 0.0.0.0 and say with --advertise what others dial"
    )]
    NotHere {
        /// The address.
        address: HostPort,
        /// The option that chooses it.
        option: &'static str,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}; correct {option}")]
    Other {
        /// The address.
        address: HostPort,
        /// The option that chooses it.
        option: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Listens on an address, which `option` of the command line chose.
///
/// # Errors
/// Where that can't be done: who is in the way and what to do.
pub async fn listen(address: &HostPort, option: &'static str) -> Result<TcpListener, ListenError> {
    let bind = async {
        let addresses: Vec<_> = lookup_host((address.host(), address.port())).await?.collect();
        TcpListener::bind(&addresses[..]).await
    };
    bind.await.map_err(|source| {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address, option },
            io::ErrorKind::PermissionDenied => ListenError::Denied { address, option },
            io::ErrorKind::AddrNotAvailable => ListenError::NotHere { address, option },
            _ => ListenError::Other { address, option, source },
        }
    })
}

/// The connections that come in. Failing to accept one is logged and does not end the stream.
pub(crate) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send {
    stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Without it small messages wait up to 44 ms for Nagle. It fails only on a dead connection.
                    let _ = connection.set_nodelay(true);
                    let _ = socket2::SockRef::from(&connection).set_tcp_notsent_lowat(UNSENT);
                    return Some((Ok(connection), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_the_remedy() {
        let first = listen(&"127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let taken = HostPort::from(first.local_addr().unwrap());
        let error = listen(&taken, "--listen").await.unwrap_err();
        let expected = format!(
            "cannot listen on {taken}: it is in use by another process; stop it or choose another port with --listen"
        );
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn a_foreign_address_names_the_option() {
        let error = listen(&"192.0.2.1:0".parse().unwrap(), "--admin").await.unwrap_err();
        assert!(matches!(&error, ListenError::NotHere { .. }), "{error}");
        assert!(error.to_string().contains("--admin"), "{error}");
    }

    #[tokio::test]
    async fn connections_come_without_nagle() {
        use futures_util::StreamExt;
        let listener = listen(&"127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::spawn(TcpStream::connect(address));
        let server = Box::pin(connections(listener)).next().await.unwrap().unwrap();
        assert!(server.nodelay().unwrap());
        assert_eq!(socket2::SockRef::from(&server).tcp_notsent_lowat().unwrap(), UNSENT);
        client.await.unwrap().unwrap();
    }
}
