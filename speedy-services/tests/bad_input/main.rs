//! Malformed requests over real connections: each gets the error that it should, and leaves nothing behind.
//!
//! One module holds the rows of one topic; this one runs them. After each request the server still answers, no task of it
//! and no byte of the budget is left, the metadata holds what it held before, and nothing has panicked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;
mod framing;
mod manifests;
mod names;
mod paths;
mod ranges;
mod runner;
mod slow;
mod v1;

use case::Case;
use runner::Server;

/// The topics, with their rows.
fn topics(blob: &str, sum: &str) -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("names", names::names()),
        ("digests", names::digests()),
        ("tags and pages", names::tags()),
        ("paths", paths::cases()),
        ("ranges that are read", ranges::reads(blob)),
        ("ranges that are written", ranges::writes()),
        ("manifests", manifests::cases()),
        ("heads", framing::heads()),
        ("lengths", framing::lengths()),
        ("chunked encoding", framing::chunks()),
        ("HTTP/2", framing::frames()),
        ("slow clients", slow::cases()),
        ("Docker Registry v1", v1::cases(sum)),
    ]
}

#[tokio::test]
async fn malformed_requests_get_the_right_error_and_leave_nothing() {
    let server = Server::start().await;
    let (mut all, mut wrong) = (0, Vec::new());
    for (topic, cases) in topics(&server.blob, &server.sum) {
        println!("{}: {} requests", topic, cases.len());
        all += cases.len();
        for case in cases {
            // A machine that stands still for a second makes the test's clients look slow. What is wrong is wrong again.
            if server.run(&case).await.is_ok() {
                continue;
            }
            if let Err(what) = server.run(&case).await {
                println!("  {}: {what}", case.name);
                wrong.push(format!("{topic}: {}: {what}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {all}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all >= 600, "only {all} requests");
}

/// A healthy client is served at once while many others stall.
#[tokio::test]
async fn stalled_clients_hold_up_nobody_and_are_given_up() {
    let server = Server::start().await;
    server.stall(200).await;
}

/// Two lengths in one head are how a request is hidden behind another from a proxy that believes the wrong one. What follows
/// on the connection could be such a one, and is not read.
#[tokio::test]
async fn a_request_that_gives_two_lengths_is_the_last_of_its_connection() {
    let server = Server::start().await;
    let path = format!("/v2/kept/blobs/uploads/?digest={}", server.blob);
    for (lengths, body, answered) in [
        ("transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 2),
        ("content-length: 5\r\n", "hello", 2),
        ("content-length: 3\r\ntransfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 1),
        ("transfer-encoding: chunked\r\ncontent-length: 99\r\n", "5\r\nhello\r\n0\r\n\r\n", 1),
    ] {
        let first = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{lengths}\r\n{body}");
        let heads = server.heads(&format!("{first}GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!(heads.len(), answered, "{lengths}: {heads:?}");
        assert!(heads[0].starts_with("201"), "{lengths}: {heads:?}");
        assert_eq!(heads[0].contains("\r\nconnection: close"), answered == 1, "{lengths}: {heads:?}");
    }
}
