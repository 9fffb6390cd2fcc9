//! What podman and buildah have in common: no daemon, and a store of images under a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::leftovers::state_directory;
use crate::process::run;
use crate::tools::Tool;

/// Until when any one command must have ended.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A program with settings and images of its own: it meets none of the machine's, and trusts every image. Images are
/// unpacked into plain directories (the driver `vfs`), so nothing is mounted that could be left behind.
#[derive(Debug)]
pub(crate) struct Daemonless {
    program: PathBuf,
    images: PathBuf,
    authority: Option<PathBuf>,
    // Paths below it go into sockets and must be short.
    state: TempDir,
}

impl Daemonless {
    /// The program, with its images in `directory`.
    pub(crate) fn new(tool: Tool, directory: &Path) -> Result<Self> {
        let program = tool.path()?;
        let state = state_directory()?;
        let images = directory.to_owned();
        let settings = state.path().join(".config/containers");
        fs::create_dir_all(&settings)?;
        fs::create_dir_all(images.join("temporary"))?;
        let write = |name: &str, text: &str| {
            fs::write(settings.join(name), text).with_context(|| format!("writing {name}"))
        };
        write("policy.json", r#"{ "default": [{ "type": "insecureAcceptAnything" }] }"#)?;
        write("registries.conf", "unqualified-search-registries = []\n")?;
        write("containers.conf", "")?;
        write("auth.json", "{}")?;
        let run = state.path().join("run");
        write(
            "storage.conf",
            &format!("[storage]\ndriver = \"vfs\"\nrunroot = {run:?}\ngraphroot = {images:?}\n"),
        )?;
        Ok(Self { program, images, authority: None, state })
    }

    /// From now on it speaks TLS alone, and believes this authority (`ca.crt` in the directory).
    pub(crate) fn trusting(self, authority: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
    }

    /// The option that says how a command meets a registry: by default in plain HTTP, too.
    pub(crate) fn tls(&self) -> String {
        match &self.authority {
            Some(authority) => format!("--cert-dir={}", authority.display()),
            None => "--tls-verify=false".to_owned(),
        }
    }

    /// Where it keeps what is gone with the process.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// A command, the options that come before it in `options`.
    pub(crate) fn command(&self, options: &[&str], arguments: &[&str]) -> Command {
        let settings = self.state.path().join(".config/containers");
        let mut command = Command::new(&self.program);
        command.env("HOME", self.state.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.env("TMPDIR", self.images.join("temporary"));
        command.env("CONTAINERS_STORAGE_CONF", settings.join("storage.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", settings.join("registries.conf"));
        command.env("CONTAINERS_CONF", settings.join("containers.conf"));
        command.env("REGISTRY_AUTH_FILE", settings.join("auth.json"));
        command.arg("--root").arg(self.images.join("store"));
        command.arg("--runroot").arg(self.state.path().join("run"));
        command.args(["--storage-driver", "vfs"]).args(options).args(arguments);
        command
    }

    /// Runs a push of `image` to `HOST:PORT/REPOSITORY:TAG`, which is told to write the digest of what it pushed to a file, and
    /// gives that digest.
    pub(crate) fn push(&self, options: &[&str], push: &[&str], image: &str, to: &str) -> Result<String> {
        let file = self.state.path().join("digest");
        let mut command = self.command(options, push);
        command.args([&self.tls(), "--digestfile"]).arg(&file);
        command.arg(image).arg(format!("docker://{to}"));
        run(&mut command, COMMAND_LIMIT)?;
        let digest = fs::read_to_string(&file).context("the push wrote no digest")?;
        fs::remove_file(&file)?;
        Ok(digest.trim().to_owned())
    }

    /// Runs a command and gives what it writes.
    pub(crate) fn run(&self, options: &[&str], arguments: &[&str]) -> Result<String> {
        let output = run(&mut self.command(options, arguments), COMMAND_LIMIT)?;
        Ok(output.trim().to_owned())
    }
}

/// An image id as Docker writes it.
pub(crate) fn with_algorithm(id: &str) -> String {
    if id.contains(':') { id.to_owned() } else { format!("sha256:{id}") }
}
