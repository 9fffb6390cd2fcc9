//! Commands that look at a store or a cluster, do something to it, and end.

mod bar;
mod blobs;
mod cluster;
mod gc;
mod meta;
mod print;
mod remote;
pub mod store;
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
    }
}
