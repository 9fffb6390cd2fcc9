//! The OCI Python client, which pushes and pulls what is no image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::run;
use crate::tools::Tool;

/// What speaks to the client, and what the client and it need.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/oras_client.py");
const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/requirements.txt");

/// Until when Python's packages must be there.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// Until when any one command must have ended. The client tries requests that fail again, for minutes.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// `oras` from the Python Package Index in an environment of its own, in versions that do not change.
#[derive(Debug, Clone)]
pub struct Oras {
    python: PathBuf,
    home: PathBuf,
    authority: Option<PathBuf>,
}

/// What a push by `oras` may have besides its files.
#[derive(Debug, Clone, Default)]
pub struct Extras<'a> {
    /// `PATH:TYPE` of the configuration; the type of an artifact is that of its configuration.
    pub config: Option<&'a str>,
    /// Media type, digest and length of the manifest that it is about.
    pub subject: Option<(&'a str, &'a str, usize)>,
    /// A file with annotations of the files, by path.
    pub annotations: Option<&'a Path>,
    /// Sends blobs in chunks of so many bytes.
    pub chunk: Option<usize>,
}

/// A manifest among those that refer to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Referrer {
    /// Its digest.
    pub digest: String,
    /// The type of the artifact.
    pub kind: String,
}

impl Oras {
    /// Installs the client under `directory`.
    ///
    /// # Errors
    /// When Python or pip is not installed, or the package index is not to be reached.
    pub fn install(directory: &Path) -> Result<Self> {
        let environment = directory.join("python");
        let mut venv = Command::new(Tool::PYTHON.path()?);
        run(venv.args(["-m", "venv", "--without-pip"]).arg(&environment), INSTALL_LIMIT)?;
        let python = environment.join("bin/python");
        let mut pip = Command::new(Tool::PIP.path()?);
        pip.arg("--python").arg(&python).args(["install", "--quiet", "--only-binary", ":all:"]);
        run(pip.args(["--requirement", REQUIREMENTS]), INSTALL_LIMIT)?;
        Ok(Self { python, home: environment, authority: None })
    }

    /// The same client, but it speaks TLS and believes this authority (`ca.crt` in the directory).
    #[must_use]
    pub fn trusting(&self, authority: &Path) -> Self {
        Self { authority: Some(authority.join("ca.crt")), ..self.clone() }
    }

    /// Pushes files, each `PATH:TYPE`, to `HOST:PORT/REPOSITORY:TAG` and gives the manifest's digest.
    ///
    /// # Errors
    /// When the push fails, or the registry does not confirm the subject.
    pub fn push(&self, to: &str, files: &[&str], extras: &Extras<'_>) -> Result<String> {
        let mut command = self.command(&["push", to]);
        for file in files {
            command.args(["--file", file]);
        }
        if let Some(config) = extras.config {
            command.args(["--config", config]);
        }
        if let Some(annotations) = extras.annotations {
            command.arg("--annotations").arg(annotations);
        }
        if let Some((kind, digest, length)) = extras.subject {
            command.args(["--subject", &format!("{kind},{digest},{length}")]);
        }
        if let Some(chunk) = extras.chunk {
            command.args(["--chunk", &chunk.to_string()]);
        }
        let answer = answer_of(&mut command)?;
        if let Some((_, subject, _)) = extras.subject {
            crate::same("the answer's OCI-Subject", &Some(subject), &answer["subject"].as_str())?;
        }
        Ok(answer["digest"].as_str().context("the push gave no digest")?.to_owned())
    }

    /// Pulls the files of an artifact into a directory and gives its manifest.
    ///
    /// # Errors
    /// When the pull fails.
    pub fn pull(&self, from: &str, directory: &Path) -> Result<Value> {
        answer_of(self.command(&["pull", from]).arg(directory))
    }

    /// The tags of `HOST:PORT/REPOSITORY`.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_value(answer_of(&mut self.command(&["tags", repository]))?)?)
    }

    /// Deletes the manifest that a tag points to, and says whether there was one.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn delete(&self, name: &str) -> Result<bool> {
        Ok(serde_json::from_value(answer_of(&mut self.command(&["delete", name]))?)?)
    }

    /// What refers to `HOST:PORT/REPOSITORY@DIGEST`, sorted; of one type, if it is given.
    ///
    /// # Errors
    /// When the registry does not say, or does not say that it has filtered.
    pub fn referrers(&self, name: &str, kind: Option<&str>) -> Result<Vec<Referrer>> {
        let mut command = self.command(&["referrers", name]);
        if let Some(kind) = kind {
            command.args(["--type", kind]);
        }
        let all = answer_of(&mut command)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = all.as_array().context("the referrers are no list")?;
        let found =
            all.iter().map(|one| Referrer { digest: text(&one["digest"]), kind: text(&one["artifactType"]) });
        let mut found: Vec<_> = found.collect();
        found.sort();
        Ok(found)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        // Nobody's credentials, and no proxy between the client and this machine.
        command.env("HOME", &self.home).env("NO_PROXY", "127.0.0.1").arg(PROGRAM).args(arguments);
        if let Some(authority) = &self.authority {
            command.arg("--authority").arg(authority);
        }
        command
    }
}

/// What the program says last.
fn answer_of(command: &mut Command) -> Result<Value> {
    let output = run(command, COMMAND_LIMIT)?;
    let last = output.lines().last().context("the client said nothing")?;
    serde_json::from_str(last).with_context(|| format!("the client said {last}"))
}
