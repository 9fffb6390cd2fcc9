//! Buildah, which builds images without a daemon.

use std::path::Path;

use anyhow::{Context, Result};

use crate::daemonless::{Daemonless, with_algorithm};
use crate::docker::LocalImage;
use crate::tools::Tool;

/// Buildah with images of its own.
#[derive(Debug)]
pub struct Buildah(Daemonless);

impl Buildah {
    /// Buildah, its images in `directory`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn new(directory: &Path) -> Result<Self> {
        Daemonless::new(Tool::BUILDAH, directory).map(Self)
    }

    /// From now on it speaks TLS alone, and believes this authority (`ca.crt` in the directory).
    #[must_use]
    pub fn trusting(self, authority: &Path) -> Self {
        Self(self.0.trusting(authority))
    }

    /// Builds the directory's Dockerfile, each step a layer.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build(&self, context: &Path, name: &str) -> Result<()> {
        self.bud(&["--tag", name], context)
    }

    /// Builds the directory's Dockerfile for several platforms, into a list of images.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build_for(&self, platforms: &[&str], context: &Path, list: &str) -> Result<()> {
        self.bud(&["--platform", &platforms.join(","), "--manifest", list], context)
    }

    fn bud(&self, arguments: &[&str], context: &Path) -> Result<()> {
        let context = context.to_str().context("a path that is no text")?;
        // Nothing is run in the images: the isolation is the one that needs nothing of the machine.
        let build = ["bud", "--layers", "--isolation", "chroot"];
        self.0.run(&[], &[&build, arguments, &[context]].concat()).map(drop)
    }

    /// What it has under this name.
    ///
    /// # Errors
    /// When it has nothing.
    pub fn inspect(&self, name: &str) -> Result<LocalImage> {
        let format = "{{.FromImageID}} {{.FromImageDigest}}{{range .OCIv1.RootFS.DiffIDs}} {{.}}{{end}}";
        let output = self.0.run(&[], &["inspect", "--type", "image", "--format", format, name])?;
        let mut words = output.split_whitespace();
        let id = with_algorithm(words.next().context("an image without an id")?);
        let digest = words.next().map(str::to_owned);
        Ok(LocalImage { id, layers: words.map(str::to_owned).collect(), digest })
    }

    /// Pushes an image as manifest of a kind (`oci`, `v2s2`) to `HOST:PORT/REPOSITORY:TAG`, and gives the manifest's digest.
    ///
    /// # Errors
    /// When the push fails.
    pub fn push(&self, name: &str, kind: &str, to: &str) -> Result<String> {
        self.0.push(&[], &["push", "--format", kind], name, to)
    }

    /// Pushes a list with all its images, and gives the digest of the index.
    ///
    /// # Errors
    /// When the push fails.
    pub fn push_list(&self, list: &str, kind: &str, to: &str) -> Result<String> {
        self.0.push(&[], &["manifest", "push", "--all", "--format", kind], list, to)
    }

    /// Pulls `from`, puts a file on top of it, and calls the result `name`.
    ///
    /// # Errors
    /// When the pull or the commit fails.
    pub fn put_on_top(&self, from: &str, file: &Path, name: &str) -> Result<()> {
        let file = file.to_str().context("a path that is no text")?;
        let container = self.0.run(&[], &["from", "--quiet", "--pull-always", &self.0.tls(), from])?;
        self.0.run(&[], &["copy", "--quiet", &container, file, "/on-top"])?;
        self.0.run(&[], &["commit", "--quiet", "--rm", &container, name]).map(drop)
    }
}
