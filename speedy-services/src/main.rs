//! The `speedy` binary: one subcommand a role.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use speedy_services::cli::{self, Command, LogFormat};
use speedy_services::{files, logging, roles, tools};

/// glibc's arenas bloat long-lived processes with many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let role = match cli::parse(std::env::args_os()) {
        Ok(Command::Role(role)) => role,
        Ok(Command::Tool(command)) => return tool(&command),
        Err(error) => return error.report(),
    };
    if let Err(error) = logging::start(role.process().log_format, "info") {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let ignored = cli::ignored_variables();
    if !ignored.is_empty() {
        tracing::warn!("environment variables that are no setting are ignored: {}", ignored.join(", "));
    }
    files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}; raise the limit of processes (ulimit -u)");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(roles::run(role));
    // Work on the blocking pool ends with what it has begun: data directories are closed in order.
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A command that ends by itself. What it has to say is its report, not the log.
fn tool(command: &cli::Tool) -> ExitCode {
    if let Err(error) = logging::start(LogFormat::Text, "off") {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    tools::run(command)
}
