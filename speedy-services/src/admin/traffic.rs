use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::Metrics;

type Labels = Vec<(&'static str, String)>;

/// What a server does: how many requests, of what kind and with what outcome, how long they take, how many bytes they
/// move, and what is under way. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Traffic(Arc<Families>);

struct Families {
    /// Names of the labels: the kind of request, its method, its outcome.
    labels: [&'static str; 3],
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    received: Family<Labels, Counter>,
    sent: Family<Labels, Counter>,
    in_flight: Gauge,
    in_flight_bytes: Gauge,
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traffic")
    }
}

/// From 1 ms, each bucket twice the one before, to 65 s.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Traffic {
    /// That of a registry: by `route`, `method` and `status`.
    pub fn http() -> Self {
        Self::new(["route", "method", "status"])
    }

    /// That of a gRPC server: by `service`, `method` and `outcome`.
    pub fn grpc() -> Self {
        Self::new(["service", "method", "outcome"])
    }

    fn new(labels: [&'static str; 3]) -> Self {
        Self(Arc::new(Families {
            labels,
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            received: Family::default(),
            sent: Family::default(),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
        }))
    }

    /// Shows it among the metrics of the process, under names that begin with `prefix`, once.
    pub fn register(&self, prefix: &str, metrics: &Metrics) {
        let all = &self.0;
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix(prefix);
            registry.register("requests", "Requests that have ended", all.requests.clone());
            registry.register_with_unit(
                "request_duration",
                "From the head of a request to the end of its answer",
                Unit::Seconds,
                all.seconds.clone(),
            );
            let received = "Bytes of bodies that came with requests which have ended";
            registry.register_with_unit("received", received, Unit::Bytes, all.received.clone());
            let sent = "Bytes of bodies of answers to them";
            registry.register_with_unit("sent", sent, Unit::Bytes, all.sent.clone());
            registry.register("requests_in_flight", "Requests under way", all.in_flight.clone());
            let held = "Bytes that have come with requests under way";
            registry.register_with_unit("in_flight", held, Unit::Bytes, all.in_flight_bytes.clone());
        });
    }

    /// Notes that a request has come.
    pub fn begin(&self) -> Passing {
        self.0.in_flight.inc();
        let (received, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        Passing { traffic: self.clone(), begun: Instant::now(), received, sent }
    }
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub struct Passing {
    traffic: Traffic,
    begun: Instant,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Passing {
    /// Notes bytes of its body.
    pub fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.0.in_flight_bytes.inc_by(signed(bytes));
    }

    /// Notes bytes of its answer.
    pub fn send(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of its body so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of its answer so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Since it came.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Counts it, at its end.
    pub fn count(&self, kind: &str, method: &str, outcome: &str) {
        let all = &self.traffic.0;
        let [first, second, third] = all.labels;
        let mut labels = vec![(first, kind.to_owned()), (second, method.to_owned())];
        all.seconds.get_or_create(&labels).observe(self.elapsed().as_secs_f64());
        all.received.get_or_create(&labels).inc_by(self.received());
        all.sent.get_or_create(&labels).inc_by(self.sent());
        labels.push((third, outcome.to_owned()));
        all.requests.get_or_create(&labels).inc();
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.traffic.0.in_flight.dec();
        self.traffic.0.in_flight_bytes.dec_by(signed(self.received()));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_what_is_under_way_is_seen() {
        let (metrics, traffic) = (Metrics::new("test"), Traffic::http());
        traffic.register("http", &metrics);
        let (ended, under_way) = (traffic.begin(), traffic.begin());
        ended.receive(5);
        ended.send(7);
        ended.count("blob", "GET", "200");
        drop(ended);
        under_way.receive(11);
        let page = metrics.encode();
        for line in [
            "speedy_http_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1",
            "speedy_http_request_duration_seconds_count{route=\"blob\",method=\"GET\"} 1",
            "speedy_http_received_bytes_total{route=\"blob\",method=\"GET\"} 5",
            "speedy_http_sent_bytes_total{route=\"blob\",method=\"GET\"} 7",
            "speedy_http_requests_in_flight 1",
            "speedy_http_in_flight_bytes 11",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line}:\n{page}");
        }
        drop(under_way);
        assert!(metrics.encode().contains("speedy_http_in_flight_bytes 0\n"));
    }
}
