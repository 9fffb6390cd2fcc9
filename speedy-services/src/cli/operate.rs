use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use speedy_core::id::UploadId;

use super::values;
use crate::address::HostPort;
use crate::registry::names::RepositoryName;

/// The registry that is asked, at its admin address.
#[derive(Args, Clone, Debug)]
pub struct RegistryTarget {
    /// The admin address of any registry of the cluster, or of speedy serve
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: HostPort,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `speedy read-only`
#[derive(Subcommand, Clone, Debug)]
pub enum ReadOnlyTool {
    /// Refuse pushes and deletes at all registries, while pulls go on
    ///
    /// Once it returns nothing is pushed or deleted any more, whatever was under way, and all that was acknowledged is there.
    /// What an upload under way has brought is kept, and it can go on once pushes are taken again. It holds until it is
    /// switched off, also when everything is restarted.
    #[command(after_help = "\
EXAMPLES
  speedy read-only on --reason 'moving to new disks until 18:00'
  speedy read-only on --admin registry-1:15000")]
    On(ReadOnlyOn),
    /// Take pushes and deletes again
    Off(RegistryTarget),
    /// Say whether pushes and deletes are taken
    #[command(after_help = "\
EXIT CODES
  0  they are
  1  no answer; the last line on stderr says why
  2  a bad option
  3  they are refused")]
    Status(RegistryTarget),
}

/// `speedy read-only on`
#[derive(Args, Clone, Debug)]
pub struct ReadOnlyOn {
    /// Why, and until when, for clients to see
    #[arg(long, value_name = "TEXT", value_parser = values::reason, default_value = "", hide_default_value = true)]
    pub reason: String,

    /// Where
    #[command(flatten)]
    pub target: RegistryTarget,
}

/// `speedy uploads`
#[derive(Subcommand, Clone, Debug)]
pub enum UploadsTool {
    /// Show the uploads that have begun and not ended
    ///
    /// One line each: where it goes, how many bytes it holds, when it began, and when it last grew. Bytes that come are counted
    /// every 64 MiB, after 5 seconds, and at the end of each request. One that rests for a day is given up by itself.
    #[command(after_help = "\
EXAMPLES
  speedy uploads list
  speedy uploads list --repository team/app --idle 10m --admin registry-1:15000")]
    List(UploadsList),
    /// Give uploads up: their bytes are freed, and a client that goes on with one is told that it is unknown
    #[command(after_help = "\
EXAMPLES
  speedy uploads abort 3a8bca20d4515fdfcf5d3c015b0d5a70
  speedy uploads abort --repository team/app
  speedy uploads abort --idle 6h

EXIT CODES
  0  they are gone
  1  it could not be done to the end; the last line on stderr says why
  2  a bad option
  3  one of the ids is of no upload")]
    Abort(UploadsAbort),
}

/// Which uploads.
#[derive(Args, Clone, Debug)]
pub struct UploadsFilter {
    /// Only those to this repository
    #[arg(long, value_name = "NAME")]
    pub repository: Option<RepositoryName>,

    /// Only those that have not grown for so long
    #[arg(long, value_name = "DURATION", value_parser = values::any_duration)]
    pub idle: Option<Duration>,
}

/// `speedy uploads list`
#[derive(Args, Clone, Debug)]
pub struct UploadsList {
    /// Which
    #[command(flatten)]
    pub filter: UploadsFilter,

    /// Where
    #[command(flatten)]
    pub target: RegistryTarget,
}

/// `speedy uploads abort`
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("which").args(["ids", "repository", "idle"]).required(true).multiple(true)))]
pub struct UploadsAbort {
    /// The ids of the uploads, as speedy uploads list shows them
    #[arg(value_name = "ID", conflicts_with_all = ["repository", "idle"])]
    pub ids: Vec<UploadId>,

    /// Which, in place of ids
    #[command(flatten)]
    pub filter: UploadsFilter,

    /// Where
    #[command(flatten)]
    pub target: RegistryTarget,
}

/// `speedy config`
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigTool {
    /// Check the configuration of a role without starting it
    ///
    /// Reads the file, the environment and the options as the role would. Directories are not opened and peers are not asked.
    #[command(after_help = "\
EXAMPLES
  speedy config check --config /etc/speedy/registry.toml registry
  speedy config check chunk --data-dir /disk1 --master master-1:8099 --group 1

EXIT CODES
  0  the role would start with it
  2  it would not; the last line on stderr says why")]
    Check(ConfigOf),
    /// Print the configuration that a role would have, and where each value comes from
    ///
    /// What is printed can be used as a configuration file.
    #[command(after_help = "\
EXAMPLES
  speedy config print serve
  speedy config print --config /etc/speedy/registry.toml registry --max-blob 10GiB")]
    Print(ConfigPrint),
}

/// A role and its options.
#[derive(Args, Clone, Debug)]
pub struct ConfigOf {
    /// The configuration file; else the one that SPEEDY_CONFIG names, if any
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// serve, master, meta, chunk, image or registry
    pub role: String,

    /// Options of the role, as it would be started with
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<std::ffi::OsString>,
}

/// `speedy config print`
#[derive(Args, Clone, Debug)]
pub struct ConfigPrint {
    /// Print JSON. Stands before the role
    #[arg(long)]
    pub json: bool,

    /// Which
    #[command(flatten)]
    pub of: ConfigOf,
}
