use super::{command, complaint, printed, speedy};

#[test]
fn a_file_is_checked_without_starting_anything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("speedy.toml");
    let path = file.to_str().unwrap();
    let check = |text: &str, rest: &[&str]| {
        std::fs::write(&file, text).unwrap();
        speedy(&[&["config", "check", "--config", path], rest].concat())
    };
    let fine = "image = 'i:1'\nmeta = 'n:2'\nclient-rate = 50\n";
    assert!(printed(&check(fine, &["registry"]), 0).contains("speedy registry would start"));
    assert!(printed(&check("meta = 'n:2'", &["registry", "--image", "i:1"]), 0).contains("would start"));

    for (text, rest, expected) in [
        ("image = 'i:1'", &["registry"][..], "--meta <LIST>"),
        (
            "\nclient-rat = 1",
            &["serve"],
            ":2:1: unknown key 'client-rat' for speedy serve; did you mean 'client-rate'?",
        ),
        (
            "client-rate = 'many'",
            &["serve"],
            ":1:15: invalid value 'many' for client-rate: it must be a whole number",
        ),
        ("listen = 1\nlisten = 2", &["serve"], ":2:1: this is not TOML: duplicate key"),
        ("", &["cluster"], "cluster is no role; name serve, master"),
        ("", &["serve", "--client-rate", "0"], "invalid value '0' for '--client-rate <N|off>'"),
    ] {
        let told = complaint(&check(text, rest), 2);
        assert!(told.contains(expected), "{text}: {told}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no directory was made");
}

#[test]
fn what_is_printed_says_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("speedy.toml");
    std::fs::write(&file, "# mine\nlisten = \"0.0.0.0:5001\"\nlog-format = \"json\"\n").unwrap();
    let mut print = command(&["config", "print", "--config", file.to_str().unwrap(), "serve"]);
    print.args(["--max-blob", "1GiB"]).env("SPEEDY_LOG_FORMAT", "text").env("SPEEDY_MAX_UPLOADS", "70");
    let told = printed(&print.output().unwrap(), 0);
    let line = |key: &str| {
        let line = told.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_once("# ").map(|(left, right)| (left.trim_end().to_owned(), right.to_owned())).unwrap()
    };
    let path = file.display();
    assert_eq!(line("listen"), ("listen = \"0.0.0.0:5001\"".into(), format!("{path}:2:10")));
    assert_eq!(line("log-format").1, "environment variable SPEEDY_LOG_FORMAT");
    assert_eq!(
        line("max-uploads"),
        ("max-uploads = \"70\"".into(), "environment variable SPEEDY_MAX_UPLOADS".into())
    );
    assert_eq!(line("max-blob").1, "command line");
    assert_eq!(line("data-dir"), ("data-dir = \"./speedy-data\"".into(), "default".into()));
    let mut print = command(&["config", "print", "--json", "serve"]);
    let settings: serde_json::Value = serde_json::from_str(&printed(&print.output().unwrap(), 0)).unwrap();
    let listen = settings.as_array().unwrap().iter().find(|setting| setting["key"] == "listen").unwrap();
    assert_eq!((&listen["values"][0], &listen["source"]), (&"127.0.0.1:5000".into(), &"default".into()));
}

#[test]
fn variables_that_are_nearly_settings_are_refused_and_others_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str], variable: &str| {
        let mut command = command(words);
        command.env(variable, "1GiB").current_dir(dir.path()).output().unwrap()
    };
    let mistaken = "SPEEDY_MEMORY_BUDJET";
    for words in [&["config", "check", "serve"][..], &["config", "print", "serve"], &["serve"], &["meta"]] {
        let told = complaint(&run(words, mistaken), 2);
        let expected =
            "unknown environment variable SPEEDY_MEMORY_BUDJET; did you mean SPEEDY_MEMORY_BUDGET?";
        assert!(told.contains(expected), "{words:?}: {told}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was started");
    // Of another role, or of somebody else.
    let fine = run(&["config", "check", "serve"], "SPEEDY_REPLICAS");
    assert!(printed(&fine, 0).contains("would start") && fine.stderr.is_empty());
    let ignored = run(&["config", "check", "serve"], "SPEEDY_SERVICE_PORT");
    assert!(printed(&ignored, 0).contains("would start"));
    let told = String::from_utf8(ignored.stderr).unwrap();
    assert!(told.contains("no setting are ignored: ") && told.contains("SPEEDY_SERVICE_PORT"), "{told}");
    // A command that is no role has no settings.
    let told = complaint(&run(&["store", "stats", "nowhere"], mistaken), 1);
    assert!(!told.contains(mistaken), "{told}");
}
