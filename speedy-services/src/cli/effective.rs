//! The configuration that a role would have, and where each value comes from.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};

use super::{Command, ConfigOf, UsageError, file, matched};

/// A setting of a role.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Setting {
    /// Its key in a file.
    pub key: String,
    /// Its values, several where it may be given several times; none where it is not set.
    pub values: Vec<String>,
    /// Whether it may be given several times.
    pub is_list: bool,
    /// `default`, `command line`, the environment variable, or file, line and column.
    pub source: String,
    /// What it is then, where it is not set.
    pub without: Option<String>,
}

/// The settings that a role would start with, in the order of its help.
///
/// # Errors
/// Where it would not start.
pub fn effective(of: &ConfigOf) -> Result<Vec<Setting>, UsageError> {
    let mut arguments = vec!["speedy".into(), of.role.clone().into()];
    if let Some(config) = &of.config {
        arguments.extend(["--config".into(), config.clone().into_os_string()]);
    }
    arguments.extend(of.options.iter().cloned());
    let not_a_role = || UsageError::NotARole(of.role.clone());
    if !["serve", "master", "meta", "chunk", "image", "registry"].contains(&of.role.as_str()) {
        return Err(not_a_role());
    }
    let matched = matched(arguments)?;
    let (Command::Role(_), Some(role)) = (&matched.command, &matched.role) else { return Err(not_a_role()) };
    let (_, matches) = matched.matches.subcommand().ok_or_else(not_a_role)?;
    let settings = role.get_arguments().filter(|option| file::is_setting(option));
    Ok(settings.map(|option| setting(option, matches, |key| matched.settings.place(role, key))).collect())
}

fn setting(option: &Arg, matches: &ArgMatches, place: impl Fn(&str) -> Option<String>) -> Setting {
    let id = option.get_id().as_str();
    let key = option.get_long().unwrap_or(id).to_owned();
    let raw = matches.get_raw(id).into_iter().flatten();
    let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
    let source = match matches.value_source(id) {
        None => "not set".to_owned(),
        Some(ValueSource::DefaultValue) => "default".to_owned(),
        Some(_) => place(&key).unwrap_or_else(|| "command line".to_owned()),
    };
    let is_list = matches!(option.get_action(), clap::ArgAction::Append);
    let without = if values.is_empty() { default_in_words(option) } else { None };
    Setting { key, values, is_list, source, without }
}

/// What the help says an option is where it is not set: `[default: …]`.
pub(super) fn default_in_words(option: &Arg) -> Option<String> {
    let help = option.get_help()?.to_string();
    let (_, rest) = help.split_once("[default: ")?;
    Some(rest.split_once(']')?.0.to_owned())
}
