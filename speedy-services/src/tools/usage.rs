//! `speedy usage`: how many bytes repositories take.

use std::io::{self, Write};
use std::process::ExitCode;

use http::Method;
use indicatif::BinaryBytes;

use super::print::{print, print_table, table};
use super::remote::{self, RemoteError};
use crate::admin::RepositoryUsage;
use crate::cli::UsageOf;

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(
        "there is no repository {0}: `speedy usage` lists all; what clients of v1 call NAME is library/NAME"
    )]
    Unknown(String),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(options: &UsageOf) -> ExitCode {
    match usage(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(options: &UsageOf) -> Result<(), ToolError> {
    let page = |query: &[(&str, &str)]| {
        remote::value::<Vec<RepositoryUsage>>(&options.admin, Method::GET, "/usage", query)
    };
    let mut all = Vec::new();
    if let Some(name) = &options.repository {
        all = page(&[("repository", name.as_str())])?;
        if all.is_empty() {
            return Err(ToolError::Unknown(name.to_string()));
        }
    } else {
        let mut list = page(&[])?;
        while let Some(last) = list.last() {
            let after = last.repository.clone();
            all.extend(list);
            list = page(&[("after", &after)])?;
        }
    }
    Ok(print(options.json, &all, text)?)
}

fn text(out: &mut dyn Write, all: &Vec<RepositoryUsage>) -> io::Result<()> {
    let mut rows = table(["REPOSITORY", "BLOBS", "LOGICAL", "SHARED", "UNIQUE"], &[1, 2, 3, 4]);
    let size = |bytes| BinaryBytes(bytes).to_string();
    for one in all {
        let RepositoryUsage { repository, blobs, logical, shared, unique } = one;
        rows.add_row([repository.clone(), blobs.to_string(), size(*logical), size(*shared), size(*unique)]);
    }
    print_table(out, &rows)
}
