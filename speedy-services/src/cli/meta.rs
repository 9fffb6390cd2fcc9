use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::address::HostPort;

/// What `speedy meta` does but being a meta node.
#[derive(Subcommand, Clone, Debug)]
pub enum MetaTool {
    /// Back up the metadata of a running meta node, or of speedy serve
    ///
    /// Writes one instant of it into a file, while the node goes on working. The file is verified, and has its name only
    /// once it is complete and on stable storage. It holds all metadata, so keep it where only you can read it.
    #[command(after_help = "\
EXAMPLES
  speedy meta backup --admin meta-1:18098 /backup/meta-2026-11-21
  speedy meta backup --admin 127.0.0.1:15000 /backup/meta-2026-11-21     of speedy serve

EXIT CODES
  0  the backup is complete
  1  it is not, and there is no file; the last line on stderr says why
  2  a bad option")]
    Backup(Backup),
    /// Make a new data directory of a backup
    ///
    /// Verifies the backup, writes the directory, and compares every row with the backup again before it says so. Start the
    /// meta node on it, then restart the masters. For speedy serve, name the directory meta in its data directory.
    #[command(after_help = "\
EXAMPLES
  speedy meta restore /backup/meta-2026-11-21 --data-dir /var/lib/speedy/meta
  speedy meta restore /backup/meta-2026-11-21 --data-dir ./speedy-data/meta     of speedy serve

EXIT CODES
  0  the directory holds what the backup holds
  1  it could not be done, and there is no store in the directory; the last line on stderr says why
  2  a bad option")]
    Restore(Restore),
}

/// `speedy meta backup`
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// The file to write, which must not be there yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The admin address of a running meta node, or of speedy serve
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18098")]
    pub admin: HostPort,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `speedy meta restore`
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The directory, which must be empty; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
