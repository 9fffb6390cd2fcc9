use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of a process, all named `speedy_…`. Cheap to clone; clones share the registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// What every role reports: its build, its uptime, its memory.
    pub fn new(role: &'static str) -> Self {
        let mut registry = Registry::with_prefix("speedy");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
        registry.register("build", "The version that runs, and as which role", build);
        registry.register_collector(Box::new(Process { started: Instant::now() }));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Adds metrics of a role.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock())
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry.lock()).expect("writing to a string does not fail");
        page
    }
}

/// What the system knows of this process, read at each scrape.
#[derive(Debug)]
struct Process {
    started: Instant,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name, help, unit: Option<Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)
        };
        let uptime = self.started.elapsed().as_secs_f64();
        gauge("process_uptime", "Time since the process started", Some(Unit::Seconds), uptime)?;
        // Absent where the system has no /proc.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (field, name, help) in [
            ("VmRSS:", "process_resident_memory", "Memory of the process that is in RAM"),
            ("RssAnon:", "process_anonymous_memory", "Memory in RAM that is no file's"),
        ] {
            if let Some(bytes) = status_field(&status, field) {
                gauge(name, help, Some(Unit::Bytes), bytes as f64)?;
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            gauge("process_open_files", "File descriptors that are open", None, open.count() as f64)?;
        }
        Ok(())
    }
}

/// A field of `/proc/self/status`, given there in KiB, in bytes.
fn status_field(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
