use std::time::{Duration, Instant};

use speedy_core::digest::Digest;

use super::serve::{Serve, ask, send};
use super::{printed, speedy};

#[test]
fn a_process_that_is_killed_as_it_collects_does_not_hold_up_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &["--gc-interval", "1s", "--gc-rate", "1"]);
    for content in 0..20 {
        let content = content.to_string();
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(content.as_bytes()));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}",
            content.len()
        );
        let answer = send(&serve.listen, &format!("{head}\r\n\r\n{content}"));
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    let begun = Instant::now();
    while !ask(&serve.admin, "GET /gc/status").contains("\"at\":\"admin address") {
        assert!(begun.elapsed() < Duration::from_secs(20), "it collects");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(serve);
    let serve = Serve::start(dir.path(), &["--gc-interval", "off"]);
    printed(&speedy(&["gc", "run", "--admin", &serve.admin]), 0);
}
