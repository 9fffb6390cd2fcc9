//! The figures as tables.

use std::path::{Path, PathBuf};

use speedy_benches::{Spread, machine, number};

use crate::measure::{Figures, Round, Setup, Transfer};

/// One round, for whoever waits.
pub(crate) fn line(round: &Round) -> String {
    let [up, down] = round.raw;
    let one = |transfer: &Transfer, raw| {
        let processor = transfer.processor.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let share = 100.0 * transfer.rate / raw;
        format!("{} MiB/s ({share:.1}% of raw TCP, {processor:.1} CPU s/GiB)", number(transfer.rate))
    };
    format!("push {}, pull {}", one(&round.push, up), one(&round.pull, down))
}

pub(crate) fn print(setups: &[Setup], programs: &[PathBuf], figures: &[Vec<Figures>], rounds: usize) {
    let every = || {
        setups.iter().zip(figures).flat_map(move |(setup, figures)| {
            programs
                .iter()
                .zip(figures)
                .map(move |(program, figures)| (setup, label(programs, program), figures))
        })
    };
    println!("| | push, MiB/s | of raw TCP | pull, MiB/s | of raw TCP | raw TCP up, down, MiB/s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (setup, program, figures) in every() {
        let [push, pull] = ways(figures).map(|(_, transfers)| spread(&transfers, |transfer| transfer.rate));
        let [up, down] = [0, 1].map(|way| Spread::of(figures.0.iter().map(|round| round.raw[way])));
        println!(
            "| {setup}{program} | {} | {:.1}% | {} | {:.1}% | {}, {} |",
            push.text(),
            100.0 * push.median / up.median,
            pull.text(),
            100.0 * pull.median / down.median,
            number(up.median),
            number(down.median),
        );
    }
    println!("\nSeconds of processor time for a GiB, by role:\n");
    let roles: Vec<&str> = figures[0][0].0[0].push.processor.iter().map(|(role, _)| *role).collect();
    println!("| | | {} | all |", roles.join(" | "));
    println!("| --- | --- |{}", " ---: |".repeat(roles.len() + 1));
    for (setup, program, figures) in every() {
        for (way, transfers) in ways(figures) {
            let role = |role: usize| spread(&transfers, |transfer| transfer.processor[role].1).median;
            let seconds: Vec<f64> = (0..roles.len()).map(role).collect();
            let cells: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            println!(
                "| {setup}{program} | {way} | {} | {:.2} |",
                cells.join(" | "),
                seconds.iter().sum::<f64>()
            );
        }
    }
    println!(
        "\nBytes that left and reached each host, for each byte that was pushed or pulled (the last round):\n"
    );
    println!("| | host | push: out | in | pull: out | in |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for (setup, program, figures) in every() {
        let Some(round) = figures.0.last() else { continue };
        for ((host, pushed_out, pushed_in), (_, pulled_out, pulled_in)) in
            round.push.links.iter().zip(&round.pull.links)
        {
            println!(
                "| {setup}{program} | {host} | {pushed_out:.3} | {pushed_in:.3} | {pulled_out:.3} | {pulled_in:.3} |"
            );
        }
    }
    let rate = setups[0]
        .shape
        .rate
        .as_deref()
        .map_or("what the machine can".to_owned(), |rate| format!("{rate} each way"));
    println!(
        "\nEvery link carries {rate}. Median of {rounds} rounds (least–greatest). Machine: {}.",
        machine()
    );
}

fn ways(figures: &Figures) -> [(&'static str, Vec<&Transfer>); 2] {
    let of = |transfer: fn(&Round) -> &Transfer| figures.0.iter().map(transfer).collect();
    [("push", of(|round| &round.push)), ("pull", of(|round| &round.pull))]
}

fn spread(transfers: &[&Transfer], value: impl Fn(&Transfer) -> f64) -> Spread {
    Spread::of(transfers.iter().map(|transfer| value(transfer)))
}

/// Which program, where there are several.
fn label(programs: &[PathBuf], program: &Path) -> String {
    if programs.len() > 1 { format!(", {}", program.display()) } else { String::new() }
}
