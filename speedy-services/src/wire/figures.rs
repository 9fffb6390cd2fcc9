use std::fmt::Error;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Peers;
use crate::admin::Metrics;

/// Peers, and the role that they have.
type OfRole = (&'static str, Arc<Peers>);

/// How the peers of a process are, as metrics. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerFigures(Arc<Mutex<Vec<OfRole>>>);

impl PeerFigures {
    /// Shows them, from now on, among the metrics of the process. To be called once.
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| registry.register_collector(Box::new(self.clone())));
    }

    /// Adds peers of a role.
    pub(crate) fn add(&self, role: &'static str, peers: &Arc<Peers>) {
        self.0.lock().push((role, Arc::clone(peers)));
    }
}

impl Collector for PeerFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let all = self.0.lock();
        // A process that asks nobody has no such metrics.
        if all.is_empty() {
            return Ok(());
        }
        let peers = || all.iter().flat_map(|(role, peers)| peers.each().map(move |peer| (*role, peer)));
        let labels = |role: &str, address: String| [("role", role.to_owned()), ("peer", address)];
        let help = "Whether the peer is passed over until it says that it is ready";
        let mut family = encoder.encode_descriptor("peer_passed_over", help, None, MetricType::Gauge)?;
        for (role, peer) in peers() {
            let gauge = ConstGauge::new(i64::from(peer.is_passed_over()));
            gauge.encode(family.encode_family(&labels(role, peer.address().to_string()))?)?;
        }
        let help = "Times that the peer failed and was passed over from then on";
        let mut family = encoder.encode_descriptor("peer_failures", help, None, MetricType::Counter)?;
        for (role, peer) in peers() {
            let counter = ConstCounter::new(peer.times_passed_over());
            counter.encode(family.encode_family(&labels(role, peer.address().to_string()))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Patience};
    use super::*;

    #[tokio::test]
    async fn each_peer_is_shown_under_its_role() {
        let (metrics, figures) = (Metrics::new("test"), PeerFigures::default());
        figures.register(&metrics);
        assert!(!metrics.encode().contains("peer"), "a process without peers");
        let peers = |list: &str| {
            Arc::new(Peers::new(&list.parse().unwrap(), "a.Service", Choice::Sticky, Patience::Short))
        };
        let (masters, meta) = (peers("127.0.0.1:1,127.0.0.1:2"), peers("127.0.0.1:3"));
        figures.add("master", &masters);
        figures.add("meta", &meta);
        masters.each().next().unwrap().pass_over();
        let page = metrics.encode();
        for line in [
            "speedy_peer_passed_over{role=\"master\",peer=\"127.0.0.1:1\"} 1",
            "speedy_peer_passed_over{role=\"master\",peer=\"127.0.0.1:2\"} 0",
            "speedy_peer_passed_over{role=\"meta\",peer=\"127.0.0.1:3\"} 0",
            "speedy_peer_failures_total{role=\"master\",peer=\"127.0.0.1:1\"} 1",
            "speedy_peer_failures_total{role=\"meta\",peer=\"127.0.0.1:3\"} 0",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line}:\n{page}");
        }
        assert_eq!(page.matches("# TYPE speedy_peer_passed_over gauge").count(), 1, "{page}");
    }
}
