//! Settings from a TOML file: read as if they had been given on the command line, so that an option has one parser,
//! one set of bounds and one default.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

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
    #[error("{place}: this is not TOML: {reason}")]
    Form {
        /// File, line and column.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A key is none of the role's options.
    #[error("{place}: unknown key '{key}' for speedy {role}{hint}")]
    UnknownKey {
        /// File, line and column.
        place: Place,
        /// The key.
        key: String,
        /// The role.
        role: String,
        /// The right name, or all of them.
        hint: String,
    },
    /// A key's value is a table or a date, which no option takes.
    #[error("{place}: the value of '{key}' is no string, number or list of strings, but a {kind}")]
    Kind {
        /// File, line and column.
        place: Place,
        /// The key.
        key: String,
        /// What it is.
        kind: &'static str,
    },
}

/// Where something stands in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1 on.
    pub line: usize,
    /// In characters, from 1 on.
    pub column: usize,
}

/// As compilers write it, and editors read it.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl Place {
    fn new(path: &Path, text: &str, offset: usize) -> Self {
        // An offset that an error gives may lie behind the end.
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        let (lines, column) = (before.matches('\n').count(), line.chars().count());
        Self { path: path.to_path_buf(), line: lines + 1, column: column + 1 }
    }
}

/// A key of a file with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) key: String,
    /// One, or those of a list.
    pub(super) values: Vec<String>,
    /// Where the value stands.
    pub(super) place: Place,
}

/// What a file sets and nothing above it does.
#[derive(Debug, Default)]
pub(super) struct Settings {
    lines: Vec<Line>,
    given: Vec<String>,
}

impl Settings {
    /// The settings as arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let argument = |(key, value): (&String, &String)| format!("--{key}={value}").into();
        let values =
            |line: &Line| line.values.iter().map(|value| argument((&line.key, value))).collect::<Vec<_>>();
        self.lines.iter().flat_map(values).collect()
    }

    /// Where an option's value stands; `None` for the command line.
    pub(super) fn place(&self, role: &Command, option: &str) -> Option<String> {
        if self.given.iter().any(|given| given == option) {
            return None;
        }
        if let Some(line) = self.lines.iter().find(|line| line.key == option) {
            return Some(line.place.to_string());
        }
        let variable = find(role, option)?.get_env()?;
        env::var_os(variable).is_some().then(|| format!("environment variable {}", variable.display()))
    }
}

/// Whether this is a role, which a file can set options of.
pub(super) fn has_settings(command: &Command) -> bool {
    find(command, "config").is_some()
}

/// Whether a file and the environment can set an option: not those that are meant for one start only.
pub(super) fn is_setting(option: &Arg) -> bool {
    option.get_env().is_some() && option.get_long().is_some_and(|name| name != "config")
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
    let mut lines = lines(role, &path, &text)?;
    lines.retain(|line| {
        let in_environment = find(role, &line.key)
            .and_then(Arg::get_env)
            .is_some_and(|variable| env::var_os(variable).is_some());
        !given.contains(&line.key) && !in_environment
    });
    Ok(Settings { lines, given })
}

/// The keys of a file with their values, of which each is an option of the role.
pub(super) fn lines(role: &Command, path: &Path, text: &str) -> Result<Vec<Line>, FileError> {
    let place = |offset| Place::new(path, text, offset);
    let table = DeTable::parse(text).map_err(|error| FileError::Form {
        place: place(error.span().map_or(0, |span| span.start)),
        reason: error.message().replace('\n', ", "),
    })?;
    let mut lines = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref();
        let Some(option) = find(role, name).filter(|option| is_setting(option)) else {
            return Err(unknown_key(place(key.span().start), name, role));
        };
        let place = place(value.span().start);
        let Some(texts) = texts(value.get_ref()) else {
            let kind = kind(value.get_ref());
            return Err(FileError::Kind { place, key: name.to_string(), kind });
        };
        lines.push(Line { key: name.to_string(), values: merged(option, texts), place });
    }
    // In the order of the file, whatever the parser makes of it.
    lines.sort_by_key(|line| (line.place.line, line.place.column));
    Ok(lines)
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

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            Some(i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        value => Some(vec![text(value)?]),
    }
}

/// What a value is that no option takes.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "table",
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "list of others",
        _ => "number beyond all bounds",
    }
}

fn unknown_key(place: Place, key: &str, role: &Command) -> FileError {
    let names = || role.get_arguments().filter(|option| is_setting(option)).filter_map(Arg::get_long);
    let distance = |name: &str| strsim::damerau_levenshtein(key, name);
    let nearest = names().min_by_key(|name| distance(name)).filter(|name| distance(name) <= NEAR);
    let hint = match nearest {
        Some(name) => format!("; did you mean '{name}'?"),
        None if find(role, key).is_some() => "; it is given on the command line only".to_owned(),
        None => format!("; it takes {}", names().collect::<Vec<_>>().join(", ")),
    };
    FileError::UnknownKey { place, key: key.to_owned(), role: role.get_name().to_owned(), hint }
}
