//! The image copier.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::run;
use crate::tools::Tool;

/// Until when a copy must have ended.
const COPY_LIMIT: Duration = Duration::from_secs(300);

/// Skopeo without verification of signatures. It speaks plain HTTP, too.
#[derive(Debug)]
pub struct Skopeo {
    program: PathBuf,
    temporary: PathBuf,
    authority: Option<PathBuf>,
}

impl Skopeo {
    /// Skopeo, its temporary files in `temporary`: `/tmp` may be a small file system in memory.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(temporary: &Path) -> Result<Self> {
        Ok(Self { program: Tool::SKOPEO.path()?, temporary: temporary.to_owned(), authority: None })
    }

    /// From now on it speaks TLS alone, and believes this authority (`ca.crt` in the directory).
    #[must_use]
    pub fn trusting(self, authority: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
    }

    /// Copies an image between two places as skopeo writes them (`docker://…`, `oci:…`, `dir:…`).
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.run(&["copy"], from, to)
    }

    /// Copies an index with all its platforms, and lets no digest change.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn copy_all(&self, from: &str, to: &str) -> Result<()> {
        self.run(&["copy", "--all", "--preserve-digests"], from, to)
    }

    /// Copies an index without what it names, and lets no digest change.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn copy_index_only(&self, from: &str, to: &str) -> Result<()> {
        self.run(&["copy", "--multi-arch", "index-only", "--preserve-digests"], from, to)
    }

    /// The command of [`Skopeo::copy_all`].
    pub fn copy_all_command(&self, from: &str, to: &str) -> Command {
        self.between(&["copy", "--all", "--preserve-digests"], from, to)
    }

    /// The tags of `docker://HOST:PORT/REPOSITORY`.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let listed: Value = serde_json::from_str(&self.ask(&["list-tags"], repository)?)?;
        let tags = listed["Tags"].as_array().context("skopeo lists no tags")?;
        Ok(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
    }

    /// The manifest of `docker://HOST:PORT/REPOSITORY:TAG` as the registry sends it.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn raw(&self, name: &str) -> Result<String> {
        self.ask(&["inspect", "--raw"], name)
    }

    /// Copies every tag of `HOST:PORT/REPOSITORY` below `HOST:PORT/…`.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn sync(&self, from: &str, to: &str) -> Result<()> {
        let sync = ["sync", "--all", "--preserve-digests", "--src", "docker", "--dest", "docker"];
        self.run(&sync, from, to)
    }

    /// Copies an image and, as an attachment by cosign's rules, its signature: the tag `sha256-HEX.sig` beside the image.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn copy_signed(&self, from: &str, to: &str) -> Result<()> {
        let settings = tempfile::tempdir_in(&self.temporary)?;
        let attachments = "default-docker:\n  use-sigstore-attachments: true\n";
        fs::write(settings.path().join("attachments.yaml"), attachments)?;
        let settings = settings.path().display().to_string();
        self.run(&["--registries.d", &settings, "copy"], from, to)
    }

    /// Deletes the manifest that `docker://HOST:PORT/REPOSITORY:TAG` points to.
    ///
    /// # Errors
    /// When skopeo fails; the text is its own.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.ask(&["delete"], name).map(drop)
    }

    /// What skopeo says of one place.
    fn ask(&self, arguments: &[&str], name: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(self.tls("")).arg(name);
        run(&mut command, COPY_LIMIT)
    }

    /// How it meets the registry: `side` is `src-`, `dest-` or nothing.
    fn tls(&self, side: &str) -> Vec<String> {
        match &self.authority {
            Some(authority) => vec![format!("--{side}cert-dir"), authority.display().to_string()],
            None => vec![format!("--{side}tls-verify=false")],
        }
    }

    fn run(&self, arguments: &[&str], from: &str, to: &str) -> Result<()> {
        run(&mut self.between(arguments, from, to), COPY_LIMIT).map(drop)
    }

    fn between(&self, arguments: &[&str], from: &str, to: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--insecure-policy", "--tmpdir"]).arg(&self.temporary).args(arguments);
        command.args(self.tls("src-")).args(self.tls("dest-")).args([from, to]);
        command
    }
}
