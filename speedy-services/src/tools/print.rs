//! Reports on stdout: tables for people, JSON for scripts.

use std::io::{self, BufWriter, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// Prints a report in the form that was asked for.
pub(super) fn print<T: Serialize>(
    as_json: bool,
    report: &T,
    text: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        text(&mut out, report)?;
    }
    out.flush()
}

/// A table with these columns, of which those at `numbers` are right-aligned.
pub(super) fn table<const N: usize>(columns: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for &index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(super) fn print_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    // The library pads the last column too.
    table.to_string().lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}
