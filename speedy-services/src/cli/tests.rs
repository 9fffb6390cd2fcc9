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
    match role(line).expect_err("it is refused") {
        UsageError::CommandLine(error) => error.to_string(),
        UsageError::File(error) => error.to_string(),
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
        "speedy meta backup f",
        "speedy meta backup --admin h:1 f --json",
        "speedy meta restore f --data-dir d",
        "speedy meta rebuild --master m:1 --meta n:2 --dry-run --json",
        "speedy meta rebuild --master m:1,m:2 --meta n:2 --repository a/b --repository c --release",
        "speedy meta rebuild --data-dir d",
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
    assert!(refusal(&format!("{line} {}", file.path().display())).contains("forget-missing"));
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
        ("speedy serve --log-format xml", "[possible values: text, json]"),
        ("speedy serve --v1 maybe", "invalid value 'maybe' for '--v1 <on|off>'"),
        ("speedy serve --lisen 127.0.0.1:1", "--listen"),
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
fn a_bad_file_names_file_key_value_and_remedy() {
    for (text, expected) in [
        ("data_dir = \"d\"", "unknown key 'data_dir' for speedy serve; did you mean 'data-dir'?"),
        ("lsiten = \"a:1\"", "did you mean 'listen'?"),
        ("config = \"other.toml\"", "unknown key 'config'"),
        ("something-else-entirely = 1", "it takes data-dir, listen, v1"),
        ("listen = {a = 1}", "the value of 'listen' is no string"),
        ("listen = ", "is not TOML"),
        ("memory-budget = 5", "memory-budget 5 it must be between 32MiB and 1TiB"),
        ("log-format = \"xml\"", "log-format xml choose one of text, json"),
        ("v1 = false", "v1 false choose one of on, off"),
    ] {
        let file = config(text);
        let told = refusal(&format!("speedy serve --config {}", file.path().display()));
        assert!(told.contains(expected), "{text}: {told}");
        assert!(told.contains(&file.path().display().to_string()), "{text}: {told}");
    }
    assert!(
        refusal("speedy serve --config=/nowhere.toml")
            .contains("cannot read the configuration file /nowhere")
    );
}
