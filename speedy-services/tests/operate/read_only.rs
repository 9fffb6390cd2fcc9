use super::serve::Serve;
use super::{complaint, printed, speedy};

const BEGIN: &str = "POST /v2/a/blobs/uploads/";

#[test]
fn it_is_switched_while_running_and_holds_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &[]);
    let tool =
        |serve: &Serve, words: &[&str]| speedy(&[&["read-only"], words, &["--admin", &serve.admin]].concat());
    assert!(printed(&tool(&serve, &["status"]), 0).contains("are taken"));
    assert!(serve.ask(BEGIN).starts_with("HTTP/1.1 202 "));

    let told = printed(&tool(&serve, &["on", "--reason", "new disks & cables"]), 0);
    assert!(told.contains(": new disks & cables\n"), "{told}");
    let refused = serve.ask(BEGIN);
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("read-only at the moment: new disks & cables"), "{refused}");
    assert!(serve.ask("GET /v2/").starts_with("HTTP/1.1 200 "));
    let status = printed(&tool(&serve, &["status", "--json"]), 3);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["read_only"], &status["reason"]), (&true.into(), &"new disks & cables".into()));

    drop(serve);
    let serve = Serve::start(dir.path(), &[]);
    assert!(serve.ask(BEGIN).starts_with("HTTP/1.1 405 "), "from the first request on");
    assert!(printed(&tool(&serve, &["off"]), 0).contains("are taken"));
    assert!(serve.ask(BEGIN).starts_with("HTTP/1.1 202 "));
}

#[test]
fn what_cannot_be_asked_is_said() {
    let nobody = complaint(&speedy(&["read-only", "status", "--admin", "127.0.0.1:1"]), 1);
    assert!(nobody.contains("no connection to 127.0.0.1:1"), "{nobody}");
    let long = "x".repeat(501);
    let refused = complaint(&speedy(&["read-only", "on", "--reason", &long]), 2);
    assert!(refused.contains("one line of at most 500 bytes"), "{refused}");
}
