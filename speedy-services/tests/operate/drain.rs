use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
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

    // Before it can have heard of it.
    let told = Instant::now();
    serve.terminate();
    wait("it is not ready", || ask(&serve.admin, "GET /readyz").contains("draining"));
    let answer = serve.ask("GET /v2/");
    assert!(answer.starts_with("HTTP/1.1 200 "), "it serves until the delay is over: {answer}");
    // `ask` wants its connection closed in any case.
    let mut kept = connect(&serve.listen);
    kept.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close\r\n"), "{answer}");
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

/// Registries behind a load balancer that looks at `/readyz` often and gives up who fails twice.
struct Balanced<'a> {
    registries: [&'a str; 2],
    ready: [AtomicBool; 2],
    over: AtomicBool,
}

impl Balanced<'_> {
    fn look(&self, number: usize, admin: &str) {
        let mut failed = 0;
        while !self.over.load(Ordering::Relaxed) && failed < 2 {
            let answers = TcpStream::connect(admin).is_ok_and(|mut page| {
                let mut answer = String::new();
                page.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_ok()
                    && page.read_to_string(&mut answer).is_ok()
                    && answer.starts_with("HTTP/1.1 200 ")
            });
            failed = if answers { 0 } else { failed + 1 };
            std::thread::sleep(Duration::from_millis(50));
        }
        self.ready[number].store(false, Ordering::Relaxed);
    }

    /// Begins uploads at both in turn over connections that it keeps, and never tries one again. Says how many.
    fn ask_on_and_on(&self, rest: Duration) -> usize {
        let mut kept = [None, None];
        for asked in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return asked;
            }
            let first = asked % 2;
            let number = if self.ready[first].load(Ordering::Relaxed) { first } else { 1 - first };
            let mut connection = kept[number].take().unwrap_or_else(|| connect(self.registries[number]));
            let request = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
            connection.write_all(request).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
            if !answer.contains("connection: close\r\n") {
                kept[number] = Some(connection);
            }
            std::thread::sleep(rest);
        }
        unreachable!()
    }
}

#[test]
fn clients_with_pools_do_not_notice_that_one_of_two_registries_ends() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ends, stays] = dirs.each_ref().map(|dir| Serve::start(dir.path(), &["--drain-delay", "2s"]));
    for serve in [&ends, &stays] {
        wait("it is ready", || ask(&serve.admin, "GET /readyz").starts_with("HTTP/1.1 200 "));
    }
    let listen = [&ends, &stays].map(|serve| serve.listen.clone());
    let admins = [&ends, &stays].map(|serve| serve.admin.clone());
    let registries = listen.each_ref().map(String::as_str);
    let balanced =
        Balanced { registries, ready: [true, true].map(AtomicBool::new), over: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        for (number, admin) in admins.iter().enumerate() {
            let balanced = &balanced;
            scope.spawn(move || balanced.look(number, admin));
        }
        let rests = [1, 3, 7, 100].map(Duration::from_millis);
        let balanced = &balanced;
        let clients = rests.map(|rest| scope.spawn(move || balanced.ask_on_and_on(rest)));
        std::thread::sleep(Duration::from_millis(500));
        ends.terminate();
        let ended = ends.end();
        std::thread::sleep(Duration::from_millis(300));
        balanced.over.store(true, Ordering::Relaxed);
        assert_eq!(ended.code(), Some(0));
        for client in clients {
            let asked = client.join().expect("a client met a connection that was cut, or no registry");
            assert!(asked > 5, "{asked} requests in all");
        }
    });
}

#[test]
fn with_a_log_of_json_every_line_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", path, "--log-format", "json"];
    let mut child = super::command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("listening on")) {
        lines.push(log.next().unwrap());
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    lines.extend(log);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    lines.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    for line in lines {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}
