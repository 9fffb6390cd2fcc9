//! `speedy uploads`: the uploads that have begun and not ended.

use std::io::{self, Write};
use std::process::ExitCode;

use http::Method;
use indicatif::BinaryBytes;
use serde::Serialize;
use speedy_core::id::UploadId;

use super::print::{print, print_table, table};
use super::remote::{self, RemoteError};
use super::{NOT_SOUND, period};
use crate::admin::{Aborted, UploadPage, UploadState};
use crate::cli::{RegistryTarget, UploadsAbort, UploadsFilter, UploadsTool};

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &UploadsTool) -> ExitCode {
    let done = match command {
        UploadsTool::List(options) => list(&options.filter, &options.target),
        UploadsTool::Abort(options) => abort(options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

fn list(filter: &UploadsFilter, target: &RegistryTarget) -> Result<ExitCode, ToolError> {
    let found = find(filter, target)?;
    print(target.json, &found, |out, found| text(out, found)).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// All pages of the list.
fn find(filter: &UploadsFilter, target: &RegistryTarget) -> Result<Vec<UploadState>, RemoteError> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    let idle = filter.idle.map(|idle| idle.as_secs().to_string());
    loop {
        let mut query = Vec::new();
        if let Some(repository) = &filter.repository {
            query.push(("repository", repository.as_str()));
        }
        query.extend(idle.as_deref().map(|idle| ("idle_seconds", idle)));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: UploadPage = remote::value(&target.admin, Method::GET, "/registry/uploads", &query)?;
        found.extend(page.uploads);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn text(out: &mut dyn Write, found: &[UploadState]) -> io::Result<()> {
    if found.is_empty() {
        return writeln!(out, "no uploads");
    }
    let mut rows = table(["UPLOAD", "REPOSITORY", "BYTES", "BEGAN", "LAST GREW"], &[2, 3, 4]);
    for upload in found {
        rows.add_row([
            upload.id.clone(),
            upload.repository.clone().unwrap_or_else(|| "-".to_owned()),
            BinaryBytes(upload.bytes).to_string(),
            upload.age_seconds.map_or("-".to_owned(), |seconds| format!("{} ago", period(seconds))),
            format!("{} ago", period(upload.idle_seconds)),
        ]);
    }
    print_table(out, &rows)
}

/// What was done.
#[derive(Serialize)]
struct Report {
    aborted: Vec<UploadState>,
    unknown: Vec<String>,
}

fn abort(options: &UploadsAbort) -> Result<ExitCode, ToolError> {
    let ids = match options.ids.is_empty() {
        false => options.ids.iter().map(UploadId::to_string).collect(),
        true => {
            find(&options.filter, &options.target)?.into_iter().map(|upload| upload.id).collect::<Vec<_>>()
        }
    };
    let mut report = Report { aborted: Vec::new(), unknown: Vec::new() };
    for id in ids {
        let query = [("id", id.as_str())];
        let done: Aborted =
            remote::value(&options.target.admin, Method::POST, "/registry/uploads/abort", &query)?;
        match done.upload {
            Some(upload) => report.aborted.push(upload),
            // One that was found and has ended since is what was asked for.
            None if options.ids.is_empty() => {}
            None => report.unknown.push(id),
        }
    }
    print(options.target.json, &report, |out, report| {
        for id in &report.unknown {
            writeln!(out, "{id}  there is no such upload: it was finished, given up, or never was")?;
        }
        text_of_aborted(out, &report.aborted)
    })
    .map_err(ToolError::Print)?;
    Ok(if report.unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

fn text_of_aborted(out: &mut dyn Write, aborted: &[UploadState]) -> io::Result<()> {
    for upload in aborted {
        let repository = upload.repository.as_deref().unwrap_or("-");
        writeln!(out, "{}  {repository}  given up, {} are freed", upload.id, BinaryBytes(upload.bytes))?;
    }
    let count = aborted.len();
    writeln!(out, "{count} {} given up", if count == 1 { "upload" } else { "uploads" })
}
