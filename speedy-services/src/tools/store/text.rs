//! Reports for people.

use std::io::{self, Write};
use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};

use super::super::print::{print_table, table};
use super::report::{Check, Compaction, Directory, Record, Stats};

/// So many damaged chunks are named; the rest is counted.
const NAMED: usize = 20;

pub(super) fn stats(out: &mut dyn Write, stats: &Stats) -> io::Result<()> {
    let Stats { volumes, directories, .. } = stats;
    let percent = |part: u64, all: u64| 100.0 * part as f64 / (all as f64).max(1.0);
    let open = volumes.iter().filter(|volume| volume.open).count();
    writeln!(out, "store       {}", stats.store)?;
    writeln!(out, "node        {}", stats.node)?;
    writeln!(out, "chunks      {}, {}", HumanCount(stats.chunks), BinaryBytes(stats.chunk_bytes))?;
    writeln!(out, "tombstones  {}", HumanCount(stats.tombstones))?;
    writeln!(
        out,
        "volumes     {} ({open} open), {}, of which {} ({:.1}%) is dead",
        volumes.len(),
        BinaryBytes(stats.volume_bytes),
        BinaryBytes(stats.dead_bytes),
        percent(stats.dead_bytes, stats.volume_bytes)
    )?;
    writeln!(
        out,
        "room        {} free of {} ({:.1}%)",
        BinaryBytes(stats.free_bytes),
        BinaryBytes(stats.total_bytes),
        percent(stats.free_bytes, stats.total_bytes)
    )?;
    match &stats.last_scrub {
        Some(scrub) => writeln!(
            out,
            "last scrub  {}: {} records, {}, {} damaged",
            scrub.completed,
            HumanCount(scrub.records),
            BinaryBytes(scrub.bytes),
            HumanCount(scrub.damaged)
        )?,
        None => writeln!(out, "last scrub  none is complete yet")?,
    }
    if stats.damaged_chunks > 0 {
        writeln!(out, "DAMAGED     {} chunks: see speedy store check", HumanCount(stats.damaged_chunks))?;
    }
    writeln!(out)?;
    let mut table = table(["DIRECTORY", "STATE", "VOLUMES", "FREE", "SIZE"], &[2, 3, 4]);
    for directory in directories {
        table.add_row([
            name_of(directory),
            state_of(directory),
            directory.volumes.to_string(),
            BinaryBytes(directory.free_bytes).to_string(),
            BinaryBytes(directory.total_bytes).to_string(),
        ]);
    }
    print_table(out, &table)?;
    if volumes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let columns = ["VOLUME", "KIND", "STATE", "SIZE", "CHUNKS", "BYTES", "TOMBSTONES", "DEAD", "FILE"];
    let mut table = super::super::print::table(columns, &[0, 3, 4, 5, 6, 7]);
    for volume in volumes {
        table.add_row([
            volume.number.to_string(),
            volume.kind.clone(),
            if volume.open { "open" } else { "sealed" }.to_owned(),
            BinaryBytes(volume.bytes).to_string(),
            HumanCount(volume.chunks).to_string(),
            BinaryBytes(volume.chunk_bytes).to_string(),
            HumanCount(volume.tombstones).to_string(),
            format!("{:.0}%", percent(volume.dead_bytes, volume.bytes)),
            volume.path.display().to_string(),
        ]);
    }
    print_table(out, &table)
}

pub(super) fn check(out: &mut dyn Write, check: &Check) -> io::Result<()> {
    writeln!(
        out,
        "{} in {} verified, {}",
        counted(check.records, "record", "records"),
        counted(check.volumes, "volume", "volumes"),
        BinaryBytes(check.bytes)
    )?;
    let mut damage = Vec::new();
    for one in check.damaged.iter().take(NAMED) {
        damage.push(format!("chunk {}: {}", one.chunk, one.reason));
    }
    let rest = check.damaged_chunks.saturating_sub(NAMED as u64);
    if rest > 0 {
        damage.push(format!("and {} chunks more; --json lists them", HumanCount(rest)));
    }
    for id in &check.damaged_tombstones {
        damage.push(format!(
            "the tombstone of chunk {id} can't be read: start the node, and its scrub writes it again"
        ));
    }
    if check.damaged_regions > 0 {
        let places = counted(check.damaged_regions, "place", "places");
        damage.push(format!("{places} in volumes where no record can be read"));
    }
    for file in check.skipped.iter().filter(|file| file.is_damage) {
        damage.push(format!("{}: {}; its chunks are lost here", file.path.display(), file.reason));
    }
    for volume in &check.lost {
        let chunks = counted(volume.chunks, "chunk", "chunks");
        let tombstones = counted(volume.tombstones, "tombstone", "tombstones");
        damage.push(format!(
            "{} is gone or cut off, and {chunks} and {tombstones} of it are nowhere else: put the file back if it was moved, never over \
             one of that name",
            volume.path.display()
        ));
    }
    for directory in &check.absent {
        damage.push(format!("{} is {}: its chunks are not here", name_of(directory), state_of(directory)));
    }
    for id in &check.contradictions {
        damage.push(format!(
            "chunk {id}: a checkpoint contradicts the volumes; remove the CHECKPOINT files while the node is stopped, and \
             report this as an error of Speedy"
        ));
    }
    list(out, "DAMAGE", &damage)?;
    let mut notes = Vec::new();
    if check.unfinished > 0 {
        let writes = counted(check.unfinished, "write was", "writes were");
        notes.push(format!("{writes} cut off before being acknowledged; compaction drops what is left"));
    }
    if check.torn > 0 {
        let records = counted(check.torn, "record is", "records are");
        notes.push(format!(
            "{records} complete but not whole, and nothing vouches for it: torn by a power cut, as a rule"
        ));
    }
    for file in &check.unused_checkpoints {
        notes.push(format!("{}: {}; the volumes are read instead", file.path.display(), file.reason));
    }
    for file in check.skipped.iter().filter(|file| !file.is_damage) {
        notes.push(format!("{} is left alone: {}", file.path.display(), file.reason));
    }
    for path in &check.quarantine {
        let path = path.display();
        notes.push(format!(
            "{path} has what compaction could not read; remove it once its chunks are healed or given up"
        ));
    }
    list(out, "NOTES", &notes)?;
    if check.cancelled {
        writeln!(out, "\nended early: not everything was verified")
    } else if check.sound {
        writeln!(out, "sound: everything that counts is whole")
    } else {
        writeln!(out, "\nNOT SOUND: restore what is damaged from replicas of this node")
    }
}

pub(super) fn compaction(out: &mut dyn Write, done: &Compaction) -> io::Result<()> {
    writeln!(
        out,
        "{} removed, {} freed; {} copied, {}",
        counted(done.volumes_removed, "volume", "volumes"),
        BinaryBytes(done.bytes_freed),
        counted(done.records_copied, "record", "records"),
        BinaryBytes(done.bytes_copied)
    )?;
    let mut notes = Vec::new();
    if done.damaged_chunks > 0 {
        let chunks = counted(done.damaged_chunks, "chunk is", "chunks are");
        notes.push(format!("{chunks} damaged: speedy store check names them"));
    }
    if done.volumes_quarantined > 0 {
        let volumes = counted(done.volumes_quarantined, "volume", "volumes");
        notes.push(format!("what could not be read of {volumes} is kept as .quarantine"));
    }
    for file in &done.left {
        notes.push(format!("{} stays for now: {}", file.path.display(), file.reason));
    }
    list(out, "NOTES", &notes)?;
    if done.cancelled { writeln!(out, "\nended early") } else { Ok(()) }
}

pub(super) fn record_head(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>9} {:>12} {:>10}  {:<11} {:<10} {:>12} {:>9}  {:<32} {:>12}  CREATED",
        "VOLUME", "OFFSET", "SIZE", "KIND", "STATE", "CHUNK", "LENGTH", "BLOB", "AT"
    )
}

pub(super) fn record(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    writeln!(
        out,
        "{:>9} {:>12} {:>10}  {:<11} {:<10} {:>12} {:>9}  {:<32} {:>12}  {}",
        record.volume,
        record.offset,
        record.size,
        record.kind,
        record.state.unwrap_or("-"),
        number(record.chunk),
        number(record.length),
        record.blob.as_deref().unwrap_or("-"),
        number(record.blob_offset),
        record.created.as_deref().unwrap_or("-")
    )
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}

fn list(out: &mut dyn Write, title: &str, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn name_of(directory: &Directory) -> String {
    match (&directory.path, &directory.id) {
        (Some(path), _) => Path::display(path).to_string(),
        (None, Some(id)) => format!("directory {id}"),
        (None, None) => "a directory".to_owned(),
    }
}

fn state_of(directory: &Directory) -> String {
    match &directory.reason {
        Some(reason) => format!("{} ({reason})", directory.state),
        None => directory.state.clone(),
    }
}
