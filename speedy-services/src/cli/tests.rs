use std::io::Write;

use super::*;

fn command(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn role(line: &str) -> Result<Role, UsageError> {
    command(line).map(|command| match command {
        Command::Role(role) => role,
        other => panic!("{other:?} is no role"),
    })
}

/// What a bad command line is told.
fn refusal(line: &str) -> String {
    told(role(line).expect_err("it is refused"))
}

fn told(error: UsageError) -> String {
    match error {
        UsageError::CommandLine(error) => error.to_string(),
        UsageError::File(error) => error.to_string(),
        UsageError::NotARole(name) => name,
        UsageError::Environment { name, meant } => format!("{name} {meant}"),
        UsageError::Conflict { options, reason } => format!("{options}: {reason}"),
        UsageError::Several(all) => all.into_iter().map(told).collect::<Vec<_>>().join("\n"),
        UsageError::Value { source, option, value, reason } => format!("{source} {option} {value} {reason}"),
    }
}

fn config(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn the_definition_is_sound() {
    CommandLine::command().debug_assert();
}

/// Help is shown in at most 100 columns: a longer line would be broken once more where it ends.
#[test]
fn lines_of_help_are_not_broken_twice() {
    let mut commands = vec![CommandLine::command()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let texts = [command.get_long_about(), command.get_after_help(), command.get_after_long_help()];
        for text in texts.into_iter().flatten().map(ToString::to_string) {
            let lines: Vec<_> = text.lines().collect();
            // A line by itself is a paragraph that nobody has broken yet.
            for line in lines.split(|line| line.is_empty()).filter(|lines| lines.len() > 1).flatten() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
                seen += 1;
            }
        }
        commands.extend(command.get_subcommands().cloned());
    }
    assert!(seen > 100, "only {seen} lines of help were looked at");
}

#[test]
fn the_documented_lines_start_every_role() {
    for (line, listen) in [
        ("speedy serve", "127.0.0.1:5000"),
        ("speedy serve --data-dir d --listen 0.0.0.0:5000", "0.0.0.0:5000"),
        ("speedy master --data-dir d", "127.0.0.1:8099"),
        ("speedy master --listen 127.0.0.1:0 --meta a:1,b:2 --replicas 1", "127.0.0.1:0"),
        ("speedy meta --data-dir d", "127.0.0.1:8098"),
        ("speedy chunk --data-dir a --data-dir b --master m:1 --group 7", "127.0.0.1:7654"),
        ("speedy image --master m:1 --meta n:2", "127.0.0.1:6788"),
        ("speedy registry --image i:1 --meta n:2 --log-format json --admin off", "127.0.0.1:5000"),
    ] {
        let role = role(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert_eq!(role.listen().to_string(), listen, "{line}");
    }
    let Ok(Role::Serve(serve)) = role("speedy serve") else { panic!("serve") };
    assert_eq!(serve.data_dir.to_str(), Some("./speedy-data"));
    assert_eq!(serve.process.memory_budget, Size::new(256 << 20));
    assert!(serve.v1.is_on());
    for (line, on) in [
        ("speedy registry --image i:1 --meta n:2", true),
        ("speedy registry --image i:1 --meta n:2 --v1 off", false),
        ("speedy registry --image i:1 --meta n:2 --v1 on", true),
    ] {
        let Ok(Role::Registry(registry)) = role(line) else { panic!("{line}") };
        assert_eq!(registry.v1.is_on(), on, "{line}");
    }
    let Ok(Role::Chunk(chunk)) = role("speedy chunk --data-dir a --data-dir b --master m:1 --group 7") else {
        panic!("chunk")
    };
    assert_eq!((chunk.data_dirs.len(), chunk.group), (2, 7));
    assert!(!chunk.forget_missing);
}

#[test]
fn the_documented_lines_of_the_tools_are_understood() {
    for line in [
        "speedy cluster status",
        "speedy cluster status --master a:1,b:2 --json",
        "speedy store check d1 d2 --rate 1MiB",
        "speedy store check --admin 127.0.0.1:17654",
        "speedy store stats d --json",
        "speedy store dump d --volume 7 --verify --json",
        "speedy store compact --admin h:1 --dead-percent 10",
        "speedy gc run",
        "speedy gc run --dry-run --json --untagged 30d --unreferenced 0s --rate 100 --admin h:1",
        "speedy gc status --admin h:1 --json",
        "speedy usage",
        "speedy usage library/ubuntu --admin h:1 --json",
        "speedy meta backup f",
        "speedy meta backup --admin h:1 f --json",
        "speedy meta restore f --data-dir d",
        "speedy meta rebuild --master m:1 --meta n:2 --dry-run --json",
        "speedy meta rebuild --master m:1,m:2 --meta n:2 --repository a/b --repository c --release",
        "speedy meta rebuild --data-dir d",
        "speedy read-only on",
        "speedy read-only on --reason maintenance --admin h:1",
        "speedy read-only off",
        "speedy read-only status --json",
        "speedy uploads list --repository a/b --idle 10m --json",
        "speedy uploads abort 3a8bca20d4515fdfcf5d3c015b0d5a70 --admin h:1",
        "speedy uploads abort --idle 6h",
        "speedy config check --config f registry --image i:1 --meta n:2",
        "speedy config print serve",
        "speedy config print --json serve",
    ] {
        let parsed = command(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert!(matches!(parsed, Command::Tool(_)), "{line}");
    }
}

#[test]
fn a_command_of_meta_is_not_the_role_and_takes_none_of_its_options() {
    let Ok(Role::Meta(meta)) = role("speedy meta --listen 127.0.0.1:1 --data-dir d") else { panic!("meta") };
    assert_eq!((meta.data_dir, meta.tool.is_none()), (Some("d".into()), true));
    let Ok(Command::Tool(Tool::Meta(MetaTool::Backup(backup)))) = command("speedy meta backup f") else {
        panic!("backup")
    };
    assert_eq!(backup.admin.to_string(), "127.0.0.1:18098", "where a meta node has it by default");
    for (line, expected) in [
        ("speedy meta backup", "<FILE>"),
        ("speedy meta restore f", "--data-dir <DIR>"),
        ("speedy meta --data-dir d backup f", "cannot be used with"),
        ("speedy meta rebuild", "--data-dir <DIR>|--master <LIST>"),
        ("speedy meta rebuild --master m:1", "--meta <LIST>"),
        ("speedy meta rebuild --data-dir d --meta n:1", "cannot be used with"),
        ("speedy meta rebuild --data-dir d --repository A", "invalid value 'A' for '--repository <NAME>'"),
        ("speedy meta backup f --listen 127.0.0.1:1", "--listen"),
        ("speedy meta bakcup f", "bakcup"),
    ] {
        let told = refusal(line);
        assert!(told.contains(expected), "{line}: {told}");
    }
    let told = refusal("speedy meta --help");
    for part in ["--listen", "--memory-budget", "backup", "restore", "in place of being a meta node"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_meta_node_takes_its_options_from_a_file_too() {
    let file = config("data-dir = \"d\"\nlisten = \"127.0.0.1:3\"\n");
    let Ok(Role::Meta(meta)) = role(&format!("speedy meta --config {}", file.path().display())) else {
        panic!("meta")
    };
    assert_eq!((meta.data_dir, meta.listen.port()), (Some("d".into()), 3));
}

#[test]
fn directories_are_given_up_by_the_command_line_alone() {
    let line = "speedy chunk --data-dir a --forget-missing --master m:1 --group 7";
    let Ok(Role::Chunk(chunk)) = role(line) else { panic!("chunk") };
    assert!(chunk.forget_missing);
    // In a file it would be forgotten, and then give up whatever is not mounted one day.
    let file = config("forget-missing = true\n");
    let line = "speedy chunk --data-dir a --master m:1 --group 7 --config";
    let told = refusal(&format!("{line} {}", file.path().display()));
    assert!(
        told.contains("'forget-missing' for speedy chunk; it is given on the command line only"),
        "{told}"
    );
}

#[test]
fn bad_lines_name_the_option_the_value_and_the_bounds() {
    for (line, expected) in [
        ("speedy master", "--data-dir <DIR>|--meta <LIST>"),
        ("speedy master --data-dir d --meta a:1", "cannot be used with"),
        ("speedy master --data-dir d --replicas 0", "0 is not in 1..=16"),
        ("speedy meta", "--data-dir <DIR>"),
        ("speedy chunk --data-dir a --master m:1 --group x", "invalid value 'x' for '--group <N>'"),
        ("speedy image --master m:1,m:1 --meta n:2", "m:1 is listed twice"),
        ("speedy serve --listen 5000", "an address is HOST:PORT"),
        ("speedy serve --memory-budget 1KiB", "between 32MiB and 1TiB"),
        ("speedy serve --drain-timeout 2h", "between 0s and 1h"),
        ("speedy serve --max-blob 1KiB", "off or between 4MiB and 64TiB"),
        ("speedy serve --client-burst 0", "between 1 and 1000000"),
        ("speedy serve --drain-delay 1h", "between 0s and 10m"),
        ("speedy serve --trusted-proxies 10.0.0.0/8,nginx", "must be an IP address or a network"),
        ("speedy uploads abort", "<ID|--repository <NAME>|--idle <DURATION>>"),
        ("speedy uploads abort x", "an id (UploadId) has 32 hexadecimal digits"),
        ("speedy uploads abort 3a8bca20d4515fdfcf5d3c015b0d5a70 --idle 1h", "cannot be used with"),
        ("speedy serve --log-format xml", "[possible values: text, json]"),
        ("speedy serve --v1 maybe", "invalid value 'maybe' for '--v1 <on|off>'"),
        ("speedy serve --lisen 127.0.0.1:1", "--listen"),
        ("speedy serve --gc-untagged 1s", "between 1m and 3650d"),
        ("speedy image --master m:1 --meta n:2 --gc-rate 0", "whole number between 1 and 4294967295"),
        (
            "speedy serve --admin 127.0.0.1:5000",
            "--admin and --listen: both are 127.0.0.1:5000; choose another",
        ),
        ("speedy meta --data-dir d --listen [::]:1 --admin 127.0.0.1:1", "can't both be listened on"),
        ("speedy serve --client-burst 5", "set client-rate too, or leave client-burst out"),
        ("speedy registry --image i:1 --meta n:2 --gc-untagged 30d", "--gc-untagged"),
        ("speedy usage UPPER", "invalid value 'UPPER'"),
    ] {
        let told = refusal(line);
        assert!(told.contains(expected), "{line}: {told}");
    }
}

#[test]
fn help_reads_like_a_manual_and_shows_examples() {
    let told = refusal("speedy --help");
    for part in ["START HERE", "A CLUSTER", "SETTINGS", "SIGNALS", "EXIT CODES", "serve", "registry"] {
        assert!(told.contains(part), "{part}");
    }
    for role in ["serve", "master", "meta", "chunk", "image", "registry"] {
        let told = refusal(&format!("speedy {role} --help"));
        assert!(told.contains("EXAMPLES") && told.contains(&format!("speedy {role}")), "{told}");
    }
}

#[test]
fn a_file_sets_what_the_command_line_does_not() {
    let file = config(
        "listen = \"127.0.0.1:1\"\nmemory-budget = \"1GiB\"\ndata-dir = [\"a\", \"b\"]\n\
         master = [\"m:1\", \"n:2\"]\ngroup = 9\n",
    );
    let line = format!("speedy chunk --config {} --listen 127.0.0.1:2", file.path().display());
    let Ok(Role::Chunk(chunk)) = role(&line) else { panic!("chunk") };
    assert_eq!(chunk.listen.port(), 2, "the command line wins");
    assert_eq!(chunk.process.memory_budget, Size::new(1 << 30));
    assert_eq!(chunk.data_dirs.len(), 2);
    assert_eq!((chunk.master.to_string().as_str(), chunk.group), ("m:1,n:2", 9));
    let file = config("v1 = \"off\"\n");
    let line = format!("speedy serve --config {}", file.path().display());
    let Ok(Role::Serve(serve)) = role(&line) else { panic!("serve") };
    assert!(!serve.v1.is_on());
}

#[test]
fn the_collector_is_set_by_a_file_too() {
    let file = config("gc-untagged = \"30d\"\ngc-interval = \"off\"\ngc-rate = 100\n");
    let Ok(Role::Serve(serve)) = role(&format!("speedy serve --config {}", file.path().display())) else {
        panic!("serve")
    };
    let (options, days) = (serve.gc.options(), |days: u64| std::time::Duration::from_secs(days * 86_400));
    assert_eq!((options.interval, options.ages.untagged), (None, Some(days(30))));
    assert_eq!((options.ages.unreferenced, options.rate.map(|rate| rate.get())), (Some(days(1)), Some(100)));
    let Ok(Role::Image(image)) = role("speedy image --master m:1 --meta n:2") else { panic!("image") };
    assert_eq!(
        image.gc.options().ages.untagged,
        None,
        "what has no tag is kept unless somebody says otherwise"
    );
}

#[test]
fn a_bad_file_names_file_key_value_and_remedy() {
    for (text, expected) in [
        ("data_dir = \"d\"", "unknown key 'data_dir' for speedy serve; did you mean 'data-dir'?"),
        ("lsiten = \"a:1\"", "did you mean 'listen'?"),
        ("LISTEN = \"a:1\"", "unknown key 'LISTEN' for speedy serve; did you mean 'listen'?"),
        ("MEMORY_BUDGET = 1", "did you mean 'memory-budget'?"),
        (
            "config = \"other.toml\"",
            "unknown key 'config' for speedy serve; it is given on the command line or in SPEEDY_CONFIG, not in a file",
        ),
        ("something-else-entirely = 1", "it takes data-dir, listen, v1, max-blob"),
        ("replicas = 2", "unknown key 'replicas' for speedy serve; it takes data-dir"),
        (
            "\n  listen = {a = 1}",
            ":2:12: the value of 'listen' is no string, number or list of strings, but a table",
        ),
        (
            "listen = 1979-05-27",
            ":1:10: the value of 'listen' is no string, number or list of strings, but a date",
        ),
        ("listen = [[1]]", "but a list of others"),
        ("listen = ", ":1:10: this is not TOML: "),
        ("a = 1\nb = 'x", ":2:"),
        ("listen = 'a:1'\nlisten = 'a:2'", ":2:1: this is not TOML: duplicate key"),
        ("\n\nmemory-budget = 5", ":3:17 memory-budget 5 it must be between 32MiB and 1TiB"),
        ("memory-budget = 0x10", ":1:17 memory-budget 16 it must be between 32MiB and 1TiB"),
        ("max-blob = 99999999999999999999999", "max-blob 99999999999999999999999 a size is"),
        ("# ü\nlog-format = \"xml\"", ":2:14 log-format xml choose one of text, json"),
        ("client-rate = -1", ":1:15 client-rate -1 it must be a whole number between 1 and 1000000, or off"),
        ("trusted-proxies = ['10.0.0.0/8', 'x']", "trusted-proxies x it must be an IP address or a network"),
        ("v1 = false", "v1 false choose one of on, off"),
        ("data-dir = ''", ":1:12 data-dir  it must not be empty"),
        (
            "data-dir = ['a', 'b']",
            ":1:12: the value of 'data-dir' is a list, and speedy serve takes one value, without brackets",
        ),
        ("data-dir = ['a']", ":1:12: the value of 'data-dir' is a list"),
        ("data-dir = []", ":1:12: the value of 'data-dir' is a list"),
        ("gc-rate = 0", ":1:11 gc-rate 0 it must be a whole number between 1 and 4294967295"),
        (
            "[serve]\nlisten = 'a:1'",
            "unknown key 'serve' for speedy serve; it is a table, and a file has none: its keys stand alone",
        ),
        ("serve = 1", "unknown key 'serve' for speedy serve; it takes data-dir"),
        (
            "client-burst = 5",
            "client-burst (FILE:1:16) and --client-rate: a burst does nothing while the rate is off",
        ),
        (
            "admin = 'localhost:7'\nlisten = '0.0.0.0:7'",
            "admin (FILE:1:9) and listen (FILE:2:10): localhost:7 and 0.0.0.0:7 can't both be listened on",
        ),
        // All that is wrong is told.
        ("lsiten = 'a:1'\ndata_dir = 'd'", "FILE:2:1: unknown key 'data_dir'"),
        ("data_dir = 'd'\nv1 = 1979-05-27", "FILE:2:6: the value of 'v1' is no string"),
        ("gc-rate = 0\nlisten = 'x'\nv1 = 'maybe'", "FILE:3:6 v1 maybe choose one of on, off"),
        ("gc-rate = 0\nlisten = 'x'\nv1 = 'maybe'", "FILE:2:10 listen x an address is HOST:PORT"),
        ("gc-rate = 0\nlisten = 'x'\nv1 = 'maybe'", "FILE:1:11 gc-rate 0"),
    ] {
        let file = config(text);
        let path = file.path().display().to_string();
        let told = refusal(&format!("speedy serve --config {path}"));
        assert!(told.contains(&expected.replace("FILE", &path)), "{text}: {told}");
        assert!(told.contains(&path), "{text}: {told}");
    }
    assert!(
        refusal("speedy serve --config=/nowhere.toml")
            .contains("cannot read the configuration file /nowhere")
    );
}

#[test]
fn a_value_that_is_needed_and_wrong_is_not_called_missing() {
    let file = config("master = 'm'\ngroup = 'x'\ndata-dir = ['a', 'b']\n");
    let told = refusal(&format!("speedy chunk --config {}", file.path().display()));
    assert!(told.contains("group x") && told.contains("master m") && !told.contains("required"), "{told}");
    let file = config("group = 'x'\n");
    let told = refusal(&format!("speedy chunk --config {} --master m", file.path().display()));
    assert!(told.contains("group x") && told.contains("invalid value 'm' for '--master"), "{told}");
}

#[test]
fn what_is_in_effect_is_named_with_where_it_comes_from() {
    let file = config("memory-budget = \"1GiB\"\nimage = [\"i:1\", \"j:2\"]\nmax-uploads = 7\n");
    let path = file.path().display().to_string();
    let of = |line: &str| {
        let Ok(Command::Tool(Tool::Config(ConfigTool::Print(print)))) = command(line) else {
            panic!("{line}")
        };
        effective(&print.of)
    };
    let line = format!("speedy config print --config {path} registry --meta n:2 --max-uploads 9");
    let settings = of(&line).unwrap();
    let found = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}"));
        (setting.values.join(" "), setting.source.as_str())
    };
    assert_eq!(found("memory-budget"), ("1GiB".into(), format!("{path}:1:17").as_str()));
    assert_eq!(found("image"), ("i:1,j:2".into(), format!("{path}:2:9").as_str()));
    assert_eq!(found("meta"), ("n:2".into(), "command line"));
    assert_eq!(found("max-uploads"), ("9".into(), "command line"));
    assert_eq!(found("listen"), ("127.0.0.1:5000".into(), "default"));
    assert_eq!(found("advertise"), (String::new(), "not set"));
    assert!(settings.iter().all(|setting| setting.key != "config"));
    let advertise = settings.iter().find(|setting| setting.key == "advertise").unwrap();
    assert_eq!(advertise.without.as_deref(), Some("what it listens on"));

    assert!(
        matches!(of("speedy config print cluster"), Err(UsageError::NotARole(name)) if name == "cluster")
    );
    assert!(matches!(of("speedy config print meta backup f"), Err(UsageError::NotARole(_))));
    assert!(matches!(of("speedy config print registry"), Err(UsageError::CommandLine(_))));
    assert!(matches!(of("speedy config print serve --config /nowhere"), Err(UsageError::File(_))));
}

/// The table of docs/configuration.md, its last column left out, as the program would have it.
fn documented() -> Vec<String> {
    use std::collections::BTreeMap;
    let all = CommandLine::command();
    let mut rows: BTreeMap<String, Vec<(String, &clap::Arg)>> = BTreeMap::new();
    let roles: Vec<&clap::Command> =
        all.get_subcommands().filter(|command| file::has_settings(command)).collect();
    for role in &roles {
        for option in
            role.get_arguments().filter(|option| option.get_long().is_some_and(|name| name != "help"))
        {
            let key = option.get_long().unwrap().to_owned();
            rows.entry(key).or_default().push((role.get_name().to_owned(), option));
        }
    }
    let differing = |of: &[(String, &clap::Arg)], text: &dyn Fn(&clap::Arg) -> String| {
        let mut texts: Vec<(String, Vec<&str>)> = Vec::new();
        for (role, option) in of {
            let text = text(option);
            match texts.iter_mut().find(|(known, _)| *known == text) {
                Some((_, roles)) => roles.push(role),
                None => texts.push((text, vec![role])),
            }
        }
        match &texts[..] {
            [(text, _)] => text.clone(),
            texts => {
                let with_roles =
                    |(text, roles): &(String, Vec<&str>)| format!("{text} ({})", roles.join(", "));
                texts.iter().map(with_roles).collect::<Vec<_>>().join(", ")
            }
        }
    };
    let row = |(key, of): (String, Vec<(String, &clap::Arg)>)| {
        let names: Vec<&str> = of.iter().map(|(role, _)| role.as_str()).collect();
        let names = if names.len() == roles.len() { "all".to_owned() } else { names.join(", ") };
        let variable = match of[0].1.get_env() {
            Some(variable) => format!("`{}`", variable.display()),
            None => "command line only".to_owned(),
        };
        let kind = differing(&of, &|option| {
            let kind = option.get_value_names().unwrap_or_default().join(" ");
            match option.get_action() {
                clap::ArgAction::SetTrue => "flag".to_owned(),
                clap::ArgAction::Append => format!("{kind}, several"),
                _ => kind.replace('|', " or "),
            }
        });
        let default = differing(&of, &|option| match option.get_default_values().first() {
            _ if matches!(option.get_action(), clap::ArgAction::SetTrue) => "off".to_owned(),
            Some(value) => format!("`{}`", value.to_string_lossy()),
            None if option.is_required_set() => "required".to_owned(),
            None => super::effective::default_in_words(option).unwrap_or_else(|| "none".to_owned()),
        });
        format!("| `{key}` | {variable} | {names} | {kind} | {default} |")
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn the_page_on_configuration_has_every_key_and_no_other() {
    let page = include_str!("../../../docs/configuration.md");
    let (_, keys) = page.split_once("## Keys").unwrap();
    let rows: Vec<&str> = keys.lines().filter(|line| line.starts_with("| `")).collect();
    let expected = documented();
    for row in &expected {
        let there = rows.iter().find(|line| line.starts_with(row.as_str()));
        let line = there.unwrap_or_else(|| panic!("docs/configuration.md needs this row:\n{row}"));
        assert!(line[row.len()..].trim_matches(['|', ' ']).len() > 10, "no meaning of {row}");
    }
    for line in rows {
        assert!(
            expected.iter().any(|row| line.starts_with(row.as_str())),
            "this row is of no option:\n{line}"
        );
    }
}
