//! A Docker daemon of the tests' own, and the client that drives it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::leftovers::state_directory;
use crate::process::{Process, run, wait_until};
use crate::tools::{Tool, require_root};

/// Until when the daemon must answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Until when any one command must have ended.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// Until when the daemon must have ended. It waits for its own children.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A Docker daemon with its own socket, data and state, so that it meets no other on the machine. It has no network
/// bridge and touches no firewall: it builds, pushes and pulls, and runs nothing.
#[derive(Debug)]
pub struct Docker {
    process: Process,
    client: PathBuf,
    state: tempfile::TempDir,
    data: PathBuf,
}

/// An image as the daemon has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// The digest of its configuration.
    pub id: String,
    /// The digests of its unpacked layers, base first.
    pub layers: Vec<String>,
    /// The digest of its manifest in the repository that was asked for.
    pub digest: Option<String>,
}

/// What a push reports.
#[derive(Debug)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: String,
    /// How many layers the client sent.
    pub sent: usize,
    /// How many layers the registry had already.
    pub existed: usize,
}

impl Docker {
    /// Starts a daemon with its data and log under `directory`.
    ///
    /// # Errors
    /// When it is not installed, the caller is not root, or it does not come up; the text has its log.
    pub fn start(directory: &Path) -> Result<Self> {
        require_root()?;
        let (daemon, client) = (Tool::DOCKERD.path()?, Tool::DOCKER.path()?);
        // The path of a socket has at most 107 bytes, and the daemon makes sockets deep inside its state.
        let state = state_directory()?;
        let data = directory.join("docker");
        // A file of its own: the machine's /etc/docker/daemon.json is not ours.
        let settings = state.path().join("daemon.json");
        fs::write(&settings, "{}")?;
        let mut command = Command::new(daemon);
        command.arg("--config-file").arg(settings);
        command.arg("--host").arg(socket(state.path()));
        command.arg("--data-root").arg(&data);
        command.arg("--exec-root").arg(state.path().join("exec"));
        command.arg("--pidfile").arg(state.path().join("pid"));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        let process = Process::start("dockerd", &mut command, directory)?;
        let mut docker = Self { process, client, state, data };
        docker.wait_ready()?;
        Ok(docker)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let mut version = self.command(&["version"]);
        let process = &mut self.process;
        let waited = wait_until("the Docker daemon", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("dockerd ended at its start: {status}");
            }
            Ok(run(&mut version, COMMAND_LIMIT).is_ok())
        });
        waited.with_context(|| process.log_tail())
    }

    /// A client's command against this daemon, with nobody's credentials.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.env("DOCKER_HOST", socket(self.state.path()));
        command.env("DOCKER_CONFIG", self.state.path().join("client"));
        // The classic builder needs nothing from the network.
        command.env("DOCKER_BUILDKIT", "0").env_remove("DOCKER_CONTEXT");
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments), COMMAND_LIMIT)
    }

    /// Builds the directory's Dockerfile.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build(&self, directory: &Path, name: &str) -> Result<()> {
        let mut command = self.command(&["build", "--quiet", "--tag", name]);
        run(command.arg(directory), COMMAND_LIMIT).map(drop)
    }

    /// Writes an image to a file.
    ///
    /// # Errors
    /// When the daemon does not have it.
    pub fn save(&self, name: &str, file: &Path) -> Result<()> {
        let mut command = self.command(&["save", "--output"]);
        run(command.arg(file).arg(name), COMMAND_LIMIT).map(drop)
    }

    /// Reads images from a file that [`Docker::save`] wrote.
    ///
    /// # Errors
    /// When the file is no such thing.
    pub fn load(&self, file: &Path) -> Result<()> {
        let mut command = self.command(&["load", "--quiet", "--input"]);
        run(command.arg(file), COMMAND_LIMIT).map(drop)
    }

    /// Names an image.
    ///
    /// # Errors
    /// When the daemon does not have it.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.run(&["tag", image, name]).map(drop)
    }

    /// Pushes `HOST:PORT/REPOSITORY:TAG`.
    ///
    /// # Errors
    /// When the push fails, or does not report as it should.
    pub fn push(&self, name: &str) -> Result<Pushed> {
        let output = self.run(&["push", name])?;
        let count =
            |ends: &[&str]| output.lines().filter(|line| ends.iter().any(|end| line.ends_with(end))).count();
        Ok(Pushed {
            digest: digest_in(&output)
                .with_context(|| format!("no digest in the push's report:\n{output}"))?,
            sent: count(&[": Pushed"]),
            existed: count(&[": Layer already exists"]),
        })
    }

    /// Pulls `HOST:PORT/REPOSITORY:TAG` and gives the digest of its manifest.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull(&self, name: &str) -> Result<String> {
        let output = self.run(&["pull", name])?;
        digest_in(&output).with_context(|| format!("no digest in the pull's report:\n{output}"))
    }

    /// Pulls the image for one platform.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull_for(&self, platform: &str, name: &str) -> Result<()> {
        self.run(&["pull", "--quiet", "--platform", platform, name]).map(drop)
    }

    /// The architecture of an image.
    ///
    /// # Errors
    /// When the daemon does not have it.
    pub fn architecture(&self, name: &str) -> Result<String> {
        let output = self.run(&["image", "inspect", "--format", "{{.Architecture}}", name])?;
        Ok(output.trim().to_owned())
    }

    /// Makes a list of images that are in the registry, pushes it, and gives its digest.
    ///
    /// # Errors
    /// When an image is not there, or the push fails.
    pub fn push_list(&self, name: &str, images: &[&str]) -> Result<String> {
        self.run(&[&["manifest", "create", "--insecure", name], images].concat())?;
        let output = self.run(&["manifest", "push", "--insecure", "--purge", name])?;
        Ok(output.lines().last().unwrap_or_default().trim().to_owned())
    }

    /// The names that a search for `HOST:PORT/TERM` finds.
    ///
    /// # Errors
    /// When the search fails.
    pub fn search(&self, term: &str) -> Result<Vec<String>> {
        let output = self.run(&["search", "--no-trunc", "--format", "{{.Name}}", term])?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// What the daemon knows of an image. `name` is `HOST:PORT/REPOSITORY:TAG`, or anything without a repository's digest.
    ///
    /// # Errors
    /// When the daemon does not have it.
    pub fn inspect(&self, name: &str) -> Result<LocalImage> {
        let all: Value = serde_json::from_str(&self.run(&["image", "inspect", name])?)?;
        let image = all.get(0).context("docker inspect gave nothing")?;
        let strings = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
        let digest = strings(&image["RepoDigests"])
            .iter()
            .find_map(|entry| entry.strip_prefix(repository)?.strip_prefix('@').map(str::to_owned));
        let id = image["Id"].as_str().context("an image without an id")?.to_owned();
        Ok(LocalImage { id, layers: strings(&image["RootFS"]["Layers"]), digest })
    }

    /// Whether the daemon has an image of this name or id.
    pub fn has(&self, image: &str) -> bool {
        self.run(&["image", "inspect", image]).is_ok()
    }

    /// Removes every image, and sees that no layer is left.
    ///
    /// # Errors
    /// When something is left.
    pub fn remove_everything(&self) -> Result<()> {
        // Those that have names; the builder's steps below them go with them.
        let images = self.run(&["image", "ls", "--quiet", "--no-trunc"])?;
        let mut images: Vec<&str> = images.lines().collect();
        images.sort_unstable();
        images.dedup();
        if !images.is_empty() {
            let mut command = self.command(&["image", "rm", "--force"]);
            run(command.args(images), COMMAND_LIMIT)?;
        }
        let left = self.run(&["image", "ls", "--all", "--quiet"])?;
        ensure!(left.is_empty(), "docker still has images after their removal: {left}");
        let layers = self.stored_layers()?;
        ensure!(layers.is_empty(), "docker still has layers after their removal: {layers:?}");
        Ok(())
    }

    /// The layers in the daemon's database, whichever storage driver it chose.
    fn stored_layers(&self) -> Result<Vec<String>> {
        let mut layers = Vec::new();
        for driver in fs::read_dir(self.data.join("image"))? {
            let database = driver?.path().join("layerdb/sha256");
            if database.is_dir() {
                for layer in fs::read_dir(database)? {
                    layers.push(layer?.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Ok(layers)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Asked first: it ends its containerd and unmounts. What it does not end, `Process` kills.
        if self.process.terminate().is_ok() {
            let _ = self.process.wait(STOP_LIMIT);
        }
    }
}

fn socket(state: &Path) -> String {
    format!("unix://{}", state.join("docker.sock").display())
}

/// The digest in `TAG: digest: sha256:… size: …` or `Digest: sha256:…`.
fn digest_in(report: &str) -> Option<String> {
    report.lines().find_map(|line| {
        let (_, rest) = line.split_once("digest: ").or_else(|| line.split_once("Digest: "))?;
        rest.split_whitespace().next().map(str::to_owned)
    })
}
