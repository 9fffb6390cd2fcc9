//! `speedy meta backup` and its siblings: the metadata of a cluster, kept for the day on which it is lost.

mod backup;
mod rebuild;
mod restore;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use indicatif::BinaryBytes;
use serde::Serialize;
use speedy_core::meta::{BackupError, BackupInfo, RestoreError, Timestamp};

use super::remote::RemoteError;
use crate::cli::MetaTool;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("what {admin} answered is no good: {source}")]
    Answer { admin: crate::address::HostPort, source: BackupError },
    #[error("{} is there already; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}; the backup needs a directory that is there, writable, and has room", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(
        "{} was restored, and then could not be marked as such: {reason}; empty the directory and restore again",
        directory.display()
    )]
    Prepare { directory: PathBuf, reason: String },
    #[error("no master of {masters} answers: {reason}; name those that run with --master")]
    Master { masters: crate::address::AddressList, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("{0} (--data-dir names the directory; stop the process that uses it first)")]
    Embedded(#[from] speedy_core::embedded::OpenError),
    #[error("the rebuild ended early: {0}. What it did stays; run it again")]
    Rebuild(speedy_core::blob::BlobError),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &MetaTool) -> ExitCode {
    let done = match command {
        MetaTool::Backup(options) => backup::run(options),
        MetaTool::Restore(options) => restore::run(options),
        MetaTool::Rebuild(options) => rebuild::run(options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// A backup, as it is printed with `--json`.
#[derive(Serialize, Debug)]
struct Report {
    /// The file.
    file: PathBuf,
    /// The directory that was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// Names the store for its whole life.
    store: String,
    /// The instant that it holds, in RFC 3339, by the store's clock.
    taken: String,
    entries: u64,
    bytes: u64,
}

impl Report {
    fn new(file: PathBuf, directory: Option<PathBuf>, info: &BackupInfo) -> Self {
        Self {
            file,
            directory,
            store: hex::encode(info.identity),
            taken: rfc3339(info.taken),
            entries: info.entries,
            bytes: info.bytes,
        }
    }
}

fn text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let Report { file, directory, store, taken, entries, bytes } = report;
    let (file, size) = (file.display(), BinaryBytes(*bytes));
    match directory {
        None => writeln!(
            out,
            "{file}: {entries} entries of metadata store {store} at {taken}, {size}, complete and verified"
        ),
        Some(directory) => writeln!(
            out,
            "{directory}: {entries} entries of metadata store {store} as they were at {taken}, from {file}, {size}, \
             verified\nStart the meta node on it, then restart the masters. What was pushed after that instant is not \
             in it.",
            directory = directory.display()
        ),
    }
}

fn rfc3339(time: Timestamp) -> String {
    // Years have four digits.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let time = UNIX_EPOCH + Duration::from_millis(time.0).min(LAST);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_named() {
        assert_eq!(rfc3339(Timestamp(1_790_000_000_999)), "2026-09-21T14:13:20Z");
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
