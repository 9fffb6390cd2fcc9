use std::process::exit;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::StartError;
use crate::drain::Drain;

/// Lets the first SIGTERM or SIGINT announce the drain and, after `delay`, start it, and the second end the process at
/// once.
pub(super) fn watch(drain: &Drain, delay: Duration) -> Result<(), StartError> {
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
            if drain.is_announced() {
                tracing::warn!("ending at once");
                exit(code);
            }
            drain.announce();
            tokio::spawn(start(drain.clone(), delay));
        }
    });
    Ok(())
}

async fn start(drain: Drain, delay: Duration) {
    if !delay.is_zero() {
        let seconds = delay.as_secs_f64();
        tracing::info!(
            "not ready any more; serving goes on for {seconds} s, until load balancers have noticed"
        );
        tokio::time::sleep(delay).await;
    }
    tracing::info!("draining: requests under way are finished; a second signal ends the process at once");
    drain.start();
}
