use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::gc::Collect;
use super::limits::Limits;
use super::meta::MetaTool;
use super::values::{self, AdminAddress, Size};
use crate::address::{AddressList, HostPort};

/// What the process is.
#[derive(Subcommand, Clone, Debug)]
pub enum Role {
    /// Everything in one process, for one machine
    Serve(Serve),
    /// The master: knows the groups of chunk nodes and hands out chunk ids
    Master(Master),
    /// A meta node: knows what belongs to what
    Meta(Meta),
    /// A chunk node: stores
    Chunk(Chunk),
    /// An image node: places and replicates. Stateless; run as many as you like
    Image(Image),
    /// A registry: answers docker push and docker pull. Stateless; run as many as you like
    Registry(Registry),
}

impl Role {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Master(_) => "master",
            Self::Meta(_) => "meta",
            Self::Chunk(_) => "chunk",
            Self::Image(_) => "image",
            Self::Registry(_) => "registry",
        }
    }

    /// What every role has.
    pub fn process(&self) -> &ProcessOptions {
        match self {
            Self::Serve(role) => &role.process,
            Self::Master(role) => &role.process,
            Self::Meta(role) => &role.process,
            Self::Chunk(role) => &role.process,
            Self::Image(role) => &role.process,
            Self::Registry(role) => &role.process,
        }
    }

    /// Where it listens.
    pub fn listen(&self) -> &HostPort {
        match self {
            Self::Serve(role) => &role.listen,
            Self::Master(role) => &role.listen,
            Self::Meta(role) => &role.listen,
            Self::Chunk(role) => &role.listen,
            Self::Image(role) => &role.listen,
            Self::Registry(role) => &role.listen,
        }
    }
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Whether something is there.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// What every role has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every role")]
pub struct ProcessOptions {
    /// What others dial to reach this process [default: what it listens on]
    #[arg(long, value_name = "HOST:PORT", env = "SPEEDY_ADVERTISE", hide_env_values = true)]
    pub advertise: Option<HostPort>,

    /// Where /healthz, /readyz and /metrics are, or "off" [default: 127.0.0.1, the listening port + 10000]
    ///
    /// Where the listening port is 0 or above 55535 the default is a free port, which the log names.
    #[arg(long, value_name = "HOST:PORT|off", env = "SPEEDY_ADMIN", hide_env_values = true)]
    pub admin: Option<AdminAddress>,

    /// A TOML file of settings: its keys are the names of these options
    #[arg(long, value_name = "FILE", env = "SPEEDY_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// How log lines look, on stderr
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SPEEDY_LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Bytes held in memory for requests and caches, 32MiB to 1TiB. More requests wait their turn
    #[arg(
        long,
        value_name = "SIZE",
        env = "SPEEDY_MEMORY_BUDGET",
        hide_env_values = true,
        value_parser = values::memory_budget,
        default_value = "256MiB"
    )]
    pub memory_budget: Size,

    /// How long requests under way have to finish when the process is told to end, 0s to 1h
    #[arg(
        long,
        value_name = "DURATION",
        env = "SPEEDY_DRAIN_TIMEOUT",
        hide_env_values = true,
        value_parser = values::drain_timeout,
        default_value = "30s"
    )]
    pub drain_timeout: Duration,

    /// How long the process goes on serving when it is told to end, while /readyz says that it is not ready, so that load
    /// balancers notice before it takes no more connections: 0s to 10m
    #[arg(
        long,
        value_name = "DURATION",
        env = "SPEEDY_DRAIN_DELAY",
        hide_env_values = true,
        value_parser = values::drain_delay,
        default_value = "0s"
    )]
    pub drain_delay: Duration,
}

/// `speedy serve`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
EXAMPLES
  speedy serve
  speedy serve --data-dir /var/lib/speedy --listen 0.0.0.0:5000")]
pub struct Serve {
    /// Where everything is kept; made when it is not there
    #[arg(
        long,
        value_name = "DIR",
        env = "SPEEDY_DATA_DIR",
        hide_env_values = true,
        default_value = "./speedy-data"
    )]
    pub data_dir: PathBuf,

    /// Where the registry listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:5000"
    )]
    pub listen: HostPort,

    /// Whether Docker Registry v1 is served too: for Docker up to 1.5, and for docker search
    #[arg(
        long,
        value_name = "on|off",
        env = "SPEEDY_V1",
        hide_env_values = true,
        value_enum,
        hide_possible_values = true,
        default_value = "on"
    )]
    pub v1: Switch,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub gc: Collect,

    #[command(flatten)]
    pub process: ProcessOptions,
}

/// `speedy master`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
EXAMPLES
  speedy master --listen 0.0.0.0:8099 --meta meta-1:8098
  speedy master --listen 0.0.0.0:8099 --data-dir /var/lib/speedy/master")]
#[command(group(clap::ArgGroup::new("state").args(["data_dir", "meta"]).required(true)))]
pub struct Master {
    /// Where the master listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8099"
    )]
    pub listen: HostPort,

    /// Keep the groups in a directory of the master's own
    #[arg(long, value_name = "DIR", env = "SPEEDY_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,

    /// Keep the groups on meta nodes instead
    #[arg(long, value_name = "LIST", env = "SPEEDY_META", hide_env_values = true)]
    pub meta: Option<AddressList>,

    /// Chunk nodes that make a group complete, 1 to 16. A group that is not complete takes no chunk
    #[arg(
        long,
        value_name = "N",
        env = "SPEEDY_REPLICAS",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..=16),
        default_value = "3"
    )]
    pub replicas: u32,

    #[command(flatten)]
    pub process: ProcessOptions,
}

/// `speedy meta`
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands that keep and save what it knows, in place of being a meta node",
    after_help = "\
EXAMPLES
  speedy meta --listen 0.0.0.0:8098 --data-dir /var/lib/speedy/meta
  speedy meta backup --admin meta-1:18098 /backup/meta-2026-11-21"
)]
pub struct Meta {
    /// Where the meta node listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8098"
    )]
    pub listen: HostPort,

    // Always there where this is the role: only a command in its place goes without.
    /// Where its database is kept; made when it is not there
    #[arg(long, value_name = "DIR", env = "SPEEDY_DATA_DIR", hide_env_values = true, required = true)]
    pub data_dir: Option<PathBuf>,

    /// A command in place of the role.
    #[command(subcommand)]
    pub tool: Option<MetaTool>,

    #[command(flatten)]
    pub process: ProcessOptions,
}

/// `speedy chunk`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
EXAMPLES
  speedy chunk --listen 0.0.0.0:7654 --advertise store-1:7654 --data-dir /disk1 --data-dir /disk2 \\
               --master master-1:8099 --group 1")]
pub struct Chunk {
    /// Where the chunk node listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7654"
    )]
    pub listen: HostPort,

    /// Where chunks are kept, one directory a disk, in any order; may be given several times, or DIR,DIR. A new one is
    /// taken in; one that is not mounted is missing, and the node serves the others
    #[arg(
        long = "data-dir",
        value_name = "DIR",
        env = "SPEEDY_DATA_DIR",
        hide_env_values = true,
        required = true,
        value_delimiter = ','
    )]
    pub data_dirs: Vec<PathBuf>,

    /// Give up directories that are missing, with their chunks, for good: for the one start after a disk was lost. On
    /// the command line only
    #[arg(long)]
    pub forget_missing: bool,

    /// Bytes a second that are fetched at most from other members of the group, after this node was away or when a
    /// chunk is damaged: as in 50MiB. As fast as it goes where it is not given
    #[arg(
        long,
        value_name = "SIZE",
        env = "SPEEDY_REPAIR_RATE",
        hide_env_values = true,
        value_parser = values::rate,
    )]
    pub repair_rate: Option<Size>,

    /// The masters, any of which will do: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "LIST", env = "SPEEDY_MASTER", hide_env_values = true)]
    pub master: AddressList,

    /// The group that this node belongs to; all nodes of a group hold the same chunks
    #[arg(long, value_name = "N", env = "SPEEDY_GROUP", hide_env_values = true)]
    pub group: u32,

    #[command(flatten)]
    pub process: ProcessOptions,
}

/// `speedy image`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
EXAMPLES
  speedy image --listen 0.0.0.0:6788 --master master-1:8099 --meta meta-1:8098")]
pub struct Image {
    /// Where the image node listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:6788"
    )]
    pub listen: HostPort,

    /// The masters, any of which will do: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "LIST", env = "SPEEDY_MASTER", hide_env_values = true)]
    pub master: AddressList,

    /// The meta nodes: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "LIST", env = "SPEEDY_META", hide_env_values = true)]
    pub meta: AddressList,

    #[command(flatten)]
    pub gc: Collect,

    #[command(flatten)]
    pub process: ProcessOptions,
}

/// `speedy registry`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
EXAMPLES
  speedy registry --listen 0.0.0.0:5000 --image image-1:6788,image-2:6788 --meta meta-1:8098")]
pub struct Registry {
    /// Where the registry listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SPEEDY_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:5000"
    )]
    pub listen: HostPort,

    /// The image nodes: HOST:PORT[,HOST:PORT...]. Load is spread over them
    #[arg(long, value_name = "LIST", env = "SPEEDY_IMAGE", hide_env_values = true)]
    pub image: AddressList,

    /// The meta nodes: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "LIST", env = "SPEEDY_META", hide_env_values = true)]
    pub meta: AddressList,

    /// Whether Docker Registry v1 is served too: for Docker up to 1.5, and for docker search
    #[arg(
        long,
        value_name = "on|off",
        env = "SPEEDY_V1",
        hide_env_values = true,
        value_enum,
        hide_possible_values = true,
        default_value = "on"
    )]
    pub v1: Switch,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub process: ProcessOptions,
}
