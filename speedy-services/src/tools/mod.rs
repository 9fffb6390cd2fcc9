//! Commands that look at a store or a cluster, do something to it, and end.

mod bar;
mod blobs;
mod cluster;
mod config;
mod gc;
mod meta;
mod print;
mod read_only;
mod remote;
pub mod store;
mod uploads;
mod usage;

use std::process::ExitCode;

use crate::cli::Tool;

/// The exit code where all was done and what was found is not as it should be.
const NOT_SOUND: u8 = 3;

/// Does what the command line says, and answers the process's exit code.
pub fn run(tool: &Tool) -> ExitCode {
    match tool {
        Tool::Store(command) => store::run(command),
        Tool::Cluster(command) => cluster::run(command),
        Tool::Gc(command) => gc::run(command),
        Tool::Usage(options) => usage::run(options),
        Tool::Meta(command) => meta::run(command),
        Tool::ReadOnly(command) => read_only::run(command),
        Tool::Uploads(command) => uploads::run(command),
        Tool::Config(command) => config::run(command),
    }
}

/// A time in the largest two units.
fn period(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::period;

    #[test]
    fn periods_have_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (3600, "1h 0m"), (200_000, "2d 7h")]
        {
            assert_eq!(period(seconds), text);
        }
    }
}
