use speedy_core::digest::Digest;

use super::serve::{Serve, send};
use super::{complaint, printed, speedy};

#[test]
fn repositories_that_are_there_are_told_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &[]);
    let usage = |words: &[&str]| speedy(&[&["usage", "--admin", &serve.admin], words].concat());
    assert_eq!(printed(&usage(&["--json"]), 0).trim(), "[]");
    let digest = Digest::sha256(b"some");
    let head =
        format!("POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\nconnection: close");
    let pushed = send(&serve.listen, &format!("{head}\r\ncontent-length: 4\r\n\r\nsome"));
    assert!(pushed.starts_with("HTTP/1.1 201 "), "{pushed}");
    let all: serde_json::Value = serde_json::from_str(&printed(&usage(&["--json"]), 0)).unwrap();
    let one: serde_json::Value = serde_json::from_str(&printed(&usage(&["a/b", "--json"]), 0)).unwrap();
    assert_eq!((&all, all[0]["unique"].as_u64()), (&one, Some(4)));
    let told = complaint(&usage(&["a"]), 1);
    assert!(told.contains("there is no repository a: `speedy usage` lists all"), "{told}");
    let told = complaint(&usage(&["a/B"]), 2);
    assert!(told.contains("invalid value 'a/B' for '[REPOSITORY]'"), "{told}");
}
