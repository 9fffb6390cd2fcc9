//! Which is the faster place for chunks: the chunk store, redb, fjall, a file for each, or nothing but a preallocated
//! file and the system's calls?
//!
//! Every write is on stable storage when it returns. All take turns in every round, each in a fresh directory on the
//! same disk, and whoever goes first changes from round to round; a round before the first is not counted. Reads come
//! from the page cache or the engine's own. A figure is the median of all rounds; compare figures of one run only.

mod engines;
mod measure;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use speedy_benches::{Spread, machine, number};

use crate::engines::Kind;
use crate::measure::{Case, Operation};

/// Measures the chunk store beside redb, fjall, a file a chunk, and bare system calls, and prints a table.
#[derive(Debug, Parser)]
struct Options {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where all keep their data. It must be on the disk in question, not in memory. Default: the system's temporary
    /// directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Only cases whose name contains this, such as "write, 1 MiB" or "16 threads".
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only these places, by the names in the table's head; the store takes part always. To profile one of them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    beside: Option<Vec<String>>,
}

fn main() {
    let options = Options::parse();
    let parent = options.directory.unwrap_or_else(std::env::temp_dir);
    let wanted = |case: &Case| options.only.as_ref().is_none_or(|only| case.name().contains(only.as_str()));
    let cases: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    let takes_part = |kind: &Kind| match &options.beside {
        Some(names) => *kind == Kind::Store || names.iter().any(|name| name == kind.name()),
        None => true,
    };
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(takes_part).collect();
    let mut figures: BTreeMap<(usize, Kind), Vec<f64>> = BTreeMap::new();
    for round in 0..=options.rounds {
        for (row, case) in cases.iter().enumerate() {
            eprintln!("round {round} of {}: {}", options.rounds, case.name());
            for turn in 0..kinds.len() {
                let kind = kinds[(turn + round) % kinds.len()];
                if !kind.takes_part(case.operation) {
                    continue;
                }
                // What the one before it wrote must not be written back on this one's time.
                rustix::fs::sync();
                let figure = case.measure(kind, &parent);
                if round > 0 {
                    figures.entry((row, kind)).or_default().push(figure);
                }
            }
        }
    }
    print(&cases, &figures, options.rounds);
}

fn print(cases: &[Case], figures: &BTreeMap<(usize, Kind), Vec<f64>>, rounds: usize) {
    for operation in [Operation::Write, Operation::Read] {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.takes_part(operation)).collect();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        println!("| | unit | {} | least ratio |", names.join(" | "));
        println!("| --- | --- |{} --- |", " ---: |".repeat(kinds.len()));
        for (row, case) in cases.iter().enumerate().filter(|(_, case)| case.operation == operation) {
            let spread = |kind| figures.get(&(row, kind)).map(|values| Spread::of(values.iter().copied()));
            let Some(ours) = spread(Kind::Store) else { continue };
            let mut cells = vec![ours.text()];
            let mut least: Option<(f64, &str)> = None;
            for &kind in &kinds[1..] {
                let Some(theirs) = spread(kind) else { continue };
                let ratio = ours.median / theirs.median;
                cells.push(format!("{} = {ratio:.2} ×", number(theirs.median)));
                if least.is_none_or(|(least, _)| ratio < least) {
                    least = Some((ratio, kind.name()));
                }
            }
            let least = least.map_or(String::new(), |(ratio, name)| format!("{ratio:.2} × {name}"));
            println!("| {} | {} | {} | {least} |", case.name(), case.unit(), cells.join(" | "));
        }
        println!();
    }
    println!(
        "Median of {rounds} rounds each, taking turns (least–greatest of the store). Behind \"=\": by how much the"
    );
    println!("store is faster. Machine: {}.", machine());
}
