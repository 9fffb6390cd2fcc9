//! The image copier.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::run;
use crate::tools::Tool;

/// Until when a copy must have ended.
const COPY_LIMIT: Duration = Duration::from_secs(300);

/// Skopeo without verification of TLS and signatures.
#[derive(Debug)]
pub struct Skopeo {
    program: PathBuf,
    temporary: PathBuf,
}

impl Skopeo {
    /// Skopeo, its temporary files in `temporary`: `/tmp` may be a small file system in memory.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(temporary: &Path) -> Result<Self> {
        Ok(Self { program: Tool::SKOPEO.path()?, temporary: temporary.to_owned() })
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

    fn run(&self, arguments: &[&str], from: &str, to: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["--insecure-policy", "--tmpdir"]).arg(&self.temporary).args(arguments);
        command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]).args([from, to]);
        run(&mut command, COPY_LIMIT).map(drop)
    }
}
