//! What clients may ask of a registry: how much at once, how often, and how large.

mod places;
mod turns;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use http::HeaderMap;
use http::request::Parts;
use ipnet::IpNet;
use tokio::time::Instant;

pub(crate) use places::Place;
use places::Places;
use turns::Turns;

/// What clients may ask of a registry. By default all that they like: memory is bounded by the budget in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// How long a request may wait for its turn where it is cheap to refuse: it brings nothing, and nothing that came before
    /// is lost with it. By default 10 seconds, which no client takes for an answer that never comes.
    pub wait: Duration,
    /// How long one may wait with a body on its way, or that goes on with an upload; by default 5 minutes. Nothing is read
    /// from it meanwhile.
    pub wait_body: Duration,
    /// Proxies that are believed when they say in `X-Forwarded-For` who the client is.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob: None,
            uploads: None,
            client_uploads: None,
            client_rate: None,
            wait: Duration::from_secs(10),
            wait_body: Duration::from_secs(5 * 60),
            trusted_proxies: Vec::new(),
        }
    }
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

    /// Sets [`wait`](Self::wait).
    #[must_use]
    pub fn wait(mut self, most: Duration) -> Self {
        self.wait = most;
        self
    }

    /// Sets [`wait_body`](Self::wait_body).
    #[must_use]
    pub fn wait_body(mut self, most: Duration) -> Self {
        self.wait_body = most;
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

/// Keeps requests within the limits.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    turns: Option<Turns>,
    places: Arc<Places>,
}

/// A limit that a request would exceed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("this client sends more than {} requests a second; wait before the next", .rate.per_second)]
    Rate { rate: Rate, wait: Duration },
    #[error("{0} uploads are under way, and many wait; try again")]
    Uploads(u32),
    #[error("{0} uploads of this client are under way, and many wait; try again")]
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
        let turns = limits.client_rate.map(Turns::new);
        let places = Arc::new(Places::new(limits.uploads, limits.client_uploads));
        Self { limits, turns, places }
    }

    /// What it keeps to.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request of the client in this head, and says how long it has to wait, which is `most` at most.
    pub(crate) fn turn(&self, head: &Parts, most: Duration) -> Result<Duration, Exceeded> {
        match (&self.turns, self.client(head)) {
            (Some(turns), Some(client)) => turns.reserve(Client::at(client), most),
            _ => Ok(Duration::ZERO),
        }
    }

    /// Waits for a place for a request with a body, for `most` at most.
    pub(crate) async fn place(&self, head: &Parts, most: Duration) -> Result<Option<Place>, Exceeded> {
        if !self.places.are_limited() {
            return Ok(None);
        }
        let client = self.client(head).map(Client::at);
        self.places.place(client, Instant::now() + most).await.map(Some)
    }

    /// Whether an upload that begins now will come to its turn.
    pub(crate) fn room(&self, head: &Parts) -> Result<(), Exceeded> {
        if self.places.are_limited() { self.places.room(self.client(head).map(Client::at)) } else { Ok(()) }
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

    #[tokio::test(start_paused = true)]
    async fn a_client_may_make_a_burst_and_then_waits() {
        let rate = Rate { per_second: most(1).unwrap(), burst: most(3).unwrap() };
        let gate = Gate::new(Limits::default().client_rate(Some(rate)));
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(60));
        let turn = |host: &str, most| gate.turn(&head(host, &[]), most).map(|wait| wait.as_secs());
        let waits: Vec<_> = (0..5).map(|_| turn("192.0.2.1", short)).collect();
        assert_eq!(waits, [Ok(0), Ok(0), Ok(0), Ok(1), Ok(2)]);
        let refused = turn("192.0.2.1", short).unwrap_err();
        assert_eq!(refused.retry_after(), Duration::from_secs(3));
        assert_eq!(turn("192.0.2.1", long), Ok(3), "who was refused has reserved nothing");
        assert_eq!(turn("192.0.2.2", short), Ok(0), "another client");
        for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
            assert_eq!(turn(host, Duration::ZERO), Ok(0));
        }
        assert!(turn("2001:db8::4", Duration::ZERO).is_err(), "an IPv6 network is one client");
        assert_eq!(turn("2001:db8:0:1::1", Duration::ZERO), Ok(0));
        // Six came at once, so after six seconds a whole burst could come again, and after five all of it but one.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let waits: Vec<_> = (0..3).map(|_| turn("192.0.2.1", short)).collect();
        assert_eq!(waits, [Ok(0), Ok(0), Ok(1)]);
    }

    #[test]
    fn clients_that_were_quiet_are_forgotten() {
        let rate = Rate { per_second: most(u32::MAX).unwrap(), burst: most(1).unwrap() };
        let gate = Gate::new(Limits::default().client_rate(Some(rate)));
        for client in 0..30_000_u32 {
            let address = std::net::Ipv4Addr::from(client).to_string();
            assert_eq!(gate.turn(&head(&address, &[]), Duration::ZERO), Ok(Duration::ZERO));
        }
        assert!(gate.turns.as_ref().unwrap().remembered() <= 10_001);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_waited_for_and_given_back() {
        let gate = Gate::new(Limits::default().uploads(most(3)).client_uploads(most(2)));
        let (one, other) = (head("192.0.2.1", &[]), head("192.0.2.2", &[]));
        let second = Duration::from_secs(1);
        let first = gate.place(&one, second).await.unwrap().unwrap();
        let next = gate.place(&one, second).await.unwrap();
        let begun = Instant::now();
        assert_eq!(gate.place(&one, second).await.unwrap_err(), Exceeded::ClientUploads(2));
        assert_eq!(begun.elapsed(), second);
        let third = gate.place(&other, second).await.unwrap();
        assert_eq!(gate.place(&other, second).await.unwrap_err(), Exceeded::Uploads(3));
        assert!(!first.waited);
        let give_back = async {
            tokio::time::sleep(second / 2).await;
            drop(first);
        };
        let (waited, ()) = tokio::join!(gate.place(&one, second), give_back);
        assert!(waited.as_ref().unwrap().as_ref().unwrap().waited);
        drop((next, third, waited));
        assert_eq!(gate.places.standing(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_begins_what_would_wait_behind_many() {
        for limits in [Limits::default().uploads(most(1)), Limits::default().client_uploads(most(1))] {
            let gate = Gate::new(limits);
            let (one, other) = (head("192.0.2.1", &[]), head("192.0.2.2", &[]));
            let place = gate.place(&one, Duration::ZERO).await.unwrap();
            let all_wait = async {
                futures_util::future::join_all((0..16).map(|_| gate.place(&one, Duration::from_secs(9))))
                    .await
            };
            let look = async {
                assert!(gate.room(&one).is_err());
                let is_for_all = gate.limits().uploads.is_some();
                assert_eq!(gate.room(&other).is_err(), is_for_all);
                drop(place);
            };
            assert_eq!(gate.room(&one), Ok(()));
            let (places, ()) = tokio::join!(all_wait, look);
            assert_eq!(places.iter().filter(|place| place.is_ok()).count(), 1, "the first has it still");
            drop(places);
            assert_eq!(gate.room(&one), Ok(()));
        }
    }
}
