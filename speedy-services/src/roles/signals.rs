use std::process::exit;

use tokio::signal::unix::{SignalKind, signal};

use super::StartError;
use crate::drain::Drain;

/// Lets the first SIGTERM or SIGINT start the drain, and the second end the process at once.
pub(super) fn watch(drain: &Drain) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let drain = drain.clone();
    tokio::spawn(async move {
        loop {
            // What a shell reports for a process that the signal ended.
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if drain.has_started() {
                tracing::warn!("ending at once");
                exit(code);
            }
            tracing::info!(
                "draining: requests under way are finished; a second signal ends the process at once"
            );
            drain.start();
        }
    });
    Ok(())
}
