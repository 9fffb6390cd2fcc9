//! The tables, in Markdown.

use std::fs;
use std::path::Path;

use anyhow::Result;
use speedy_benches::{Spread, machine, number};

use crate::content::Content;
use crate::measure::{Row, Subject};

/// How much slower than an empty store a full one may be.
const GOAL: f64 = 2.0;

/// Prints what both took: first the empty store, then the full one.
pub(crate) fn print(subjects: &[Subject], places: [&Path; 2], full: Content, rounds: u64) -> Result<()> {
    println!(
        "| milliseconds | empty: median | 99% within | full: median | 99% within | median: full / empty |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut above = Vec::new();
    for (at, row) in Row::ALL.into_iter().enumerate() {
        let [empty, full] = [0, 1].map(|which| Quantiles::of(&subjects[which].taken[at]));
        let ratio = full.median / empty.median;
        println!(
            "| {} | {} | {} | {} | {} | {ratio:.2} × |",
            row.text(),
            number(empty.median),
            number(empty.late),
            number(full.median),
            number(full.late)
        );
        if ratio > GOAL {
            above.push(format!("{}: {ratio:.2} ×", row.text()));
        }
    }
    println!();
    println!("| | empty | full |");
    println!("| --- | ---: | ---: |");
    let figures = |name: &str, of: fn(&Subject) -> &Vec<f64>| {
        let text = |subject: &Subject| Spread::of(of(subject).iter().copied()).text();
        println!("| {name} | {} | {} |", text(&subjects[0]), text(&subjects[1]));
    };
    figures("start until it listens, s", |subject| &subject.started);
    figures("anonymous memory after the start, MiB", |subject| &subject.memory_at_start);
    figures("most anonymous memory in a round, MiB", |subject| &subject.memory_at_peak);
    let [empty, all] = places.map(bytes_in);
    println!("| on the disk, MiB | {} | {} |", number(mib(empty?)), number(mib(all?)));
    println!();
    let Content { repositories, tags, blobs } = full;
    println!("{repositories} repositories, {tags} tags, {blobs} blobs; {rounds} rounds each, in turns.");
    println!("Machine: {}.", machine());
    match above.as_slice() {
        [] => println!("The full store is within {GOAL} × in every row."),
        rows => println!("Above {GOAL} ×: {}.", rows.join("; ")),
    }
    Ok(())
}

struct Quantiles {
    median: f64,
    late: f64,
}

impl Quantiles {
    /// Of at least one value.
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let late = (sorted.len() * 99).div_ceil(100).max(1) - 1;
        Self { median: Spread::of(sorted.iter().copied()).median, late: sorted[late] }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Bytes of disk that all files below take.
fn bytes_in(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_in(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(bytes)
}
