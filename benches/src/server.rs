//! A registry as a process, and what it costs.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use speedy_e2e::{Process, free_addresses, wait_until};

use crate::processor_seconds;

const START_LIMIT: Duration = Duration::from_secs(600);
const STOP_LIMIT: Duration = Duration::from_secs(600);

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

/// A registry that runs, and a thread that watches its memory.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    started: Duration,
    memory: Arc<Memory>,
    watching: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Memory {
    peak: AtomicU64,
    over: AtomicBool,
}

impl Server {
    /// Starts a program that serves at `address`, and waits until it does. Its log goes into `directory`.
    ///
    /// # Errors
    /// Where it ends, or does not listen in time.
    pub fn start(name: &str, command: &mut Command, address: SocketAddr, directory: &Path) -> Result<Self> {
        let began = Instant::now();
        let mut process = Process::start(name, command, directory)?;
        let waited = wait_until(name, START_LIMIT, || {
            ensure!(process.ended()?.is_none(), "{name} ended at its start");
            Ok(TcpStream::connect(address).is_ok())
        });
        waited.with_context(|| process.log_tail())?;
        let started = began.elapsed();
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
        Ok(Self { process, address, started, memory, watching: Some(watching) })
    }

    /// Starts `speedy serve` with its defaults over `directory`/data.
    ///
    /// # Errors
    /// Where it ends, or does not listen in time.
    pub fn speedy(program: &Path, directory: &Path) -> Result<Self> {
        let [address, admin] = free_addresses()?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(directory.join("data"));
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        Self::start("speedy", &mut command, address, directory)
    }

    /// How long it took until it listened.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Seconds of processor time of all its threads so far.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(self.process.id())
    }

    /// The most anonymous memory, in bytes, since this was last asked.
    pub fn take_peak_memory(&self) -> u64 {
        self.memory.peak.swap(0, Ordering::Relaxed)
    }

    /// Bytes of anonymous memory now.
    pub fn memory(&self) -> u64 {
        anonymous_memory(&format!("/proc/{}/status", self.process.id())).unwrap_or_default()
    }

    /// Ends it as an operator does, and waits until it has.
    ///
    /// # Errors
    /// Where it does not end in time, or not well.
    pub fn stop(&mut self) -> Result<()> {
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
