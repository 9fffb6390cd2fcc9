//! `speedy read-only`: refuse pushes and deletes for a while, at all registries.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::print::print;
use super::remote::{self, RemoteError};
use super::{NOT_SOUND, period};
use crate::admin::ReadOnlyState;
use crate::cli::{ReadOnlyTool, RegistryTarget};

const PATH: &str = "/registry/read-only";
/// After so long every registry that can reach the metadata has looked: they do it every second.
const SETTLED: Duration = Duration::from_secs(2);

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &ReadOnlyTool) -> ExitCode {
    let done = match command {
        ReadOnlyTool::On(options) => switch(&options.target, &[("on", "true"), ("reason", &options.reason)]),
        ReadOnlyTool::Off(target) => switch(target, &[("on", "false")]),
        ReadOnlyTool::Status(target) => status(target),
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

fn switch(target: &RegistryTarget, query: &[(&str, &str)]) -> Result<ExitCode, ToolError> {
    let state: ReadOnlyState = remote::value(&target.admin, Method::POST, PATH, query)?;
    // Only what holds everywhere is reported.
    std::thread::sleep(SETTLED);
    print(target.json, &state, text).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn status(target: &RegistryTarget) -> Result<ExitCode, ToolError> {
    let state: ReadOnlyState = remote::get(&target.admin, PATH)?;
    print(target.json, &state, text).map_err(ToolError::Print)?;
    Ok(if state.read_only { ExitCode::from(NOT_SOUND) } else { ExitCode::SUCCESS })
}

fn text(out: &mut dyn Write, state: &ReadOnlyState) -> io::Result<()> {
    if !state.read_only {
        return writeln!(out, "pushes and deletes are taken");
    }
    let since = state.for_seconds.map_or(String::new(), |seconds| format!(", for {}", period(seconds)));
    let reason = state.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    writeln!(out, "read-only{since}{reason}")?;
    writeln!(
        out,
        "pushes and deletes are refused at all registries, pulls go on; speedy read-only off ends it"
    )
}
