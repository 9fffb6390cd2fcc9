use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::errors::{WireError, unavailable_at};
use super::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW, MAX_FRAME, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW, UNARY_TIMEOUT,
};
use crate::address::HostPort;

/// Bulk connections to a peer. HTTP/2 has one lock a connection, so one connection does not fill a fast link.
const BULK_CONNECTIONS: usize = 4;
/// A peer that failed is asked last for so long.
const SHUNNED: Duration = Duration::from_secs(5);

/// The connections to one node: several for payloads, and one apart from them for small calls, which must not
/// stand in line behind payloads. They come up at the first call and again after they broke.
pub(crate) struct Peer {
    address: HostPort,
    control: Channel,
    bulk: [Channel; BULK_CONNECTIONS],
    next: AtomicUsize,
    failed: AtomicBool,
    failed_at: AtomicU64,
}

impl Peer {
    /// The peer at an address. Nothing is dialled yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(address: HostPort) -> Arc<Self> {
        let endpoint = endpoint(&address);
        Arc::new(Self {
            control: endpoint.connect_lazy(),
            bulk: std::array::from_fn(|_| endpoint.connect_lazy()),
            address,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            failed_at: AtomicU64::new(0),
        })
    }

    pub(crate) fn address(&self) -> &HostPort {
        &self.address
    }

    /// The connection for small calls.
    pub(crate) fn control(&self) -> Channel {
        self.control.clone()
    }

    /// A connection for payloads, in turn.
    pub(crate) fn bulk(&self) -> Channel {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.bulk[next % BULK_CONNECTIONS].clone()
    }

    /// Whether the last call failed, and so lately that another peer is the better choice.
    pub(crate) fn is_shunned(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
            && milliseconds().saturating_sub(self.failed_at.load(Ordering::Relaxed))
                < SHUNNED.as_millis() as u64
    }

    pub(crate) fn note(&self, answered: bool) {
        if !answered {
            self.failed_at.store(milliseconds(), Ordering::Relaxed);
        }
        self.failed.store(!answered, Ordering::Relaxed);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.address)
    }
}

/// Since the first call in this process.
fn milliseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn endpoint(address: &HostPort) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("HOST:PORT that was parsed is the authority of a URI")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// Awaits a call with one small answer, for so long as such a call may take.
pub(crate) async fn unary<T, E: WireError>(
    peer: &Peer,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, E> {
    match tokio::time::timeout(UNARY_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(E::from_status(&status, &peer.address)),
        Err(_) => Err(unavailable_at(&peer.address, &format!("no answer in {} s", UNARY_TIMEOUT.as_secs()))),
    }
}
