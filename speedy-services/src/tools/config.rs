//! `speedy config`: what a role would be started with.

use std::io::{self, Write};
use std::process::ExitCode;

use super::print::print;
use crate::cli::{ConfigOf, ConfigTool, Setting, UsageError, effective, ignored_variables};

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &ConfigTool) -> ExitCode {
    let (of, json) = match command {
        ConfigTool::Check(of) => (of, None),
        ConfigTool::Print(options) => (&options.of, Some(options.json)),
    };
    let settings = match effective(of) {
        Ok(settings) => settings,
        Err(error) => return explain(of, &error),
    };
    let ignored = ignored_variables();
    if !ignored.is_empty() {
        eprintln!("warning: environment variables that are no setting are ignored: {}", ignored.join(", "));
    }
    let printed = match json {
        None => writeln!(io::stdout(), "speedy {} would start with this configuration", of.role),
        Some(json) => print(json, &settings, |out, settings| text(out, of, settings)),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is wrong, as the role would say it. Help that was asked for is no fault, here as there.
fn explain(of: &ConfigOf, error: &UsageError) -> ExitCode {
    let code = error.report();
    if code != ExitCode::SUCCESS && !matches!(error, UsageError::NotARole(_)) {
        eprintln!("speedy {} would not start with this configuration", of.role);
    }
    code
}

/// As a TOML file, aligned.
fn text(out: &mut dyn Write, of: &ConfigOf, settings: &[Setting]) -> io::Result<()> {
    writeln!(out, "# speedy {}", of.role)?;
    let lines: Vec<(String, String)> = settings.iter().map(line).collect();
    let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    lines.iter().try_for_each(|(left, right)| writeln!(out, "{left:<width$}  # {right}"))
}

fn line(setting: &Setting) -> (String, String) {
    let quoted = |value: &String| toml::Value::from(value.as_str()).to_string();
    let values = match &setting.values[..] {
        [] => {
            let without = setting.without.as_ref().map_or(String::new(), |words| format!(": {words}"));
            return (format!("# {}", setting.key), format!("not set{without}"));
        }
        [value] if !setting.is_list => quoted(value),
        values => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    };
    (format!("{} = {values}", setting.key), setting.source.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_file_again() {
        let of = |options: &[&str]| ConfigOf {
            config: None,
            role: "chunk".into(),
            options: options.iter().map(Into::into).collect(),
        };
        let first = ["--data-dir", "a b", "--data-dir", "c\"d", "--master", "m:1", "--group", "3"];
        let settings = effective(&of(&first)).unwrap();
        let mut printed = Vec::new();
        text(&mut printed, &of(&[]), &settings).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, &printed).unwrap();
        let again = effective(&of(&["--config", file.path().to_str().unwrap()])).unwrap();
        let values = |settings: &[Setting]| {
            settings.iter().map(|setting| (setting.key.clone(), setting.values.clone())).collect::<Vec<_>>()
        };
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(values(&again), values(&settings), "{printed}");
        let directories = again.iter().find(|setting| setting.key == "data-dir").unwrap();
        assert_eq!(directories.values, ["a b", "c\"d"]);
        assert!(printed.contains("# advertise"), "{printed}");
        assert!(printed.contains("not set: what it listens on"), "{printed}");
    }
}
