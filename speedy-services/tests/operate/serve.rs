use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::command;

/// `speedy serve`, or another role, killed at the end.
pub(super) struct Serve {
    child: Child,
    /// Where it listens.
    pub(super) listen: String,
    /// Its admin address.
    pub(super) admin: String,
}

impl Serve {
    pub(super) fn start(dir: &Path, options: &[&str]) -> Self {
        Self::start_role("serve", &[&["--data-dir", dir.to_str().unwrap()], options].concat())
    }

    /// The same of another role, once it takes requests.
    pub(super) fn start_role(role: &str, options: &[&str]) -> Self {
        let mut command = command(&[role, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(options);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut address_after = |what: &str| {
            let line = log.find(|line| line.contains(what)).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        let admin = address_after("admin pages");
        let listen = address_after("listening on");
        // Read on, so that it never waits for somebody to read its log.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, listen, admin }
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A request without a body, answered whole.
    pub(super) fn ask(&self, target: &str) -> String {
        ask(&self.listen, target)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Sends `METHOD PATH` to an address, and answers head and body of the answer.
pub(super) fn ask(address: &str, target: &str) -> String {
    send(address, &format!("{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

/// Sends a whole request that closes its connection.
pub(super) fn send(address: &str, request: &str) -> String {
    let mut connection = connect(address);
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

pub(super) fn connect(address: &str) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    connection
}

/// The value of a header in an answer.
pub(super) fn header(answer: &str, name: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name}: {answer}")).to_owned()
}
