//! What operators do with running processes: `speedy read-only`, `speedy uploads`, `speedy usage`, `speedy config`, and ending them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod config;
mod drain;
mod gc;
mod metrics;
mod read_only;
mod registry;
mod serve;
mod uploads;
mod usage;

use std::process::{Command, Output};

const SPEEDY: &str = env!("CARGO_BIN_EXE_speedy");

/// Runs a command to its end, with nothing of this process's environment that could be a setting.
fn speedy(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(SPEEDY);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPEEDY_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// What it printed where it ended with `code`.
fn printed(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    out.into_owned()
}

/// What it said of a failure.
fn complaint(output: &Output, code: i32) -> String {
    printed(output, code);
    String::from_utf8_lossy(&output.stderr).into_owned()
}
