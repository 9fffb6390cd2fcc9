use clap::{Args, Subcommand};

use crate::address::AddressList;

/// `speedy cluster`
#[derive(Subcommand, Clone, Debug)]
pub enum Cluster {
    /// Show the groups of chunk nodes, their members, and which of them take chunks
    #[command(after_help = "\
EXAMPLES
  speedy cluster status --master master-1:8099
  speedy cluster status --master master-1:8099 --json

EXIT CODES
  0  every group takes chunks
  1  no master answers; the last line on stderr says why
  2  a bad option
  3  a group takes none, because a member is missing")]
    Status(Status),
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
