use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use speedy_core::id::NodeId;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::calls::{Connection, Tag};
use super::errors::{WireError, unavailable_at};
use super::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW, Health, MAX_FRAME, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW,
    UNARY_TIMEOUT, health,
};
use crate::address::HostPort;

/// Bulk connections to a peer. HTTP/2 has one lock a connection, so one connection does not fill a fast link.
const BULK_CONNECTIONS: usize = 4;
/// How long a peer that failed is left alone before it is asked how it is; twice as long each time that it fails
/// again without an answer in between, up to [`MOST_DOUBLINGS`].
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 4;

/// The connections to one node: several for payloads, and one apart from them for small calls, which must not
/// stand in line behind payloads. They come up at the first call and again after they broke.
pub(crate) struct Peer {
    address: HostPort,
    /// What each call says beside its request.
    tag: Tag,
    /// The service that it is needed for.
    service: &'static str,
    control: Channel,
    bulk: [Channel; BULK_CONNECTIONS],
    next: AtomicUsize,
    /// A task asks it how it is until it is ready.
    passed_over: AtomicBool,
    /// Times that it failed since it last answered.
    failures: AtomicU32,
    /// Times that it failed since this process began.
    all_failures: AtomicU64,
    /// When it last said how it is. Held while it is asked, so that a thousand calls that wait ask once.
    said: tokio::sync::Mutex<Option<Instant>>,
}

impl Peer {
    /// The peer at an address, which should offer this service. Nothing is dialled yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(address: HostPort, service: &'static str) -> Arc<Self> {
        Self::tagged(address, service, Tag::default())
    }

    /// This chunk node at an address. Another one that is dialled there refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn of(node: NodeId, address: HostPort, service: &'static str) -> Arc<Self> {
        Self::tagged(address, service, Tag::of(node))
    }

    fn tagged(address: HostPort, service: &'static str, tag: Tag) -> Arc<Self> {
        let endpoint = endpoint(&address);
        Arc::new(Self {
            control: endpoint.connect_lazy(),
            bulk: std::array::from_fn(|_| endpoint.connect_lazy()),
            address,
            tag,
            service,
            next: AtomicUsize::new(0),
            passed_over: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            all_failures: AtomicU64::new(0),
            said: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn address(&self) -> &HostPort {
        &self.address
    }

    /// The service that it is needed for.
    pub(crate) fn service(&self) -> &'static str {
        self.service
    }

    /// The connection for small calls.
    pub(crate) fn control(&self) -> Connection {
        Connection::new(self.control.clone(), self.tag.clone())
    }

    /// A connection for payloads, in turn.
    pub(crate) fn bulk(&self) -> Connection {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Connection::new(self.bulk[next % BULK_CONNECTIONS].clone(), self.tag.clone())
    }

    /// What it says of itself, within a second.
    pub(crate) async fn health(&self) -> Health {
        health::ask(self).await
    }

    /// Whether it does not even say how it is; then it is passed over from now on. What it said less than `fresh` ago
    /// counts still.
    pub(crate) async fn stands_still(self: &Arc<Self>, fresh: Duration) -> bool {
        let mut said = self.said.lock().await;
        if said.is_some_and(|at| at.elapsed() < fresh) {
            return false;
        }
        // Somebody may have found out while this call waited for its turn.
        if !self.is_passed_over() {
            match self.health().await {
                Health::Away(_) => self.pass_over(),
                Health::Ready | Health::NotReady(_) => *said = Some(Instant::now()),
            }
        }
        self.is_passed_over()
    }

    /// Whether it failed and has not said since that it is ready.
    pub(crate) fn is_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed)
    }

    /// How often it failed and was passed over from then on.
    pub(crate) fn times_passed_over(&self) -> u64 {
        self.all_failures.load(Ordering::Relaxed)
    }

    /// It answered a call, and so is there.
    pub(crate) fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.passed_over.store(false, Ordering::Relaxed);
    }

    /// It failed: it is passed over until it says that it is ready.
    pub(crate) fn pass_over(self: &Arc<Self>) {
        if !self.passed_over.swap(true, Ordering::Relaxed) {
            self.all_failures.fetch_add(1, Ordering::Relaxed);
            let failures = self.failures.fetch_add(1, Ordering::Relaxed);
            let pause = RECOVERY_PAUSE * (1 << failures.min(MOST_DOUBLINGS));
            tokio::spawn(recover(Arc::downgrade(self), pause));
        }
    }
}

/// Asks a peer how it is until it is ready or nobody needs it any more.
async fn recover(peer: Weak<Peer>, pause: Duration) {
    let mut said = false;
    loop {
        tokio::time::sleep(pause).await;
        let Some(peer) = peer.upgrade() else { return };
        // It answered somebody who had no other to ask.
        if !peer.is_passed_over() {
            return;
        }
        match peer.health().await {
            Health::Ready => {
                if said {
                    tracing::info!(peer = %peer.address, "it is ready again");
                }
                peer.passed_over.store(false, Ordering::Relaxed);
                return;
            }
            Health::NotReady(why) | Health::Away(why) => {
                if !said {
                    tracing::warn!(peer = %peer.address, why, "passed over until it is ready; others of its kind are asked");
                }
                said = true;
            }
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.address)
    }
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
