use std::path::PathBuf;

use clap::{Args, Subcommand};
use speedy_core::id::NodeId;

use super::values::{self, Size};
use crate::address::AddressList;

/// `speedy cluster`
#[derive(Subcommand, Clone, Debug)]
pub enum Cluster {
    /// Show the groups of chunk nodes, their members, which of them take chunks, and what is being repaired
    #[command(after_help = "\
EXAMPLES
  speedy cluster status --master master-1:8099
  speedy cluster status --master master-1:8099 --json

EXIT CODES
  0  every group takes chunks and has all its replicas
  1  no master answers; the last line on stderr says why
  2  a bad option
  3  no group takes chunks, or one that is not drained and had all its members once takes none or
     has fewer replicas than it should")]
    Status(Status),

    /// Let another chunk node take the place of one, which stays until the other has everything
    #[command(after_help = "\
The new node is started as any other, with an empty directory and the group's number: speedy
chunk --group N. It fetches all chunks from the members of the group, while these serve clients.
Once it is in sync the old one is no member any more, and can be stopped. A node that died and
does not come back needs no order: once it has been silent for a minute an empty node that is
started for its group takes its place.

EXAMPLES
  speedy cluster replace --master master-1:8099 3a8bca20d4515fdfcf5d3c015b0d5a70
  speedy cluster replace --master master-1:8099 --cancel 3a8bca20d4515fdfcf5d3c015b0d5a70")]
    Replace(Replace),

    /// Move all chunks of a group to the others, and let it take no new ones
    #[command(after_help = "\
Pushes and pulls go on. It can be interrupted and run again: it goes on where it was. What was
moved is freed in the old group within some hours; see the operations page. The last group that
takes chunks is not drained: start another first.

EXAMPLES
  speedy cluster drain 2 --master master-1:8099 --meta meta-1:8098
  speedy cluster drain 2 --master master-1:8099 --meta meta-1:8098 --rate 50MiB
  speedy cluster drain 2 --cancel --master master-1:8099 --meta meta-1:8098

EXIT CODES
  0  no blob has a fragment in the group any more
  1  it could not be done; the last line on stderr says why
  2  a bad option
  3  some fragments could not be moved
  130  stopped by Ctrl-C; run again, it goes on")]
    Drain(Drain),

    /// Move chunks from one group to another
    #[command(after_help = "\
EXAMPLES
  speedy cluster move --from 1 --to 3 --bytes 500GiB --master master-1:8099 --meta meta-1:8098

EXIT CODES
  0  all was moved that was to be
  1  it could not be done; the last line on stderr says why
  2  a bad option
  3  some fragments could not be moved
  130  stopped by Ctrl-C; run again, it goes on")]
    Move(Move),

    /// Move chunks from groups that are fuller than the others to those that are emptier
    #[command(after_help = "\
A new group takes its share of new chunks at once, and reads need no rebalancing: this is for
room. What counts is what blobs have in a group, not what its disks have in use: what was moved is
freed within some hours, and run again meanwhile it moves nothing twice.

EXAMPLES
  speedy cluster rebalance --dry-run --master master-1:8099 --meta meta-1:8098
  speedy cluster rebalance --rate 100MiB --master master-1:8099 --meta meta-1:8098

EXIT CODES
  0  the groups are about as full as each other
  1  it could not be done; the last line on stderr says why
  2  a bad option
  3  some fragments could not be moved
  130  stopped by Ctrl-C; run again, it goes on")]
    Rebalance(Rebalance),

    /// Turn the directory of a stopped speedy serve into the first member of a group
    #[command(after_help = "\
It changes one record in the metadata, and prints what to start then.

EXAMPLE
  speedy cluster adopt --data-dir ./speedy-data --replicas 3")]
    Adopt(Adopt),
}

/// The cluster in which chunks are moved, and how.
#[derive(Args, Clone, Debug)]
pub struct TransferTarget {
    /// The master: HOST:PORT[,HOST:PORT...]
    #[arg(
        long,
        value_name = "LIST",
        env = "SPEEDY_MASTER",
        hide_env_values = true,
        default_value = "127.0.0.1:8099"
    )]
    pub master: AddressList,

    /// The meta node: HOST:PORT[,HOST:PORT...]
    #[arg(
        long,
        value_name = "LIST",
        env = "SPEEDY_META",
        hide_env_values = true,
        default_value = "127.0.0.1:8098"
    )]
    pub meta: AddressList,

    /// Bytes a second that are moved at most, as in 50MiB; as fast as it goes where it is not given
    #[arg(long, value_name = "SIZE", value_parser = values::rate)]
    rate: Option<Size>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl TransferTarget {
    /// Bytes a second.
    pub fn rate(&self) -> Option<u64> {
        self.rate.map(|rate| rate.bytes())
    }
}

/// `speedy cluster drain`
#[derive(Args, Clone, Debug)]
pub struct Drain {
    /// The group, as its nodes were started with --group
    pub group: u32,

    /// Let the group take new chunks again
    #[arg(long)]
    pub cancel: bool,

    /// Where
    #[command(flatten)]
    pub target: TransferTarget,
}

/// `speedy cluster move`
#[derive(Args, Clone, Debug)]
pub struct Move {
    /// The group that chunks are taken from
    #[arg(long, value_name = "GROUP")]
    pub from: u32,

    /// The group that they go to
    #[arg(long, value_name = "GROUP")]
    pub to: u32,

    /// How much; everything where it is not given
    #[arg(long, value_name = "SIZE")]
    pub bytes: Option<Size>,

    /// Where
    #[command(flatten)]
    pub target: TransferTarget,
}

/// `speedy cluster rebalance`
#[derive(Args, Clone, Debug)]
pub struct Rebalance {
    /// Only say what would be moved
    #[arg(long)]
    pub dry_run: bool,

    /// Where
    #[command(flatten)]
    pub target: TransferTarget,
}

/// `speedy cluster adopt`
#[derive(Args, Clone, Debug)]
pub struct Adopt {
    /// The directory of speedy serve
    #[arg(long, value_name = "DIR", default_value = "speedy-data")]
    pub data_dir: PathBuf,

    /// How many replicas the group is to have, 2 to 9
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(2..=9))]
    pub replicas: u32,
}

/// `speedy cluster replace`
#[derive(Args, Clone, Debug)]
pub struct Replace {
    /// The node that is to leave, as speedy cluster status shows it
    pub node: NodeId,

    /// The master: HOST:PORT[,HOST:PORT...]
    #[arg(
        long,
        value_name = "LIST",
        env = "SPEEDY_MASTER",
        hide_env_values = true,
        default_value = "127.0.0.1:8099"
    )]
    pub master: AddressList,

    /// Let the node stay after all, as long as no other has come
    #[arg(long)]
    pub cancel: bool,
}

/// `speedy cluster status`
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// The master: HOST:PORT[,HOST:PORT...]
    #[arg(
        long,
        value_name = "LIST",
        env = "SPEEDY_MASTER",
        hide_env_values = true,
        default_value = "127.0.0.1:8099"
    )]
    pub master: AddressList,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
