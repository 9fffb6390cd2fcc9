//! The two registries as processes, and what they cost.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use speedy_benches::processor_seconds;
use speedy_e2e::{Process, free_addresses, run, wait_until};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

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
        let text = run(Command::new(program).arg("--version"), START_LIMIT)?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn command(
        self,
        program: &Path,
        directory: &Path,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Command> {
        let mut command = Command::new(program);
        let data = directory.join("data");
        match self {
            Self::Speedy => {
                command.arg("serve").arg("--data-dir").arg(data);
                command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
            }
            Self::DockerRegistry => {
                // Debian's configuration without accounts. Its access log is on, as Speedy's is.
                let settings = directory.join("registry.yml");
                let text = format!(
                    "version: 0.1\nlog: {{fields: {{service: registry}}}}\nstorage:\n  cache: {{blobdescriptor: inmemory}}\n  \
                     filesystem: {{rootdirectory: '{}'}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{listen}'}}\n",
                    data.display()
                );
                fs::write(&settings, text)?;
                command.arg("serve").arg(settings);
            }
        }
        Ok(command)
    }
}

/// A registry that runs, and a thread that watches its memory.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    memory: Arc<Memory>,
    watching: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Memory {
    peak: AtomicU64,
    over: AtomicBool,
}

impl Server {
    pub(crate) fn start(kind: Kind, program: &Path, directory: &Path) -> Result<Self> {
        let [address, admin] = free_addresses()?;
        let mut command = kind.command(program, directory, address, admin)?;
        let mut process = Process::start(kind.name(), &mut command, directory)?;
        let waited = wait_until(kind.name(), START_LIMIT, || {
            ensure!(process.ended()?.is_none(), "{} ended at its start", kind.name());
            Ok(TcpStream::connect(address).is_ok())
        });
        waited.with_context(|| process.log_tail())?;
        let memory = Arc::new(Memory::default());
        let (watched, status) = (Arc::clone(&memory), format!("/proc/{}/status", process.id()));
        let watching = thread::spawn(move || {
            while !watched.over.load(Ordering::Relaxed) {
                if let Some(now) = anonymous_memory(&status) {
                    watched.peak.fetch_max(now, Ordering::Relaxed);
                }
                thread::sleep(SAMPLE);
            }
        });
        Ok(Self { process, address, memory, watching: Some(watching) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Seconds of processor time of all its threads so far.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(self.process.id())
    }

    /// The most anonymous memory, in bytes, since this was last asked.
    pub(crate) fn take_peak_memory(&self) -> u64 {
        self.memory.peak.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.wait(STOP_LIMIT).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.memory.over.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            let _ = watching.join();
        }
    }
}

fn anonymous_memory(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
