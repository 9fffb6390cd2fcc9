//! A containerd of the tests' own, and `ctr`, the client that drives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::files::files_in;
use crate::leftovers::state_directory;
use crate::process::{Process, run, wait_until};
use crate::tools::{Tool, require_root};

/// Until when the daemon must answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Until when any one command must have ended.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Until when the daemon must have ended.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What unpacks images: copies of directories, which need no file system of a kind.
const SNAPSHOTTER: [&str; 2] = ["--snapshotter", "native"];

/// A containerd with its own sockets, data and settings, so that it meets no other on the machine. It pushes and pulls,
/// and runs nothing.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    client: PathBuf,
    trusted: Option<PathBuf>,
    // The path of a socket has at most 107 bytes.
    state: TempDir,
}

impl Containerd {
    /// Starts a daemon with its data and log under `directory`.
    ///
    /// # Errors
    /// When it is not installed, the caller is not root, or it does not come up; the text has its log.
    pub fn start(directory: &Path) -> Result<Self> {
        require_root()?;
        let (daemon, client) = (Tool::CONTAINERD.path()?, Tool::CTR.path()?);
        let state = state_directory()?;
        let settings = state.path().join("config.toml");
        let (socket, data) = (state.path().join("socket"), directory.join("containerd"));
        // Without the part that speaks to Kubernetes, and the one that makes /opt/containerd.
        fs::write(
            &settings,
            format!(
                "version = 2\nroot = {data:?}\nstate = {:?}\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
                 [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {:?}\n",
                state.path().join("state"),
                state.path().join("ttrpc"),
            ),
        )?;
        let process =
            Process::start("containerd", Command::new(daemon).arg("--config").arg(settings), directory)?;
        let mut containerd = Self { process, client, trusted: None, state };
        containerd.wait_ready()?;
        Ok(containerd)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let mut version = self.command(&["version"]);
        let process = &mut self.process;
        let waited = wait_until("containerd", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("containerd ended at its start: {status}");
            }
            Ok(run(&mut version, COMMAND_LIMIT).is_ok())
        });
        waited.with_context(|| process.log_tail())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// From now on it speaks TLS to the registry `HOST:PORT`, and believes this authority (`ca.crt` in the directory).
    ///
    /// # Errors
    /// When its settings can't be written.
    pub fn trust(&mut self, host: &str, authority: &Path) -> Result<()> {
        let hosts = self.state.path().join("trusted");
        fs::create_dir_all(hosts.join(host))?;
        // Registries of this machine are asked in plain HTTP unless the scheme is named, and a file without `host` is not read.
        let server = format!("https://{host}");
        let settings =
            format!("server = {server:?}\n[host.{server:?}]\nca = {:?}\n", authority.join("ca.crt"));
        fs::write(hosts.join(host).join("hosts.toml"), settings)?;
        self.trusted = Some(hosts);
        Ok(())
    }

    /// The option that says how a command meets a registry.
    fn tls(&self) -> String {
        match &self.trusted {
            Some(hosts) => format!("--hosts-dir={}", hosts.display()),
            None => "--plain-http".to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--address").arg(self.state.path().join("socket"));
        command.args(["--namespace", "e2e"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments), COMMAND_LIMIT)
    }

    /// Reads the images of a layout in a tar. They are called `base` and, after a colon, what the layout calls them.
    ///
    /// # Errors
    /// When the file is no such thing.
    pub fn import(&self, file: &Path, base: &str) -> Result<()> {
        let mut command = self.command(&["images", "import", "--all-platforms", "--no-unpack"]);
        run(command.args(["--base-name", base]).arg(file), COMMAND_LIMIT).map(drop)
    }

    /// Writes an image with all its platforms to a tar.
    ///
    /// # Errors
    /// When it does not have them all.
    pub fn export(&self, name: &str, file: &Path) -> Result<()> {
        let mut command = self.command(&["images", "export", "--all-platforms"]);
        run(command.arg(file).arg(name), COMMAND_LIMIT).map(drop)
    }

    /// Pushes `HOST:PORT/REPOSITORY:TAG`, all of it that is here.
    ///
    /// # Errors
    /// When the push fails.
    pub fn push(&self, name: &str) -> Result<()> {
        self.run(&["images", "push", &self.tls(), name]).map(drop)
    }

    /// Pulls and unpacks the image for one platform.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull_for(&self, platform: &str, name: &str) -> Result<()> {
        run(&mut self.pull_command(platform, name), COMMAND_LIMIT).map(drop)
    }

    /// The command of [`Containerd::pull_for`].
    pub fn pull_command(&self, platform: &str, name: &str) -> Command {
        let tls = self.tls();
        let pull = ["images", "pull", &tls, "--platform", platform];
        self.command(&[&pull[..], &SNAPSHOTTER, &[name]].concat())
    }

    /// What is being fetched, and how much of it is there.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub fn active(&self) -> Result<Vec<String>> {
        // Without the last column, the age.
        let shown = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        Ok(self.run(&["content", "active"])?.lines().skip(1).map(shown).collect())
    }

    /// Pulls and unpacks the images for all platforms.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull_all(&self, name: &str) -> Result<()> {
        let tls = self.tls();
        let pull = ["images", "pull", &tls, "--all-platforms"];
        self.run(&[&pull[..], &SNAPSHOTTER, &[name]].concat()).map(drop)
    }

    /// Pulls the images for all platforms of `HOST/REPOSITORY:TAG` through `mirror`, a registry that holds what that host has.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull_mirrored(&self, name: &str, mirror: &str) -> Result<()> {
        let (host, _) = name.split_once('/').context("a name without a host")?;
        let hosts = self.state.path().join("hosts");
        fs::create_dir_all(hosts.join(host))?;
        let settings = format!(
            "server = \"https://{host}\"\n[host.\"http://{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(hosts.join(host).join("hosts.toml"), settings)?;
        let mut command = self.command(&["images", "pull", "--all-platforms"]);
        command.args(SNAPSHOTTER).arg("--hosts-dir").arg(hosts).arg(name);
        run(&mut command, COMMAND_LIMIT).map(drop)
    }

    /// Gives an image a second name.
    ///
    /// # Errors
    /// When it is not there.
    pub fn tag(&self, name: &str, other: &str) -> Result<()> {
        self.run(&["images", "tag", name, other]).map(drop)
    }

    /// Removes an image and, before it returns, what only that one needed.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.run(&["images", "rm", "--sync", name]).map(drop)
    }

    /// The digests of all manifests and blobs that are here, sorted.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub fn content(&self) -> Result<Vec<String>> {
        let mut content: Vec<_> =
            self.run(&["content", "ls", "--quiet"])?.lines().map(str::to_owned).collect();
        content.sort();
        Ok(content)
    }

    /// The files of an image for one platform, which was pulled: path, digest and length of each.
    ///
    /// # Errors
    /// When the image is not unpacked here.
    pub fn files(&self, platform: &str, name: &str) -> Result<BTreeMap<String, (String, u64)>> {
        let place = tempfile::tempdir_in(self.state.path())?;
        let at = place.path().to_str().context("a path that is no text")?;
        let mount = ["images", "mount", "--platform", platform];
        self.run(&[&mount[..], &SNAPSHOTTER, &[name, at]].concat())?;
        let files = files_in(place.path());
        self.run(&[&["images", "unmount", "--rm"][..], &SNAPSHOTTER, &[at]].concat())?;
        files
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.process.terminate().is_ok() {
            let _ = self.process.wait(STOP_LIMIT);
        }
    }
}
