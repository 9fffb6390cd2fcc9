//! The command line: one subcommand a role. Others script against it, so it is kept stable.

mod cluster;
mod conflicts;
mod effective;
mod environment;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gc;
mod limits;
mod meta;
mod operate;
mod options;
mod store;
mod values;

pub use cluster::{Adopt, Cluster, Drain, Move, Rebalance, Replace, Status, TransferTarget};
pub use effective::{Setting, effective};
pub use file::{FileError, Place};
pub use gc::{Collect, Gc, GcRun, GcStatus, UsageOf};
pub use limits::Limits;
pub use meta::{Backup, MetaTool, Rebuild, Restore};
pub use operate::{
    ConfigOf, ConfigPrint, ConfigTool, ReadOnlyOn, ReadOnlyTool, RegistryTarget, UploadsAbort, UploadsFilter,
    UploadsList, UploadsTool,
};
pub use options::{Chunk, Image, LogFormat, Master, Meta, ProcessOptions, Registry, Role, Serve, Switch};
pub use store::{Compact, Dump, Inspect, Store, Target};
pub use values::{AdminAddress, Age, CountLimit, Size, SizeLimit};

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// The exit code of a bad command line or configuration.
const USAGE: u8 = 2;

/// The whole command line.
#[derive(Parser, Debug)]
#[command(
    name = "speedy",
    version,
    about = "A container image store: docker push and docker pull, on one machine or on racks",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
#[derive(Subcommand, Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one of it")]
pub enum Command {
    /// Be a part of a store, until told to end.
    #[command(flatten)]
    Role(Role),
    /// Look at something, do something to it, and end.
    #[command(flatten)]
    Tool(Tool),
}

/// A command that ends by itself.
#[derive(Subcommand, Clone, Debug)]
pub enum Tool {
    /// Look at the cluster: groups, their members, and which of them take chunks
    #[command(subcommand)]
    Cluster(Cluster),
    /// Look at the chunks of a node: check them, list them, get room back
    #[command(subcommand)]
    Store(Store),
    /// Free what nobody needs: look how far that is, or do it now
    #[command(subcommand)]
    Gc(Gc),
    /// Say how many bytes repositories take, and how many of those they share
    Usage(UsageOf),
    /// Refuse pushes and deletes for a while, at all registries
    #[command(subcommand)]
    ReadOnly(ReadOnlyTool),
    /// Look at uploads that have begun and not ended, and give them up
    #[command(subcommand)]
    Uploads(UploadsTool),
    /// Check the configuration of a role, or print what it comes to
    #[command(subcommand)]
    Config(ConfigTool),
    /// What a meta node's metadata can be kept and saved with: `speedy meta` with one of these words behind it, and the
    /// role without
    #[command(skip)]
    Meta(MetaTool),
}

const LONG_ABOUT: &str = "\
Speedy stores container images. docker, containerd, podman, skopeo and crane push to it and pull
from it.

On one machine, `speedy serve` is all there is: everything in one process, data in one
directory. On several, each role runs on its own hosts: registries answer clients, image nodes
place and replicate what they bring, chunk nodes store it three times, a meta node knows what
belongs to what, and a master keeps the groups of chunk nodes. Add hosts to add capacity and
bandwidth; no data moves.";

const AFTER_HELP: &str = "\
START HERE
  speedy serve
      Stores in ./speedy-data and listens on 127.0.0.1:5000. It prints the docker commands that
      come next.

A CLUSTER, each line on hosts of its own
  speedy meta     --listen 0.0.0.0:8098 --data-dir /var/lib/speedy/meta
  speedy master   --listen 0.0.0.0:8099 --meta meta-1:8098
  speedy chunk    --listen 0.0.0.0:7654 --advertise store-1:7654 --data-dir /disk1 \\
                  --master master-1:8099 --group 1
  speedy image    --listen 0.0.0.0:6788 --master master-1:8099 --meta meta-1:8098
  speedy registry --listen 0.0.0.0:5000 --image image-1:6788,image-2:6788 --meta meta-1:8098
  The order does not matter: a role whose peer is not up yet waits and says so. Three chunk
  nodes make a group.

THE CLUSTER, AND A NODE'S DISKS
  speedy cluster status --master master-1:8099
      The groups, their members, and which of them take chunks.
  speedy store stats --admin store-1:17654
      What a running node holds, asked at its admin address; with a directory in its place, of a
      node that is stopped.
  speedy store check /disk1
      Verifies every byte and changes nothing. See speedy store --help.

ROOM
  speedy usage
      How many bytes each repository takes, and what would go with it.
  speedy gc run --dry-run
      What of it nobody needs. A store frees that by itself; see speedy gc --help.

CLIENTS
  speedy read-only on --reason 'moving to new disks until 18:00'
      Pushes and deletes are refused at all registries, pulls go on; speedy read-only off ends it.
  speedy uploads list
      The uploads that have begun and not ended; speedy uploads abort gives them up.

BACKUPS
  speedy meta backup --admin meta-1:18098 /backup/meta-2026-11-21
      One instant of the metadata, while everything goes on. Without metadata the chunks are no
      images: do it daily.
  speedy meta restore /backup/meta-2026-11-21 --data-dir /var/lib/speedy/meta
      A new data directory of it.
  speedy meta rebuild --master master-1:8099 --meta meta-1:8098
      Without a backup, or with an old one: makes blobs again of what chunk nodes hold. See
      speedy meta --help.

SETTINGS
  Every option can come from the command line, from the environment (SPEEDY_ and the option's
  name in capitals, such as SPEEDY_DATA_DIR) or from a TOML file named by --config, whose keys
  are the names of the options:
      data-dir = \"/var/lib/speedy\"
      memory-budget = \"1GiB\"
  The command line wins over the environment, the environment over the file. Unknown keys are
  refused, and variables that are nearly one. speedy config check --config FILE ROLE says whether
  a role would start with it, speedy config print ROLE where each value comes from.
  Sizes are bytes or a number with KiB, MiB, GiB or TiB. Durations are a number with ms, s, m,
  h or d.
  SPEEDY_LOG chooses what is logged, on stderr: error, warn, info (default), debug, or per
  module, such as
  \"info,speedy_core::store=debug\".

SIGNALS
  SIGTERM and SIGINT drain: nothing new is taken, requests under way are finished, then the
  process ends. A second one ends it at once; nothing that was acknowledged is lost by that
  either.

EXIT CODES
  0    drained, or printed what was asked for
  1    could not start or go on; the last line on stderr says why and what to do
  2    a bad option, environment variable or configuration file
  3    speedy store check has found damage, speedy cluster status a group that takes no chunks,
       speedy meta rebuild chunks of which it could make no blob, speedy read-only status that
       pushes are refused, or speedy uploads abort an id of no upload
  130  ended at once by a second SIGINT; 143 by a second SIGTERM";

/// Why the command line can't be obeyed, or that it asked only for help.
#[derive(Debug)]
pub enum UsageError {
    /// The command line or the environment; also a request for help or the version.
    CommandLine(Box<clap::Error>),
    /// The configuration file.
    File(FileError),
    /// A variable of the environment is no setting, and near to one.
    Environment {
        /// The variable.
        name: String,
        /// The one that was meant.
        meant: String,
    },
    /// Options that do not go together.
    Conflict {
        /// Which, and where they stand.
        options: String,
        /// What is wrong with them, and what to do.
        reason: String,
    },
    /// Several of these.
    Several(Vec<UsageError>),
    /// Something was asked of a role that is none.
    NotARole(String),
    /// A value from the environment or the file.
    Value {
        /// Where it stands.
        source: String,
        /// The option.
        option: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl UsageError {
    fn of(mut all: Vec<Self>) -> Self {
        match all.pop() {
            Some(only) if all.is_empty() => only,
            last => Self::Several(all.into_iter().chain(last).collect()),
        }
    }

    /// Prints it where it belongs and answers the process's exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::CommandLine(error) => {
                // Printing fails only where there is nobody to read it.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
            }
            Self::File(error) => eprintln!("error: {error}"),
            Self::Environment { name, meant } => {
                eprintln!("error: unknown environment variable {name}; did you mean {meant}?");
            }
            Self::Conflict { options, reason } => eprintln!("error: {options}: {reason}"),
            Self::Several(all) => {
                for error in all {
                    error.report();
                }
            }
            Self::NotARole(name) => {
                eprintln!("error: {name} is no role; name serve, master, meta, chunk, image or registry");
            }
            Self::Value { source, option, value, reason } => {
                eprintln!("error: {source}: invalid value '{value}' for {option}: {reason}");
            }
        }
        ExitCode::from(USAGE)
    }
}

/// Reads the command line, the environment and the configuration file that they name.
///
/// # Errors
/// Where one of them is wrong, and where only help was asked for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    matched(arguments.into_iter().collect()).map(|matched| matched.command)
}

/// A command line that is in order.
struct Matched {
    command: Command,
    matches: clap::ArgMatches,
    /// Where it is of a role: the definition, and what its file sets.
    role: Option<clap::Command>,
    settings: file::Settings,
}

fn matched(arguments: Vec<OsString>) -> Result<Matched, UsageError> {
    let mut command = CommandLine::command();
    let role = arguments.get(1).and_then(|name| command.find_subcommand(name)).cloned();
    // Only a role has settings, and the tools that are called by its name have none of them.
    let is_tool =
        |role: &clap::Command| arguments.get(2).is_some_and(|word| role.find_subcommand(word).is_some());
    let Some(role) = role.filter(|role| file::has_settings(role) && !is_tool(role)) else {
        let parsed = parsed(&mut command, arguments);
        let (command, matches) = parsed.map_err(|error| UsageError::CommandLine(Box::new(error)))?;
        return Ok(Matched {
            command: retold(command),
            matches,
            role: None,
            settings: file::Settings::default(),
        });
    };
    let strange = environment::strange(&command, std::env::vars_os().map(|(name, _)| name));
    let mistaken = strange.mistaken.into_iter();
    let mut wrong: Vec<UsageError> =
        mistaken.map(|(name, meant)| UsageError::Environment { name, meant }).collect();
    let mut settings = match file::read(&role, &arguments[2..]) {
        Ok(settings) => settings,
        Err(errors) => {
            wrong.extend(errors.into_iter().map(UsageError::File));
            return Err(UsageError::of(wrong));
        }
    };
    let mut taken_out = false;
    loop {
        let mut all = arguments.clone();
        // In front of what was given, so that a mistake there is reported against the words that were typed.
        all.splice(2..2, settings.arguments());
        let error = match parsed(&mut command, all) {
            Ok((command, matches)) if wrong.is_empty() => {
                let command = retold(command);
                check(&command, &role, &settings)?;
                return Ok(Matched { command, matches, role: Some(role), settings });
            }
            Ok(_) => return Err(UsageError::of(wrong)),
            Err(error) => error,
        };
        if error.exit_code() == 0 {
            return Err(UsageError::CommandLine(Box::new(error)));
        }
        let missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
        match blame(error, &role, &settings) {
            // What else is wrong is told, too.
            UsageError::Value { source, option, value, reason } if settings.remove(&option) => {
                taken_out = true;
                wrong.push(UsageError::Value { source, option, value, reason });
            }
            // Missing perhaps only because it was wrong and taken out.
            _ if missing && taken_out => return Err(UsageError::of(wrong)),
            error => {
                wrong.push(error);
                return Err(UsageError::of(wrong));
            }
        }
    }
}

fn parsed(
    command: &mut clap::Command,
    arguments: Vec<OsString>,
) -> Result<(Command, clap::ArgMatches), clap::Error> {
    let matches = command.try_get_matches_from_mut(arguments)?;
    CommandLine::from_arg_matches(&matches).map(|line| (line.command, matches))
}

/// What is called by the name of a role and is none.
fn retold(command: Command) -> Command {
    match command {
        Command::Role(Role::Meta(options::Meta { tool: Some(tool), .. })) => Command::Tool(Tool::Meta(tool)),
        command => command,
    }
}

/// Refuses options that do not go together.
fn check(command: &Command, definition: &clap::Command, settings: &file::Settings) -> Result<(), UsageError> {
    let Command::Role(role) = command else { return Ok(()) };
    let placed = |option: &'static str| match settings.place(definition, option) {
        Some(place) => format!("{option} ({place})"),
        None => format!("--{option}"),
    };
    let conflicts = conflicts::conflicts(role).into_iter();
    let wrong: Vec<UsageError> = conflicts
        .map(|conflict| {
            let [one, other] = conflict.options.map(placed);
            UsageError::Conflict { options: format!("{one} and {other}"), reason: conflict.reason }
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(UsageError::of(wrong)) }
}

/// Variables of the environment that begin as settings do, are none, and are near to none: they are ignored, and somebody
/// should know.
pub fn ignored_variables() -> Vec<String> {
    environment::strange(&CommandLine::command(), std::env::vars_os().map(|(name, _)| name)).ignored
}

/// Says of a bad value where it stands when that is not the command line.
fn blame(error: clap::Error, role: &clap::Command, settings: &file::Settings) -> UsageError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let option = text(ContextKind::InvalidArg)
        .and_then(|argument| Some(argument.strip_prefix("--")?.split(' ').next()?.to_owned()));
    let place = option.as_ref().and_then(|option| settings.place(role, option));
    match (option, place, text(ContextKind::InvalidValue)) {
        (Some(option), Some(source), Some(value)) => {
            let reason = match error.source() {
                Some(source) => source.to_string(),
                None => match error.get(ContextKind::ValidValue) {
                    Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                        format!("choose one of {}", valid.join(", "))
                    }
                    _ if value.is_empty() => "it must not be empty".to_owned(),
                    _ => "it is not a possible value".to_owned(),
                },
            };
            UsageError::Value { source, option, value, reason }
        }
        _ => UsageError::CommandLine(Box::new(error)),
    }
}

#[cfg(test)]
mod tests;
