//! The table, in Markdown.

use std::fs;

use crate::phases::{Figure, Results};

/// Median, least and greatest of one figure over all rounds.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(rounds: &[Results], row: usize) -> Self {
        let mut values: Vec<f64> = rounds.iter().map(|round| round.0[row].value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self { median, least: values[0], greatest: values[values.len() - 1] }
    }

    fn text(&self) -> String {
        format!("{} ({}–{})", number(self.median), number(self.least), number(self.greatest))
    }
}

/// Prints all rows, then those in which Speedy is behind. Every registry has at least one round.
pub(crate) fn print(ours: &[Results], theirs: &[Results], versions: &[String]) {
    println!("| | unit | speedy | docker-registry | speedy is better by |");
    println!("| --- | --- | ---: | ---: | ---: |");
    let mut behind = Vec::new();
    for (row, Figure { what, unit, more_is_better, .. }) in ours[0].0.iter().enumerate() {
        let (our, their) = (Spread::of(ours, row), Spread::of(theirs, row));
        let factor = if *more_is_better { our.median / their.median } else { their.median / our.median };
        println!("| {what} | {unit} | {} | {} | {factor:.2} × |", our.text(), their.text());
        if factor < 1.0 {
            behind.push(format!("{what}: {factor:.2} ×"));
        }
    }
    println!();
    println!("Median of {} rounds each, alternating (least–greatest). {}.", ours.len(), versions.join(", "));
    println!("Machine: {}.", machine());
    match behind.as_slice() {
        [] => println!("Speedy is ahead in every row."),
        rows => println!("Speedy is behind in: {}.", rows.join("; ")),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Processor, cores, memory and kernel.
fn machine() -> String {
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
