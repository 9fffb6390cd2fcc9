//! Settings from a TOML file: read as if they had been given on the command line, so that an option has one parser,
//! one set of bounds and one default.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Command};

/// Furthest that a key may be from an option's name to be taken for a slip of the pen.
const NEAR: usize = 4;

/// Why the configuration file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{} is not TOML: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key is none of the role's options.
    #[error("{}: unknown key '{key}' for speedy {role}{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The role.
        role: String,
        /// The right name, or all of them.
        hint: String,
    },
    /// A key's value is a table or a date, which no option takes.
    #[error("{}: the value of '{key}' is no string, number or list of strings", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// What a file sets and nothing above it does.
#[derive(Debug, Default)]
pub(super) struct Settings {
    path: PathBuf,
    values: Vec<(String, String)>,
    given: Vec<String>,
}

impl Settings {
    /// The settings as arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.values.iter().map(|(key, value)| format!("--{key}={value}").into()).collect()
    }

    /// Where an option's value stands; `None` for the command line.
    pub(super) fn place(&self, role: &Command, option: &str) -> Option<String> {
        if self.given.iter().any(|given| given == option) {
            return None;
        }
        if self.values.iter().any(|(key, _)| key == option) {
            return Some(self.path.display().to_string());
        }
        let variable = find(role, option)?.get_env()?;
        env::var_os(variable).is_some().then(|| format!("environment variable {}", variable.display()))
    }
}

/// Whether this is a role, which a file can set options of.
pub(super) fn has_settings(command: &Command) -> bool {
    find(command, "config").is_some()
}

/// The settings of the file that `--config` or `SPEEDY_CONFIG` names, if any, without those that the command line or
/// the environment overrides.
pub(super) fn read(role: &Command, arguments: &[OsString]) -> Result<Settings, FileError> {
    let given: Vec<String> = arguments.iter().filter_map(|argument| option_name(argument)).collect();
    let Some(path) = config_path(arguments) else {
        return Ok(Settings { given, ..Settings::default() });
    };
    let text =
        std::fs::read_to_string(&path).map_err(|source| FileError::Read { path: path.clone(), source })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| FileError::Form {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let mut values = Vec::new();
    for (key, value) in table {
        let Some(option) = find(role, &key).filter(|_| key != "config") else {
            return Err(unknown_key(path, key, role));
        };
        let texts = texts(&value).ok_or_else(|| FileError::Kind { path: path.clone(), key: key.clone() })?;
        let in_environment = option.get_env().is_some_and(|variable| env::var_os(variable).is_some());
        if !given.contains(&key) && !in_environment {
            values.extend(merged(option, texts).into_iter().map(|text| (key.clone(), text)));
        }
    }
    Ok(Settings { path, values, given })
}

/// An option that is given once takes a list as one text.
fn merged(option: &Arg, texts: Vec<String>) -> Vec<String> {
    match option.get_action() {
        clap::ArgAction::Append => texts,
        _ => vec![texts.join(",")],
    }
}

fn find<'a>(role: &'a Command, key: &str) -> Option<&'a Arg> {
    role.get_arguments().find(|option| option.get_long() == Some(key))
}

/// The name in `--NAME` or `--NAME=VALUE`.
fn option_name(argument: &OsStr) -> Option<String> {
    let text = argument.to_str()?.strip_prefix("--")?;
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    Some(name.to_owned())
}

fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    env::var_os("SPEEDY_CONFIG").map(PathBuf::from)
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        toml::Value::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

fn unknown_key(path: PathBuf, key: String, role: &Command) -> FileError {
    let names =
        || role.get_arguments().filter_map(Arg::get_long).filter(|name| !["config", "help"].contains(name));
    let distance = |name: &str| strsim::damerau_levenshtein(&key, name);
    let nearest = names().min_by_key(|name| distance(name)).filter(|name| distance(name) <= NEAR);
    let hint = match nearest {
        Some(name) => format!("; did you mean '{name}'?"),
        None => format!("; it takes {}", names().collect::<Vec<_>>().join(", ")),
    };
    FileError::UnknownKey { path, key, role: role.get_name().to_owned(), hint }
}
