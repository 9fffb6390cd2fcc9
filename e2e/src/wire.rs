//! A pipe in front of a server that counts what passes, and can break off or stand still.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::wait_until;

/// Until when so many bytes must have passed that the pipe stands still.
const HOLD_LIMIT: Duration = Duration::from_secs(120);

/// How often what stands still looks whether it may go on.
const POLL: Duration = Duration::from_millis(5);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From clients to the server.
    Out,
    /// From the server to clients.
    Back,
}

/// Forwards connections to a server and counts the bytes: what a client really sent, whatever it says.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    out: Lane,
    back: Lane,
    closed: AtomicBool,
}

/// One way.
#[derive(Debug, Default)]
struct Lane {
    passed: AtomicU64,
    limit: Mutex<Option<Limit>>,
}

/// What happens when so many bytes have passed.
#[derive(Debug, Clone, Copy)]
struct Limit {
    at: u64,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Cut,
    Hold,
}

impl Lane {
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    fn limit(&self) -> MutexGuard<'_, Option<Limit>> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, limit: Option<Limit>, then: Then) -> bool {
        limit.is_some_and(|limit| limit.then == then && self.passed() >= limit.at)
    }

    fn holds(&self) -> bool {
        self.is_due(*self.limit(), Then::Hold)
    }

    /// Whether the connection that has just carried bytes is to break off; true once.
    fn cuts(&self) -> bool {
        let mut limit = self.limit();
        let due = self.is_due(*limit, Then::Cut);
        if due {
            *limit = None;
        }
        due
    }
}

impl Wire {
    /// A pipe on a free port to the server.
    ///
    /// # Errors
    /// When the system has no free port.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            server,
            out: Lane::default(),
            back: Lane::default(),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, state })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes from clients to the server so far.
    pub fn sent(&self) -> u64 {
        self.state.out.passed()
    }

    /// Bytes from the server to clients so far.
    pub fn received(&self) -> u64 {
        self.state.back.passed()
    }

    /// When so many more bytes have passed this way, the connection that carried the last of them breaks off. It happens once, and
    /// new connections are made as before.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.limit(way, bytes, Then::Cut);
    }

    /// When so many more bytes have passed this way, no more do until [`Wire::release`].
    pub fn hold_after(&self, way: Way, bytes: u64) {
        self.limit(way, bytes, Then::Hold);
    }

    /// Waits until nothing passes this way.
    ///
    /// # Errors
    /// When there is too little traffic for that.
    pub fn wait_held(&self, way: Way) -> Result<()> {
        wait_until("the connections to stand still", HOLD_LIMIT, || Ok(self.state.lane(way).holds()))
    }

    /// Whether a cut that was asked for has been made.
    pub fn is_cut(&self, way: Way) -> bool {
        self.state.lane(way).limit().is_none()
    }

    /// Lets everything pass.
    pub fn release(&self) {
        *self.state.out.limit() = None;
        *self.state.back.limit() = None;
    }

    fn limit(&self, way: Way, bytes: u64, then: Then) {
        let lane = self.state.lane(way);
        *lane.limit() = Some(Limit { at: lane.passed() + bytes, then });
    }
}

impl State {
    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Out => &self.out,
            Way::Back => &self.back,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming().flatten() {
        if state.closed.load(Ordering::Relaxed) {
            return;
        }
        // A server that is down looks like one to the client too: its connection closes.
        let Ok(server) = TcpStream::connect(state.server) else { continue };
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { continue };
        let passing = Arc::clone(state);
        thread::spawn(move || forward(from_client, server, &passing, Way::Out));
        let passing = Arc::clone(state);
        thread::spawn(move || forward(from_server, client, &passing, Way::Back));
    }
}

/// Passes on until one end closes, and then tells the other.
fn forward(mut from: TcpStream, mut to: TcpStream, state: &State, way: Way) {
    let lane = state.lane(way);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        while lane.holds() && !state.closed.load(Ordering::Relaxed) {
            thread::sleep(POLL);
        }
        let passed = match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) => to.write_all(&buffer[..length]).is_ok().then_some(length as u64),
            Err(_) => None,
        };
        let cut = passed.is_none_or(|length| {
            lane.passed.fetch_add(length, Ordering::Relaxed);
            lane.cuts()
        });
        if cut {
            // One end is gone, or is to be: nothing that comes later can arrive.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
