use std::path::Path;

use clap::CommandFactory;

use super::{CommandLine, file};

/// A role that the first byte chooses, and a file: every key that is accepted is a setting of the role and stands where it
/// is said to, and what the file sets is taken or refused as if it had been typed.
///
/// # Panics
/// Where that does not hold.
pub fn config(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let all = CommandLine::command();
    let roles: Vec<_> = all.get_subcommands().filter(|command| file::has_settings(command)).collect();
    let role = roles[usize::from(choice) % roles.len()];
    let lines = match file::lines(role, Path::new("speedy.toml"), text) {
        Ok(lines) => lines,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(error.to_string().starts_with("speedy.toml:"), "{error}");
            }
            return;
        }
    };
    let mut arguments = vec!["speedy".to_owned(), role.get_name().to_owned()];
    for line in &lines {
        let option = role.get_arguments().find(|option| option.get_long() == Some(&line.key));
        assert!(option.is_some_and(file::is_setting), "{}", line.key);
        assert!(text.lines().count() >= line.place.line && line.place.column > 0, "{}", line.place);
        arguments.extend(line.values.iter().map(|value| format!("--{}={value}", line.key)));
    }
    let parsed = CommandLine::command().try_get_matches_from(arguments);
    assert!(parsed.map_or_else(|error| !error.to_string().is_empty(), |_| true));
}
