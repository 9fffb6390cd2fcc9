//! The two registries as processes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use speedy_benches::server::Server;
use speedy_e2e::{free_addresses, run};

const VERSION_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Speedy,
    DockerRegistry,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Speedy => "speedy",
            Self::DockerRegistry => "docker-registry",
        }
    }

    /// What the program says of itself.
    pub(crate) fn version(self, program: &Path) -> Result<String> {
        let text = run(Command::new(program).arg("--version"), VERSION_LIMIT)?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Starts it from an empty directory.
    pub(crate) fn start(self, program: &Path, directory: &Path) -> Result<Server> {
        match self {
            Self::Speedy => Server::speedy(program, directory),
            Self::DockerRegistry => {
                let [address] = free_addresses()?;
                // Debian's configuration without accounts. Its access log is on, as Speedy's is.
                let settings = directory.join("registry.yml");
                let text = format!(
                    "version: 0.1\nlog: {{fields: {{service: registry}}}}\nstorage:\n  cache: {{blobdescriptor: inmemory}}\n  \
                     filesystem: {{rootdirectory: '{}'}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{address}'}}\n",
                    directory.join("data").display()
                );
                fs::write(&settings, text)?;
                let mut command = Command::new(program);
                command.arg("serve").arg(settings);
                Server::start(self.name(), &mut command, address, directory)
            }
        }
    }
}
