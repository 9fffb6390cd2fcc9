//! Podman, which pulls and pushes without a daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemonless::{Daemonless, with_algorithm};
use crate::docker::LocalImage;
use crate::files::files_in;
use crate::tools::Tool;

/// Podman with images of its own.
#[derive(Debug)]
pub struct Podman {
    tool: Daemonless,
    temporary: String,
}

impl Podman {
    /// Podman, its images in `directory`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn new(directory: &Path) -> Result<Self> {
        let tool = Daemonless::new(Tool::PODMAN, directory)?;
        let temporary = tool.state().join("podman").display().to_string();
        Ok(Self { tool, temporary })
    }

    /// From now on it speaks TLS alone, and believes this authority (`ca.crt` in the directory).
    #[must_use]
    pub fn trusting(self, authority: &Path) -> Self {
        Self { tool: self.tool.trusting(authority), ..self }
    }

    fn options(&self) -> [&str; 6] {
        // It asks no systemd for anything, and keeps no journal.
        ["--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", &self.temporary]
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.tool.run(&self.options(), arguments)
    }

    /// Pulls `HOST:PORT/REPOSITORY:TAG`.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull(&self, name: &str) -> Result<()> {
        self.run(&["pull", "--quiet", &self.tool.tls(), name]).map(drop)
    }

    /// Pulls the image for one platform.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull_for(&self, platform: &str, name: &str) -> Result<()> {
        self.run(&["pull", "--quiet", &self.tool.tls(), "--platform", platform, name]).map(drop)
    }

    /// Pushes an image to `HOST:PORT/REPOSITORY:TAG`, and gives the manifest's digest.
    ///
    /// # Errors
    /// When the push fails.
    pub fn push(&self, name: &str, to: &str) -> Result<String> {
        self.tool.push(&self.options(), &["push", "--quiet"], name, to)
    }

    /// Makes a list of all that an index in a registry names.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn list_of(&self, index: &str, list: &str) -> Result<()> {
        self.run(&["manifest", "create", list])?;
        let index = format!("docker://{index}");
        self.run(&["manifest", "add", "--all", &self.tool.tls(), list, &index]).map(drop)
    }

    /// Pushes a list with all its images, and gives the digest of the index.
    ///
    /// # Errors
    /// When the push fails.
    pub fn push_list(&self, list: &str, to: &str) -> Result<String> {
        let push = ["manifest", "push", "--all", "--format", "oci"];
        self.tool.push(&self.options(), &push, list, to)
    }

    /// What it has under this name.
    ///
    /// # Errors
    /// When it has nothing.
    pub fn inspect(&self, name: &str) -> Result<LocalImage> {
        let all: Value = serde_json::from_str(&self.run(&["image", "inspect", name])?)?;
        let image = all.get(0).context("podman inspect gave nothing")?;
        let id = image["Id"].as_str().context("an image without an id")?;
        let layers = image["RootFS"]["Layers"].as_array().into_iter().flatten();
        Ok(LocalImage {
            id: with_algorithm(id),
            layers: layers.filter_map(|layer| layer.as_str().map(str::to_owned)).collect(),
            digest: image["Digest"].as_str().map(str::to_owned),
        })
    }

    /// The files of an image: path, digest and length of each.
    ///
    /// # Errors
    /// When it has no such image.
    pub fn files(&self, name: &str) -> Result<BTreeMap<String, (String, u64)>> {
        let directory = self.run(&["image", "mount", name])?;
        let files = files_in(Path::new(&directory));
        self.run(&["image", "unmount", name])?;
        files
    }

    /// The tags of `HOST:PORT/REPOSITORY`.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        // A table with a head, whatever format is asked for.
        let output = self.run(&["search", "--list-tags", "--tls-verify=false", repository])?;
        let tag = |line: &str| line.split_whitespace().last().map(str::to_owned);
        Ok(output.lines().skip(1).filter_map(tag).collect())
    }

    /// The repositories that a search for `HOST:PORT/TERM` finds, and all that there are where the term is empty, without the host.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn search(&self, term: &str) -> Result<Vec<String>> {
        let output =
            self.run(&["search", "--tls-verify=false", "--no-trunc", "--format", "{{.Name}}", term])?;
        let name = |line: &str| line.trim().split_once('/').map(|(_, name)| name.to_owned());
        Ok(output.lines().filter_map(name).collect())
    }

    /// The command of [`Podman::pull`].
    pub fn pull_command(&self, name: &str) -> Command {
        self.tool.command(&self.options(), &["pull", "--quiet", &self.tool.tls(), name])
    }

    /// The command of a push of an image of its own.
    pub fn push_command(&self, name: &str, to: &str) -> Command {
        self.tool.command(&self.options(), &["push", "--quiet", &self.tool.tls(), name, to])
    }

    /// Removes every image.
    ///
    /// # Errors
    /// When something is left.
    pub fn remove_everything(&self) -> Result<()> {
        self.run(&["image", "rm", "--all", "--force"])?;
        let left = self.run(&["image", "ls", "--all", "--quiet"])?;
        ensure!(left.is_empty(), "podman still has images after their removal: {left}");
        Ok(())
    }
}
