use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::SPEEDY;

/// A process of one role, killed at the end.
pub(super) struct Node {
    child: Child,
    /// Where it listens.
    pub(super) listen: String,
    /// Its admin address.
    pub(super) admin: String,
}

impl Node {
    /// `speedy meta` on this directory.
    pub(super) fn meta(dir: &Path) -> Self {
        Self::start("meta", dir)
    }

    /// `speedy serve` on this directory.
    pub(super) fn serve(dir: &Path) -> Self {
        Self::start("serve", dir)
    }

    fn start(role: &str, dir: &Path) -> Self {
        let mut command = Command::new(SPEEDY);
        command.args([role, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]).arg(dir);
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

    /// Ends it as kill -9 does.
    pub(super) fn kill(self) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
