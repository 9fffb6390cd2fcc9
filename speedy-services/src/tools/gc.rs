//! `speedy gc`: what nobody needs, and what became of it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use humantime::{format_duration, format_rfc3339_seconds};
use indicatif::BinaryBytes;

use super::bar::Bar;
use super::print::{print, print_table, table};
use super::remote::{self, RemoteError};
use crate::cli::{Age, Gc, GcRun, GcStatus};
use crate::registry::gc::report::{Policy, Report, Status, Tally};

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &Gc) -> ExitCode {
    let done = match command {
        Gc::Run(options) => run_now(options),
        Gc::Status(options) => status(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_now(options: &GcRun) -> Result<(), ToolError> {
    // For ever is the largest number.
    let milliseconds =
        |age: Age| age.0.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1));
    let mut query = Vec::new();
    query.extend(options.untagged.map(|age| ("untagged", milliseconds(age))));
    query.extend(options.unreferenced.map(|age| ("unreferenced", milliseconds(age))));
    query.extend(options.rate.map(|rate| ("rate", u64::from(rate.get()))));
    query.extend(options.dry_run.then_some(("dry_run", 1)));
    let report: Report = remote::work(&options.admin, "/gc/run", query, &Bar::new("collecting"))?;
    Ok(print(options.json, &report, report_text)?)
}

fn status(options: &GcStatus) -> Result<(), ToolError> {
    let status: Status = remote::get(&options.admin, "/gc/status")?;
    Ok(print(options.json, &status, status_text)?)
}

fn report_text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let took = spoken(report.milliseconds);
    let examined = report.tally.examined;
    if report.dry_run {
        writeln!(
            out,
            "Nothing was changed. A run now would do this (looked at {examined} things in {took}):\n"
        )?;
    } else {
        writeln!(out, "Done: looked at {examined} things in {took}.\n")?;
    }
    tally_text(out, &report.tally, Some(report.policy))?;
    if !report.items.is_empty() {
        writeln!(out)?;
        let mut rows = table(["WOULD GO", "IN", "NAME", "BYTES", "WHY"], &[3]);
        for item in &report.items {
            let repository = item.repository.clone().unwrap_or_default();
            let bytes = BinaryBytes(item.bytes).to_string();
            rows.add_row([item.what.clone(), repository, item.name.clone(), bytes, item.why.clone()]);
        }
        print_table(out, &rows)?;
    }
    if report.more_items > 0 {
        writeln!(out, "and {} more", report.more_items)?;
    }
    Ok(())
}

fn tally_text(out: &mut dyn Write, tally: &Tally, policy: Option<Policy>) -> io::Result<()> {
    let kept = |age: Option<Option<u64>>| match age {
        Some(Some(age)) => format!("for {}", spoken(age)),
        Some(None) => "(not looked for: off)".to_owned(),
        None => "for long enough".to_owned(),
    };
    let (untagged, unreferenced) =
        (kept(policy.map(|it| it.untagged)), kept(policy.map(|it| it.unreferenced)));
    let mut rows = table(["WHAT", "COUNT", "BYTES", "WHY"], &[1, 2]);
    for (what, count, bytes, why) in [
        ("uploads given up", tally.uploads, Some(tally.upload_bytes), "no byte came for too long".to_owned()),
        (
            "untagged manifests",
            tally.manifests,
            Some(tally.manifest_bytes),
            format!("no tag, index or subject {untagged}"),
        ),
        (
            "blobs out of repositories",
            tally.links,
            Some(tally.link_bytes),
            format!("no manifest of the repository needed them {unreferenced}"),
        ),
        ("v1 images without a tag", tally.images, None, format!("no tag reached them {unreferenced}")),
        ("blobs that died", tally.blobs, Some(tally.blob_bytes), "no repository has them".to_owned()),
        (
            "dead blobs emptied",
            tally.emptied,
            Some(tally.emptied_bytes),
            "nobody reads them any more: free on disk once compacted".to_owned(),
        ),
        (
            "chunks of no blob",
            tally.orphans,
            Some(tally.orphan_bytes),
            "a write broke off, or they were moved: free on disk once compacted".to_owned(),
        ),
        ("empty repositories", tally.repositories, None, "no manifest is in them".to_owned()),
        ("leftover references", tally.references, None, "a push or delete broke off".to_owned()),
    ] {
        let bytes = bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default();
        rows.add_row([what.to_owned(), count.to_string(), bytes, why]);
    }
    print_table(out, &rows)?;
    let waiting = [
        ("untagged manifests", tally.waiting_manifests, None),
        ("blobs in repositories", tally.waiting_links, Some(tally.waiting_link_bytes)),
        ("v1 images without a tag", tally.waiting_images, None),
        ("blobs of no repository", tally.waiting_blobs, Some(tally.waiting_blob_bytes)),
        ("chunks of no blob", tally.suspects, None),
    ];
    for (what, count, bytes) in waiting.into_iter().filter(|(_, count, _)| *count > 0) {
        let bytes = bytes.map(|bytes| format!(", {}", BinaryBytes(bytes))).unwrap_or_default();
        writeln!(out, "Not old enough yet: {count} {what}{bytes}")?;
    }
    if tally.spared_manifests + tally.spared_links > 0 {
        writeln!(
            out,
            "Spared for uploads under way: {} untagged manifests; {} blobs in repositories, {}. Uploads that nobody goes on \
             with: speedy uploads list, speedy uploads abort",
            tally.spared_manifests,
            tally.spared_links,
            BinaryBytes(tally.spared_link_bytes)
        )?;
    }
    if tally.unknown > 0 {
        writeln!(
            out,
            "Kept: {} chunks of blobs that the metadata does not know. See speedy meta rebuild --help",
            tally.unknown
        )?;
    }
    if tally.unreadable > 0 {
        writeln!(out, "Passed over: {} entries that can't be read; the log names them", tally.unreadable)?;
    }
    Ok(())
}

fn status_text(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    match (&status.at, &status.phase) {
        (Some(at), Some(phase)) => writeln!(out, "Collecting at {at}: looks at {phase}")?,
        (Some(at), None) => writeln!(out, "Collecting at {at}: begins or ends")?,
        (None, Some(phase)) => writeln!(out, "Interrupted at {phase}: the next process goes on from there")?,
        (None, None) => writeln!(out, "Not collecting now")?,
    }
    if let Some(policy) = status.policy {
        let age = |age: Option<u64>| age.map_or("off".to_owned(), spoken);
        writeln!(
            out,
            "The process asked keeps untagged manifests: {}; blobs that no manifest needs: {}",
            age(policy.untagged).replace("off", "for ever"),
            age(policy.unreferenced).replace("off", "for ever")
        )?;
    }
    if let (Some(tally), Some(began)) = (&status.current, status.began) {
        writeln!(out, "\nThis walk, since {} ({} things looked at):\n", time(began), tally.examined)?;
        tally_text(out, tally, None)?;
    }
    if let Some(last) = &status.last {
        writeln!(
            out,
            "\nThe last complete walk, {} to {} ({} things looked at):\n",
            time(last.began),
            time(last.ended),
            last.tally.examined
        )?;
        tally_text(out, &last.tally, None)?;
    }
    Ok(())
}

fn spoken(milliseconds: u64) -> String {
    format_duration(Duration::from_millis(milliseconds)).to_string()
}

fn time(milliseconds: u64) -> String {
    // Years have four digits.
    let since = Duration::from_millis(milliseconds).min(Duration::from_secs(253_402_300_799));
    format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::gc::report::{Finished, Item};

    fn tally() -> Tally {
        Tally {
            examined: 12,
            manifests: 2,
            manifest_bytes: 2048,
            blobs: 3,
            blob_bytes: 3 << 20,
            waiting_links: 4,
            waiting_link_bytes: 1 << 30,
            spared_links: 5,
            spared_link_bytes: 3 << 20,
            ..Tally::default()
        }
    }

    #[test]
    fn a_dry_run_says_what_how_much_and_why() {
        let item = Item {
            what: "manifest".into(),
            repository: Some("a/b".into()),
            name: "sha256:12".into(),
            bytes: 1024,
            why: "no tag, index or subject has kept it for 30days".into(),
        };
        let policy = Policy { untagged: Some(30 * 86_400_000), unreferenced: None };
        let report = Report {
            dry_run: true,
            policy,
            tally: tally(),
            items: vec![item],
            more_items: 7,
            milliseconds: 1500,
        };
        let mut text = Vec::new();
        report_text(&mut text, &report).unwrap();
        let text = String::from_utf8(text).unwrap();
        for part in [
            "Nothing was changed",
            "looked at 12 things in 1s 500ms",
            "untagged manifests             2  2.00 KiB  no tag, index or subject for 30days",
            "(not looked for: off)",
            "blobs that died                3  3.00 MiB",
            "Not old enough yet: 4 blobs in repositories, 1.00 GiB",
            "Spared for uploads under way: 0 untagged manifests; 5 blobs in repositories, 3.00 MiB.",
            "manifest  a/b  sha256:12",
            "and 7 more",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn a_status_names_the_place_and_the_last_walk() {
        let last = Finished { began: 1_790_000_000_000, ended: 1_790_000_060_000, tally: tally() };
        let mut status = Status {
            at: Some("admin address 127.0.0.1:1 of h:2".into()),
            phase: Some("dead blobs".into()),
            current: Some(tally()),
            began: Some(1_790_000_000_000),
            last: Some(last),
            policy: None,
        };
        let print = |status: &Status| {
            let mut text = Vec::new();
            status_text(&mut text, status).unwrap();
            String::from_utf8(text).unwrap()
        };
        let text = print(&status);
        for part in [
            "Collecting at admin address 127.0.0.1:1 of h:2: looks at dead blobs",
            "2026-09-21T14:13:20Z to 2026-09-21T14:14:20Z (12 things looked at)",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        (status.at, status.phase, status.current) = (None, None, None);
        assert!(print(&status).starts_with("Not collecting now\n"));
    }
}
