use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::address::{AddressList, HostPort};
use crate::registry::names::RepositoryName;

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
  1  it could not be done, and there is no store in the directory; the last line on stderr says
     why
  2  a bad option")]
    Restore(Restore),
    /// Make blobs again of what chunk nodes hold, after a loss of metadata
    ///
    /// Reads and verifies every blob that the metadata does not know and that chunk nodes hold whole, and makes it known
    /// under the digest of its bytes. What is known is not changed, but for fragments that were moved since: run it on an empty metadata store, on one restored from
    /// an old backup, and again if it was interrupted. Tags, repositories and manifests are not in chunks: they come from
    /// a backup, or are pushed again, for which --repository saves sending the layers.
    #[command(after_help = "\
EXAMPLES
  speedy meta rebuild --master master-1:8099 --meta meta-1:8098 --dry-run
  speedy meta rebuild --master master-1:8099 --meta meta-1:8098 \\
      --repository team/app --repository team/base
  speedy meta rebuild --data-dir ./speedy-data     of speedy serve, stopped

EXIT CODES
  0  everything that chunk nodes hold whole is known
  1  it could not be done to the end; the last line on stderr says why. Run it again
  2  a bad option
  3  done, and chunks are left of blobs that are not whole or damaged")]
    Rebuild(Rebuild),
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

/// `speedy meta rebuild`
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("where").args(["data_dir", "master"]).required(true)))]
pub struct Rebuild {
    /// The master: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "LIST", requires = "meta")]
    pub master: Option<AddressList>,

    /// The meta node whose metadata is incomplete, or empty
    #[arg(long, value_name = "LIST", requires = "master")]
    pub meta: Option<AddressList>,

    /// The directory of speedy serve, which must be stopped, in place of a cluster
    #[arg(long, value_name = "DIR", conflicts_with = "meta")]
    pub data_dir: Option<PathBuf>,

    /// Make blobs that are in no repository readable in this one, so that a push to it need not send them. Whoever may read
    /// there can read them if he knows their digest; can be given up to 50 times
    #[arg(long, value_name = "NAME")]
    pub repository: Vec<RepositoryName>,

    /// Look and read, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Afterwards, let what could not be made a blob be freed within hours
    #[arg(long, conflicts_with = "dry_run")]
    pub release: bool,

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
