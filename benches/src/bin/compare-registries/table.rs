//! The table, in Markdown.

use speedy_benches::{Spread, machine};

use crate::phases::{Figure, Results};

/// Prints all rows, then those in which Speedy is behind. Every registry has at least one round.
pub(crate) fn print(ours: &[Results], theirs: &[Results], versions: &[String]) {
    println!("| | unit | speedy | docker-registry | speedy is better by |");
    println!("| --- | --- | ---: | ---: | ---: |");
    let mut behind = Vec::new();
    for (row, Figure { what, unit, more_is_better, .. }) in ours[0].0.iter().enumerate() {
        let spread = |rounds: &[Results]| Spread::of(rounds.iter().map(|round| round.0[row].value));
        let (our, their) = (spread(ours), spread(theirs));
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
