//! The clients of one registry: a process of its own, on their host.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use speedy_benches::blobs::{Blob, Blobs};
use speedy_benches::client::Connection;
use speedy_e2e::Host;

use crate::measure::Load;

const START_LIMIT: Duration = Duration::from_secs(60);
const REPOSITORY: &str = "bench/large";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Push,
    Pull,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

/// A process of clients that are connected and wait for the word.
#[derive(Debug)]
pub(crate) struct Clients {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Clients {
    /// Starts them and waits until they are ready.
    pub(crate) fn start(host: &Host, way: Way, registry: &str, first: usize, load: Load) -> Result<Self> {
        let mut command = host.command(&std::env::current_exe()?);
        let numbers = [first, load.blobs, load.length >> 20, load.at_once].map(|number| number.to_string());
        command.args(["client", way.name(), registry]).args(numbers);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting clients")?;
        let input = child.stdin.take().context("clients without an input")?;
        let output = BufReader::new(child.stdout.take().context("clients without an output")?);
        let mut clients = Self { child, input, output };
        clients.expect("ready")?;
        Ok(clients)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets them begin.
    pub(crate) fn go(&mut self) -> Result<()> {
        Ok(writeln!(self.input, "go")?)
    }

    /// Waits until they are done with their work.
    pub(crate) fn done(&mut self) -> Result<()> {
        self.expect("done")
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.trim() == word, "the clients ended before they said {word}; their error is above");
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // One that waits for the next word ends with its input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes or pulls, once it is told to. Ends with its input.
pub(crate) async fn run(
    way: Way,
    registry: SocketAddr,
    numbers: Range<usize>,
    bytes: usize,
    at_once: usize,
) -> Result<()> {
    ensure!(registry.ip() != Ipv4Addr::LOCALHOST, "the registry is on another host");
    let blobs = Blobs::alike(REPOSITORY, numbers.end, bytes, at_once);
    wait_ready(registry).await?;
    let mut connections = Vec::new();
    for _ in 0..at_once {
        connections.push(Connection::open(registry).await?);
    }
    say("ready")?;
    let mut lines = std::io::stdin().lines();
    ensure!(lines.next().transpose()?.is_some(), "the benchmark ended");
    let mine = &blobs.blobs[numbers];
    let clients = connections.into_iter().enumerate().map(|(number, mut connection)| async move {
        for blob in mine.iter().skip(number).step_by(at_once) {
            match way {
                Way::Push => connection.push(REPOSITORY, blob).await?,
                Way::Pull => connection.pull(REPOSITORY, blob).await?,
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(clients).await?;
    say("done")?;
    // Until its processor time has been read.
    lines.next().transpose()?;
    Ok(())
}

fn say(word: &str) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{word}")?;
    Ok(output.flush()?)
}

/// Waits until the cluster takes a blob.
async fn wait_ready(registry: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let probe = Blob::of(b"is anybody there?".to_vec());
    loop {
        let pushed = async { Connection::open(registry).await?.push("bench/probe", &probe).await };
        match pushed.await {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > START_LIMIT => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
