use clap::{Args, Subcommand};
use speedy_core::id::NodeId;

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
  3  a group takes none, or has fewer replicas than it should")]
    Status(Status),

    /// Let another chunk node take the place of one, which stays until the other has everything
    #[command(after_help = "\
The new node is started as any other, with an empty directory and the group's number: speedy chunk --group N. It
fetches all chunks from the members of the group, while these serve clients. Once it is in sync the old one is no member
any more, and can be stopped. A node that died and does not come back needs no order: once it has been silent for
a minute an empty node that is started for its group takes its place.

EXAMPLES
  speedy cluster replace --master master-1:8099 3a8bca20d4515fdfcf5d3c015b0d5a70
  speedy cluster replace --master master-1:8099 --cancel 3a8bca20d4515fdfcf5d3c015b0d5a70")]
    Replace(Replace),
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
