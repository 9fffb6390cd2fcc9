use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{self, Size};
use crate::address::HostPort;

/// `speedy store`
#[derive(Subcommand, Clone, Debug)]
pub enum Store {
    /// Verify every byte, and change nothing
    ///
    /// Reads every record that counts, compares all checksums, and says what is damaged, cut off or missing. The store of
    /// a node that is stopped is also walked from end to end, and its checkpoints are compared with what is found.
    #[command(after_help = "\
EXAMPLES
  speedy store check /disk1 /disk2
  speedy store check ./speedy-data
  speedy store check --admin 127.0.0.1:17654 --rate 100MiB

EXIT CODES
  0  done, and the store is sound
  1  it could not be done; the last line on stderr says why
  2  a bad option
  3  done, and chunks are damaged or missing")]
    Check(Inspect),
    /// Say what a store holds, and where
    #[command(after_help = "\
EXAMPLES
  speedy store stats --admin 127.0.0.1:17654
  speedy store stats /disk1 /disk2 --json")]
    Stats(Target),
    /// List every record, whether or not it counts
    ///
    /// One line a record, in the order in which they stand: volume, offset, size, what it is and of which chunk, and whether it
    /// counts. For stopped nodes only.
    #[command(after_help = "\
EXAMPLES
  speedy store dump /disk1 | grep -w damaged
  speedy store dump /disk1 --volume 7 --json")]
    Dump(Dump),
    /// Get the room of deleted chunks back
    ///
    /// Copies what counts out of volumes in which much is dead, verifies the copies, and removes the volumes. A running node
    /// does so by itself where half of a volume is dead; this does it now, and from a lower share on.
    #[command(after_help = "\
EXAMPLES
  speedy store compact --admin 127.0.0.1:17654 --dead-percent 10
  speedy store compact /disk1 /disk2")]
    Compact(Compact),
}

/// Which store.
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("store").args(["dirs", "admin"]).required(true)))]
pub struct Target {
    /// The directories of the store, as `speedy chunk --data-dir` has them, or that of `speedy serve`; the node must be
    /// stopped
    #[arg(value_name = "DIR")]
    pub dirs: Vec<PathBuf>,

    /// The admin address of a running node: `speedy chunk` or `speedy serve`
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "dirs")]
    pub admin: Option<HostPort>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `speedy store check`
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    #[command(flatten)]
    pub target: Target,

    /// Read so many bytes a second at most [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = values::rate)]
    pub rate: Option<Size>,
}

/// `speedy store compact`
#[derive(Args, Clone, Debug)]
pub struct Compact {
    #[command(flatten)]
    pub target: Target,

    /// Compact volumes of which so many percent are dead, 0 to 100. Those that are all dead go in any case
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(0..=100),
        default_value = "50"
    )]
    pub dead_percent: u8,

    /// Copy so many bytes a second at most [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = values::rate)]
    pub rate: Option<Size>,
}

/// `speedy store dump`
#[derive(Args, Clone, Debug)]
pub struct Dump {
    /// The directories of the store; the node must be stopped
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,

    /// Only this volume
    #[arg(long, value_name = "N")]
    pub volume: Option<u32>,

    /// Read the chunks too and verify them; otherwise only their headers and checksums are looked at
    #[arg(long)]
    pub verify: bool,

    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}
