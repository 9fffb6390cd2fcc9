//! Log lines, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// The environment variable that chooses what is logged.
const VARIABLE: &str = "SPEEDY_LOG";

/// Starts logging, once a process; `usual` is what is logged where the environment says nothing.
///
/// # Errors
/// Where `SPEEDY_LOG` can't be understood.
pub fn start(format: LogFormat, usual: &str) -> Result<(), String> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| usual.to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        format!("invalid value '{wanted}' for {VARIABLE}: {error}; choose error, warn, info or debug")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
    Ok(())
}
