//! Variables of the environment that look like settings and are none.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::file;

/// What the variables of all settings begin with.
const PREFIX: &str = "SPEEDY_";
/// A variable of ours that is no option.
const LOG: &str = "SPEEDY_LOG";

/// Variables that begin as settings do and are none of any role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Strange {
    /// Slips of the pen, each with what was meant.
    pub(super) mistaken: Vec<(String, String)>,
    /// Those that are near to no setting: not ours, perhaps. Where there is a service called `speedy`, Kubernetes sets
    /// some.
    pub(super) ignored: Vec<String>,
}

/// What is strange among the variables of these names. One that is a setting of another role is not: all roles of a
/// machine may have one environment.
pub(super) fn strange(all: &Command, names: impl IntoIterator<Item = OsString>) -> Strange {
    let roles = all.get_subcommands().filter(|command| file::has_settings(command));
    let variables = roles.flat_map(Command::get_arguments).filter_map(Arg::get_env);
    let mut known: Vec<&str> = variables.filter_map(|name| name.to_str()).chain([LOG]).collect();
    known.sort_unstable();
    known.dedup();
    let mut strange = Strange::default();
    let names = names.into_iter().map(|name| name.to_string_lossy().into_owned());
    let mut ours: Vec<String> =
        names.filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_str())).collect();
    ours.sort_unstable();
    for name in ours {
        let ends = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
        match file::nearest(&name[PREFIX.len()..].to_uppercase(), ends) {
            Some(meant) => strange.mistaken.push((name, format!("{PREFIX}{meant}"))),
            None => strange.ignored.push(name),
        }
    }
    strange
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn slips_of_the_pen_are_told_from_the_variables_of_others() {
        let all = super::super::CommandLine::command();
        let strange = |names: &[&str]| strange(&all, names.iter().map(OsString::from));
        for (name, meant) in [
            ("SPEEDY_MEMORY_BUDJET", "SPEEDY_MEMORY_BUDGET"),
            ("SPEEDY_LISTN", "SPEEDY_LISTEN"),
            ("SPEEDY_DATA-DIR", "SPEEDY_DATA_DIR"),
            ("SPEEDY_DATADIR", "SPEEDY_DATA_DIR"),
            ("SPEEDY_listen", "SPEEDY_LISTEN"),
            ("SPEEDY_LGO", "SPEEDY_LOG"),
            ("SPEEDY_TRUSTED_PROXY", "SPEEDY_TRUSTED_PROXIES"),
        ] {
            assert_eq!(strange(&[name]).mistaken, [(name.to_owned(), meant.to_owned())]);
        }
        // Of tests and benchmarks, and those that Kubernetes sets for services called speedy and speedy-meta.
        let others = [
            "SPEEDY_BENCH_DIR",
            "SPEEDY_BIN",
            "SPEEDY_CONFORMANCE_URL",
            "SPEEDY_KILL_ROUNDS",
            "SPEEDY_META_PORT",
            "SPEEDY_META_SERVICE_HOST",
            "SPEEDY_PORT",
            "SPEEDY_PORT_5000_TCP",
            "SPEEDY_PREVIOUS",
            "SPEEDY_SEED",
            "SPEEDY_SEEDS",
            "SPEEDY_SERVICE_PORT",
            "SPEEDY_TEST_META_DIRECTORY",
        ];
        let found = strange(&others);
        assert_eq!(found, Strange { mistaken: Vec::new(), ignored: others.map(str::to_owned).to_vec() });
        let fine = ["SPEEDY_LOG", "SPEEDY_CONFIG", "SPEEDY_REPLICAS", "SPEEDYX", "PATH", "speedy_listn"];
        assert_eq!(strange(&fine), Strange::default());
    }
}
