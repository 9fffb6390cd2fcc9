//! What clients may ask of a registry: how much at once, how often, and how large.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::HeaderMap;
use http::request::Parts;
use ipnet::IpNet;
use parking_lot::Mutex;

/// Clients whose requests are remembered before those that have been quiet are forgotten.
const CLIENTS: usize = 10_000;

/// What clients may ask of a registry. By default all that they like: memory is bounded by the budget in any case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of one blob, over all requests that bring it.
    pub blob: Option<u64>,
    /// Requests with a body that are under way at once, from all clients.
    pub uploads: Option<NonZeroU32>,
    /// The same from one client.
    pub client_uploads: Option<NonZeroU32>,
    /// Requests of any kind that one client may make.
    pub client_rate: Option<Rate>,
    /// Proxies that are believed when they say in `X-Forwarded-For` who the client is.
    pub trusted_proxies: Vec<IpNet>,
}

impl Limits {
    /// Sets [`blob`](Self::blob), in bytes.
    #[must_use]
    pub fn blob(mut self, most: Option<u64>) -> Self {
        self.blob = most;
        self
    }

    /// Sets [`uploads`](Self::uploads).
    #[must_use]
    pub fn uploads(mut self, most: Option<NonZeroU32>) -> Self {
        self.uploads = most;
        self
    }

    /// Sets [`client_uploads`](Self::client_uploads).
    #[must_use]
    pub fn client_uploads(mut self, most: Option<NonZeroU32>) -> Self {
        self.client_uploads = most;
        self
    }

    /// Sets [`client_rate`](Self::client_rate).
    #[must_use]
    pub fn client_rate(mut self, rate: Option<Rate>) -> Self {
        self.client_rate = rate;
        self
    }

    /// Sets [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: Vec<IpNet>) -> Self {
        self.trusted_proxies = proxies;
        self
    }
}

/// So many requests a second, and so many at once after a rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: NonZeroU32,
    /// Requests that may come at once from a client that was quiet.
    pub burst: NonZeroU32,
}

/// Who a limit counts: an IPv4 address, or the 64 bits of an IPv6 address that name a network, since a host there has as
/// many addresses as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Client(IpAddr);

impl Client {
    fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        })
    }
}

/// What is left of its rate to each client.
type Buckets = RateLimiter<Client, HashMapStateStore<Client>, DefaultClock>;

/// Keeps requests within the limits.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    rate: Option<(Buckets, Rate)>,
    uploads: Arc<Uploads>,
}

/// Requests with a body that are under way.
#[derive(Debug, Default)]
struct Uploads(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_client: HashMap<Client, u32>,
}

/// A place among the requests with a body, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    uploads: Arc<Uploads>,
    client: Option<Client>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.uploads.0.lock();
        counts.all -= 1;
        if let Some(client) = self.client
            && let Some(count) = counts.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_client.remove(&client);
            }
        }
    }
}

/// A limit that a request would exceed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("this client sends more than {} requests a second; wait before the next", .rate.per_second)]
    Rate { rate: Rate, wait: Duration },
    #[error("{0} uploads are under way, and more are not taken at once; try again")]
    Uploads(u32),
    #[error("{0} uploads of this client are under way, and more are not taken at once; try again")]
    ClientUploads(u32),
}

impl Exceeded {
    /// When it is worth trying again.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::Rate { wait, .. } => *wait,
            // Nobody knows when an upload ends.
            Self::Uploads(_) | Self::ClientUploads(_) => Duration::from_secs(5),
        }
    }

    /// What it is called in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Uploads(_) => "uploads",
            Self::ClientUploads(_) => "client_uploads",
        }
    }
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        let rate = limits.client_rate.map(|rate| {
            let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
            (RateLimiter::hashmap(quota), rate)
        });
        Self { limits, rate, uploads: Arc::default() }
    }

    /// The most bytes of a blob.
    pub(crate) fn blob(&self) -> Option<u64> {
        self.limits.blob
    }

    /// Counts a request of the client in this head.
    pub(crate) fn request(&self, head: &Parts) -> Result<(), Exceeded> {
        let (Some((limiter, rate)), Some(client)) = (&self.rate, self.client(head)) else { return Ok(()) };
        let checked = limiter.check_key(&Client::at(client));
        if limiter.len() > CLIENTS {
            // Those that could make a whole burst again: there is nothing to remember of them.
            limiter.retain_recent();
        }
        checked.map_err(|refused| {
            let wait = refused.wait_time_from(DefaultClock::default().now());
            Exceeded::Rate { rate: *rate, wait }
        })
    }

    /// Takes a place for a request with a body.
    pub(crate) fn upload(&self, head: &Parts) -> Result<Option<Place>, Exceeded> {
        let (all, each) = (self.limits.uploads, self.limits.client_uploads);
        if all.is_none() && each.is_none() {
            return Ok(None);
        }
        let client = each.and_then(|_| self.client(head)).map(Client::at);
        let mut counts = self.uploads.0.lock();
        if let Some(most) = all.filter(|most| counts.all >= most.get()) {
            return Err(Exceeded::Uploads(most.get()));
        }
        if let (Some(client), Some(most)) = (client, each) {
            let count = counts.by_client.entry(client).or_default();
            if *count >= most.get() {
                return Err(Exceeded::ClientUploads(most.get()));
            }
            *count += 1;
        }
        counts.all += 1;
        Ok(Some(Place { uploads: Arc::clone(&self.uploads), client }))
    }

    /// The client: the peer of the connection, or where that is a trusted proxy the last address that it or a trusted
    /// one before it names and that is no trusted proxy. What stands before that could be the client's own invention.
    pub(crate) fn client(&self, head: &Parts) -> Option<IpAddr> {
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip().to_canonical();
        let mut client = peer;
        for named in forwarded_for(&head.headers) {
            if !self.is_trusted(client) {
                break;
            }
            // Text that is no address ends what can be known.
            let Some(address) = named else { break };
            client = address;
        }
        Some(client)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.limits.trusted_proxies.iter().any(|proxies| proxies.contains(&address))
    }
}

/// The addresses of all `X-Forwarded-For` headers from the last one on; `None` for text that is none.
fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    lines.into_iter().rev().flat_map(|line| {
        let text = line.to_str().unwrap_or("?");
        text.rsplit(',').map(address).collect::<Vec<_>>()
    })
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(peer: &str, forwarded: &[&str]) -> Parts {
        let mut request = Request::get("/v2/");
        for line in forwarded {
            request = request.header("x-forwarded-for", *line);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let peer: IpAddr = peer.parse().unwrap();
        head.extensions.insert(ConnectInfo(SocketAddr::from((peer, 4711))));
        head
    }

    fn most(number: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(number)
    }

    #[test]
    fn only_trusted_proxies_say_who_the_client_is() {
        let proxies = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let gate = Gate::new(Limits::default().trusted_proxies(proxies));
        for (peer, forwarded, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            ("10.1.1.1", &[], "10.1.1.1"),
            ("10.1.1.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.1.1", &["198.51.100.1"], "198.51.100.1"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            // What the client itself sent stands in front.
            ("10.1.1.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["203.0.113.9, 198.51.100.1, 10.2.2.2"], "198.51.100.1"),
            ("10.1.1.1", &["203.0.113.9, 198.51.100.1", "10.2.2.2,10.3.3.3"], "198.51.100.1"),
            ("10.1.1.1", &["10.4.4.4"], "10.4.4.4"),
            ("10.1.1.1", &["198.51.100.1:1234"], "198.51.100.1"),
            ("10.1.1.1", &["[2001:db8::7]:1234"], "2001:db8::7"),
            ("10.1.1.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.1.1.1", &["198.51.100.1, unknown"], "10.1.1.1"),
            ("10.1.1.1", &["198.51.100.1, , 10.2.2.2"], "10.2.2.2"),
            ("10.1.1.1", &[""], "10.1.1.1"),
        ] {
            let found = gate.client(&head(peer, forwarded)).unwrap();
            assert_eq!(found.to_string(), client, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_client_may_make_a_burst_and_then_waits() {
        let rate = Rate { per_second: most(1).unwrap(), burst: most(3).unwrap() };
        let gate = Gate::new(Limits::default().client_rate(Some(rate)));
        for _ in 0..3 {
            assert_eq!(gate.request(&head("192.0.2.1", &[])), Ok(()));
        }
        let refused = gate.request(&head("192.0.2.1", &[])).unwrap_err();
        let wait = refused.retry_after();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(gate.request(&head("192.0.2.2", &[])), Ok(()), "another client");
        for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
            assert_eq!(gate.request(&head(host, &[])), Ok(()));
        }
        assert!(gate.request(&head("2001:db8::4", &[])).is_err(), "an IPv6 network is one client");
        assert_eq!(gate.request(&head("2001:db8:0:1::1", &[])), Ok(()));
    }

    #[test]
    fn clients_that_were_quiet_are_forgotten() {
        let rate = Rate { per_second: most(u32::MAX).unwrap(), burst: most(1).unwrap() };
        let gate = Gate::new(Limits::default().client_rate(Some(rate)));
        for client in 0..3 * CLIENTS as u32 {
            let address = std::net::Ipv4Addr::from(client).to_string();
            assert_eq!(gate.request(&head(&address, &[])), Ok(()));
        }
        assert!(gate.rate.as_ref().unwrap().0.len() <= CLIENTS + 1);
    }

    #[test]
    fn places_are_given_back() {
        let gate = Gate::new(Limits::default().uploads(most(3)).client_uploads(most(2)));
        let (one, other) = (head("192.0.2.1", &[]), head("192.0.2.2", &[]));
        let first = gate.upload(&one).unwrap();
        let second = gate.upload(&one).unwrap();
        assert_eq!(gate.upload(&one).unwrap_err(), Exceeded::ClientUploads(2));
        let third = gate.upload(&other).unwrap();
        assert_eq!(gate.upload(&other).unwrap_err(), Exceeded::Uploads(3));
        drop(first);
        assert!(gate.upload(&other).is_ok());
        drop((second, third));
        let counts = gate.uploads.0.lock();
        assert_eq!((counts.all, counts.by_client.len()), (0, 0));
    }
}
