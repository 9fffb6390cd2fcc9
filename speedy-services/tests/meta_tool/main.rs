//! `speedy meta backup`, `restore` and `rebuild`, as somebody at a terminal uses them against running nodes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use node::{Node, runtime};
use serde_json::Value;
use speedy_core::digest::Digest;
use speedy_core::meta::{MetaStore, Transaction, Write};
use speedy_services::meta::MetaClient;

const SPEEDY: &str = env!("CARGO_BIN_EXE_speedy");

fn speedy(arguments: &[&str]) -> Output {
    Command::new(SPEEDY).args(arguments).output().unwrap()
}

/// Runs a command that must end with this code; answers what it printed, and on stderr.
#[track_caller]
fn ends_with(code: i32, arguments: &[&str]) -> (String, String) {
    let output = speedy(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sets a key of a meta node.
fn put(node: &Node, key: &'static str, value: &'static str) {
    runtime().block_on(async {
        let client = MetaClient::new(&node.listen.parse().unwrap());
        let outcome = client.transact(Transaction::new().write(Write::Put(key.into(), value.into()))).await;
        assert!(outcome.unwrap().is_committed());
    });
}

/// The value of a key of a meta node.
fn get(node: &Node, key: &'static str) -> Option<String> {
    runtime().block_on(async {
        let client = MetaClient::new(&node.listen.parse().unwrap());
        let entry = client.get(key.into()).await.unwrap();
        entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    })
}

#[test]
fn a_running_meta_node_is_backed_up_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, again) = (dir.path().join("data"), dir.path().join("backup"), dir.path().join("again"));
    let node = Node::meta(&data);
    put(&node, "key", "before");
    let (out, _) = ends_with(0, &["meta", "backup", "--admin", &node.admin, path(&file)]);
    assert!(out.contains("1 entries") && out.contains("complete and verified"), "{out}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    put(&node, "key", "after");
    let (_, err) = ends_with(1, &["meta", "backup", "--admin", &node.admin, path(&file)]);
    assert!(err.contains("is there already"), "{err}");

    let (_, err) = ends_with(1, &["meta", "restore", path(&file), "--data-dir", path(&data)]);
    assert!(err.contains("is not empty"), "{err}");
    node.kill();
    let (out, _) = ends_with(0, &["meta", "restore", path(&file), "--data-dir", path(&again), "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["entries"], &report["directory"]), (&1.into(), &path(&again).into()));
    let node = Node::meta(&again);
    assert_eq!(get(&node, "key").as_deref(), Some("before"));
    put(&node, "key", "and on");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing else is left: {left:?}");
}

#[test]
fn speedy_serve_is_backed_up_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("backup"));
    let node = Node::serve(&data);
    let (out, _) = ends_with(0, &["meta", "backup", "--admin", &node.admin, path(&file), "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["entries"].as_u64().unwrap() > 0, "its group is in: {report}");
    node.kill();
    // Named as its owner would first try.
    let (_, err) = ends_with(1, &["meta", "restore", path(&file), "--data-dir", path(&data)]);
    assert!(err.contains("is not empty"), "{err}");
    let meta = data.join("meta");
    std::fs::remove_dir_all(&meta).unwrap();
    ends_with(0, &["meta", "restore", path(&file), "--data-dir", path(&meta)]);
    Node::serve(&data);
}

#[test]
fn the_blobs_of_speedy_serve_are_rebuilt_without_any_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (_, err) = ends_with(1, &["meta", "rebuild", "--data-dir", path(&data)]);
    assert!(err.contains("no directory of speedy serve") && !data.exists(), "{err}");
    let content = vec![7; 9 << 20];
    let digest = Digest::sha256(&content);
    let node = Node::serve(&data);
    runtime().block_on(async {
        let url = format!("http://{}/v2/app/blobs/uploads/?digest={digest}", node.listen);
        let pushed = reqwest::Client::new().post(url).body(content.clone()).send().await.unwrap();
        assert_eq!(pushed.status(), 201);
    });
    let (_, err) = ends_with(1, &["meta", "rebuild", "--data-dir", path(&data)]);
    assert!(err.contains("in use") && err.contains("stop the process"), "{err}");
    node.kill();
    std::fs::remove_dir_all(data.join("meta")).unwrap();
    let (out, _) = ends_with(0, &["meta", "rebuild", "--data-dir", path(&data), "--dry-run"]);
    assert!(out.contains("to rebuild  1 blobs, 9.00 MiB") && out.contains("dry run"), "{out}");
    let (_, err) = ends_with(
        1,
        &["serve", "--data-dir", path(&data), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    );
    assert!(err.contains("no metadata under meta/") && err.contains("speedy meta rebuild"), "{err}");
    let (out, _) = ends_with(0, &["meta", "rebuild", "--data-dir", path(&data), "--repository", "saved"]);
    assert!(out.contains("rebuilt     1 blobs, 9.00 MiB") && out.contains("linked      1 blobs"), "{out}");
    let node = Node::serve(&data);
    runtime().block_on(async {
        let blob = |name: &str| reqwest::get(format!("http://{}/v2/{name}/blobs/{digest}", node.listen));
        assert_eq!(blob("app").await.unwrap().status(), 404, "nobody knows any more that it was there");
        assert_eq!(blob("saved").await.unwrap().bytes().await.unwrap(), content);
    });
}

#[test]
fn an_answer_that_breaks_off_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("backup"));
    let node = Node::meta(&data);
    put(&node, "key", "value");
    ends_with(0, &["meta", "backup", "--admin", &node.admin, path(&file)]);
    let good = std::fs::read(&file).unwrap();
    let truncated = dir.path().join("truncated");
    // With the word of the answer's end and without, and something that is no backup.
    for (body, end, says) in [
        (&good[..good.len() - 9], "0\r\n\r\n", "is no good: it is cut off"),
        (&good[..good.len() - 9], "", "broke off"),
        (&b"it works"[..], "0\r\n\r\n", "no backup"),
    ] {
        let admin = answers_once(body.to_vec(), end);
        let (_, err) = ends_with(1, &["meta", "backup", "--admin", &admin, path(&truncated)]);
        assert!(err.contains(says) && err.contains(&admin), "{err}");
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "the node's directory and the good backup"
        );
    }
}

/// An address that answers one request with these bytes.
fn answers_once(body: Vec<u8>, end: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = client.read(&mut head).unwrap();
        write!(client, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()).unwrap();
        client.write_all(&body).unwrap();
        write!(client, "\r\n{end}").unwrap();
    });
    address
}

#[test]
fn a_copy_that_was_cut_off_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("backup"));
    let node = Node::meta(&data);
    ends_with(0, &["meta", "backup", "--admin", &node.admin, path(&file)]);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let target = dir.path().join("new");
    let (_, err) = ends_with(1, &["meta", "restore", path(&file), "--data-dir", path(&target)]);
    assert!(err.contains(path(&file)) && err.contains("cut off") && !target.exists(), "{err}");
}

#[test]
fn what_can_not_be_done_leaves_no_file_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("backup"));
    let (_, err) = ends_with(1, &["meta", "backup", "--admin", "127.0.0.1:1", path(&file)]);
    assert!(err.contains("no connection to 127.0.0.1:1") && err.contains("admin address"), "{err}");
    let node = Node::meta(&data);
    let nowhere = dir.path().join("not/there");
    let (_, err) = ends_with(1, &["meta", "backup", "--admin", &node.admin, path(&nowhere)]);
    assert!(err.contains(path(&nowhere)), "{err}");
    // The disk has no room.
    let (_, err) = ends_with(1, &["meta", "backup", "--admin", &node.admin, "/dev/full/backup"]);
    assert!(err.contains("/dev/full/backup"), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the node's directory");
}
