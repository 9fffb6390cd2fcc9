use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use speedy_core::digest::Digest;

use super::serve::{Serve, ask, connect};

/// Waits until `done`, for ten seconds at most.
fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn load_balancers_hear_of_it_first_and_uploads_are_finished() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &["--drain-delay", "1500ms", "--drain-timeout", "30s"]);
    wait("it is ready", || ask(&serve.admin, "GET /readyz").starts_with("HTTP/1.1 200 "));
    let mut upload = connect(&serve.listen);
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"slow"));
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nsl");
    upload.write_all(head.as_bytes()).unwrap();

    serve.terminate();
    let told = Instant::now();
    wait("it is not ready", || ask(&serve.admin, "GET /readyz").contains("draining"));
    assert!(serve.ask("GET /v2/").starts_with("HTTP/1.1 200 "), "it serves until the delay is over");
    assert!(told.elapsed() < Duration::from_millis(1500), "the machine is too slow for this test");
    wait("no new connection is taken", || TcpStream::connect(&serve.listen).is_err());
    assert!(told.elapsed() >= Duration::from_millis(1500));

    upload.write_all(b"ow").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(serve.end().code(), Some(0));
}

#[test]
fn an_upload_that_takes_too_long_is_broken_off_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &["--drain-timeout", "300ms"]);
    let location = super::serve::header(&serve.ask("POST /v2/a/blobs/uploads/"), "location");
    let mut upload = connect(&serve.listen);
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nsome");
    upload.write_all(head.as_bytes()).unwrap();
    wait("the request is under way", || {
        ask(&serve.admin, "GET /metrics").contains("speedy_http_in_flight_bytes 4\n")
    });
    serve.terminate();
    let mut answer = String::new();
    // It is cut off, with a reset or without.
    let _ = upload.read_to_string(&mut answer);
    assert_eq!(answer, "");
    assert_eq!(serve.end().code(), Some(0));
    let serve = Serve::start(dir.path(), &[]);
    let status = serve.ask(&format!("GET {location}"));
    assert!(status.starts_with("HTTP/1.1 204 "), "{status}");
    let stands = super::serve::header(&status, "range");
    assert!(["0-0", "0-3"].contains(&stands.as_str()), "{stands}");
}

#[test]
fn a_second_signal_ends_the_delay_and_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), &["--drain-delay", "10m"]);
    serve.terminate();
    wait("it drains", || ask(&serve.admin, "GET /readyz").contains("draining"));
    serve.terminate();
    assert_eq!(serve.end().code(), Some(143));
}
