//! `speedy cluster`: look at the cluster, and change it.

mod adopt;
mod replace;
mod status;
mod transfer;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::BinaryBytes;
use speedy_core::blob::BlobError;
use speedy_core::id::{GroupId, NodeId};
use speedy_core::placement::{Group, GroupOrder, Master, MasterError, Topology};

use crate::address::AddressList;
use crate::cli::Cluster;
use crate::master::MasterClient;

/// How long the masters have to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The exit code of what Ctrl-C ended.
const STOPPED: u8 = 130;
/// The exit code of options that make no sense together.
const USAGE: u8 = 2;

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error("no master of {masters} answers: {reason}; name those that run with --master")]
    Master { masters: AddressList, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("node {node} is a member of no group; speedy cluster status shows those that are")]
    Unknown { node: NodeId },
    #[error("there is no group {group}; speedy cluster status shows those that there are")]
    NoGroup { group: GroupId },
    #[error("--from and --to are both group {group}: nothing would move; name two groups")]
    SameGroup { group: GroupId },
    #[error("stopped; {} were moved and stay where they are. Run it again to go on", BinaryBytes(*.bytes))]
    Stopped { bytes: u64 },
    #[error("the layouts cannot be read or changed: {0}. What was moved stays where it is; run it again")]
    Layouts(BlobError),
    #[error("{} is no directory of speedy serve: it has no meta in it; name it with --data-dir", .0.display())]
    NoServe(PathBuf),
    #[error("{0} (stop the process that uses the directory first)")]
    Meta(#[from] speedy_core::meta::OpenError),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &Cluster) -> ExitCode {
    let done = match command {
        Cluster::Status(options) => status::run(options),
        Cluster::Replace(options) => replace::run(options),
        Cluster::Drain(options) => transfer::drain(options),
        Cluster::Move(options) => transfer::move_some(options),
        Cluster::Rebalance(options) => transfer::rebalance(options),
        Cluster::Adopt(options) => adopt::run(options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        match error {
            ToolError::SameGroup { .. } => ExitCode::from(USAGE),
            ToolError::Stopped { .. } => ExitCode::from(STOPPED),
            _ => ExitCode::FAILURE,
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, ToolError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ToolError::Start)
}

/// What the master knows now.
async fn ask(masters: &AddressList) -> Result<Topology, ToolError> {
    let client = MasterClient::new(masters);
    answered(masters, client.topology()).await
}

/// Gives an order and answers the group as it then is.
async fn order(masters: &AddressList, group: GroupId, order: GroupOrder) -> Result<Group, ToolError> {
    let client: Arc<dyn Master> = Arc::new(MasterClient::new(masters));
    answered(masters, client.order(group, order)).await
}

async fn answered<T>(
    masters: &AddressList,
    answer: impl Future<Output = Result<T, MasterError>>,
) -> Result<T, ToolError> {
    let failed = |reason: String| ToolError::Master { masters: masters.clone(), reason };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(MasterError::Refused(why))) => Err(ToolError::Refused(why)),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("nothing came within {} s", PATIENCE.as_secs()))),
    }
}
