//! What the benchmarks share: blobs and a client that pushes and pulls them, figures of several rounds, and the machine
//! they come from.

pub mod blobs;
pub mod client;
pub mod server;

use std::fs;

use anyhow::{Context, Result};

/// Median, least and greatest of one figure over all rounds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The one in the middle; the mean of the two in the middle of an even number.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of at least one value.
    ///
    /// # Panics
    /// Where there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self { median, least: values[0], greatest: values[values.len() - 1] }
    }

    /// The median with the least and the greatest behind it.
    pub fn text(&self) -> String {
        format!("{} ({}–{})", number(self.median), number(self.least), number(self.greatest))
    }
}

/// A figure with about three digits.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Processor, cores, memory and kernel of this machine.
pub fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processor}, {cores} cores, {memory} of memory, Linux {}", kernel.trim())
}

/// Seconds of processor time of all threads of a process so far.
///
/// # Errors
/// Where there is no such process.
pub fn processor_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("asking for the processor time of process {process}"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th fields after it.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum::<u64>();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
