//! Settings from a TOML file: read as if they had been given on the command line, so that an option has one parser,
//! one set of bounds and one default.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::de::{DeTable, DeValue};

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
    /// A key's value is a list, and the option takes one value.
    #[error("{place}: the value of '{key}' is a list, and speedy {role} takes one value, without brackets")]
    Many {
        /// File, line and column.
        place: Place,
        /// The key.
        key: String,
        /// The role.
        role: String,
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

    /// Takes out what the file says of an option; answers whether it says anything.
    pub(super) fn remove(&mut self, option: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.key != option);
        self.lines.len() < before
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
pub(super) fn read(role: &Command, arguments: &[OsString]) -> Result<Settings, Vec<FileError>> {
    let given: Vec<String> = arguments.iter().filter_map(|argument| option_name(argument)).collect();
    let Some(path) = config_path(arguments) else {
        return Ok(Settings { given, ..Settings::default() });
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|source| vec![FileError::Read { path: path.clone(), source }])?;
    let mut lines = lines(role, &path, &text)?;
    lines.retain(|line| {
        let in_environment = find(role, &line.key)
            .and_then(Arg::get_env)
            .is_some_and(|variable| env::var_os(variable).is_some());
        !given.contains(&line.key) && !in_environment
    });
    Ok(Settings { lines, given })
}

/// The keys of a file with their values, of which each is an option of the role; or all that is wrong with them, in the
/// order of the file.
pub(super) fn lines(role: &Command, path: &Path, text: &str) -> Result<Vec<Line>, Vec<FileError>> {
    let place = |offset| Place::new(path, text, offset);
    let table = DeTable::parse(text).map_err(|error| {
        vec![FileError::Form {
            place: place(error.span().map_or(0, |span| span.start)),
            reason: error.message().replace('\n', ", "),
        }]
    })?;
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    // In the order of the file, whatever the parser makes of it.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = key.get_ref();
        let Some(option) = find(role, name).filter(|option| is_setting(option)) else {
            let is_table = matches!(value.get_ref(), DeValue::Table(_));
            wrong.push(unknown_key(place(key.span().start), name, role, is_table));
            continue;
        };
        let place = place(value.span().start);
        match texts(value.get_ref()) {
            None => {
                let kind = kind(value.get_ref());
                wrong.push(FileError::Kind { place, key: name.to_string(), kind });
            }
            Some(_) if matches!(value.get_ref(), DeValue::Array(_)) && !takes_several(option) => {
                let (key, role) = (name.to_string(), role.get_name().to_owned());
                wrong.push(FileError::Many { place, key, role });
            }
            Some(texts) => {
                lines.push(Line { key: name.to_string(), values: merged(option, texts), place });
            }
        }
    }
    if wrong.is_empty() { Ok(lines) } else { Err(wrong) }
}

/// Whether a list is a value: of an option that may be given several times, or takes several with commas.
fn takes_several(option: &Arg) -> bool {
    let is_list = |name: &str| name == "LIST";
    matches!(option.get_action(), clap::ArgAction::Append)
        || option.get_value_names().is_some_and(|names| names.iter().any(|name| is_list(name)))
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

fn unknown_key(place: Place, key: &str, role: &Command, is_table: bool) -> FileError {
    let names = || role.get_arguments().filter(|option| is_setting(option)).filter_map(Arg::get_long);
    // As an environment variable or a program would spell it.
    let spelt = key.to_lowercase().replace('_', "-");
    let hint = match nearest(&spelt, names()) {
        _ if is_table => {
            format!("; it is a table, and a file has none: its keys stand alone, without [{key}]")
        }
        Some(name) => format!("; did you mean '{name}'?"),
        None => match find(role, key).map(Arg::get_env) {
            Some(Some(variable)) => {
                format!("; it is given on the command line or in {}, not in a file", variable.display())
            }
            Some(None) => "; it is given on the command line only".to_owned(),
            None => format!("; it takes {}", names().collect::<Vec<_>>().join(", ")),
        },
    };
    FileError::UnknownKey { place, key: key.to_owned(), role: role.get_name().to_owned(), hint }
}

/// The name that was meant by one that is none, if it is near enough to be a slip of the pen: a third of its characters.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = (name.chars().count() / 3).max(1);
    let with_distance = names.map(|known| (strsim::damerau_levenshtein(name, known), known));
    with_distance
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= near)
        .map(|(_, known)| known)
}
