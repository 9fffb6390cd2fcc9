//! What each role of the command line is made of.

mod chunk;
mod error;
mod figures;
mod image;
mod master;
mod meta;
mod process;
mod recovery;
mod registry;
mod serve;
mod signals;
mod waiting;

pub use error::StartError;
pub(crate) use waiting::Waiting;

use crate::cli::Role;
use crate::drain::Drain;
use process::Process;

/// Runs a role until SIGTERM or SIGINT has drained it.
///
/// # Errors
/// Where it can't start, or can't go on.
pub async fn run(role: Role) -> Result<(), StartError> {
    let drain = Drain::new(role.process().drain_timeout);
    signals::watch(&drain, role.process().drain_delay)?;
    let process = Process::start(&role, drain).await?;
    match role {
        Role::Serve(options) => serve::run(options, process).await,
        Role::Master(options) => master::run(options, process).await,
        Role::Meta(options) => meta::run(options, process).await,
        Role::Chunk(options) => chunk::run(options, process).await,
        Role::Image(options) => image::run(options, process).await,
        Role::Registry(options) => registry::run(options, process).await,
    }
}
