//! How fast is a cluster whose links are the bottleneck? Seven roles and a client, each on a host of its own: network
//! namespaces of this machine, joined by links of a set rate. Needs root.
//!
//! The client pushes blobs to the registry, which splits them; an image node has each chunk written three times; then it
//! pulls them. With `--beside` another release's program takes turns with this one. Each figure is the median of all
//! rounds, with the least and the greatest beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use speedy_benches::blobs::Blobs;
use speedy_benches::client::Connection;
use speedy_benches::{Spread, machine};
use speedy_e2e::{Host, Network, Process, run};

/// Measures pushes and pulls of a cluster over links of a set rate.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What each link carries each way, in the words of tc.
    #[arg(long, default_value = "1gbit")]
    rate: String,
    /// Blobs of 64 MiB that are pushed and pulled.
    #[arg(long, default_value_t = 12)]
    blobs: usize,
    /// How many of them at a time.
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// The speedy program. Default: the one of this workspace, built now.
    #[arg(long, value_name = "PATH")]
    speedy: Option<PathBuf>,
    /// Another release's program, to take turns with.
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The client, on its host: started by the benchmark itself
    #[command(hide = true)]
    Client { registry: SocketAddr, blobs: usize, at_once: usize },
}

const BLOB: usize = 64 << 20;
const START_LIMIT: Duration = Duration::from_secs(60);
const RUN_LIMIT: Duration = Duration::from_secs(1800);
const MIB: f64 = (1 << 20) as f64;

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Client { registry, blobs, at_once }) = options.role {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(client(registry, blobs, at_once));
    }
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let speedy = options.speedy.clone().map_or_else(speedy_e2e::speedy, Ok)?;
    let programs: Vec<PathBuf> = std::iter::once(speedy).chain(options.beside.clone()).collect();
    let mut figures = vec![(Vec::new(), Vec::new()); programs.len()];
    for round in 0..options.rounds {
        for turn in 0..programs.len() {
            let which = (turn + round) % programs.len();
            eprintln!("round {} of {}: {}", round + 1, options.rounds, programs[which].display());
            let (push, pull) = measure(&options, &programs[which])?;
            figures[which].0.push(push);
            figures[which].1.push(pull);
        }
    }
    println!("| program | push, MiB/s | pull, MiB/s |");
    println!("| --- | ---: | ---: |");
    for (program, (push, pull)) in programs.iter().zip(figures) {
        println!("| {} | {} | {} |", program.display(), Spread::of(push).text(), Spread::of(pull).text());
    }
    println!(
        "\n{} blobs of 64 MiB, {} at a time; every link carries {} each way. Median of {} rounds (least–greatest).",
        options.blobs, options.at_once, options.rate, options.rounds
    );
    println!("Machine: {}.", machine());
    Ok(())
}

/// MiB a second of pushes and of pulls.
fn measure(options: &Options, program: &Path) -> Result<(f64, f64)> {
    let network = Network::new(8, &options.rate)?;
    let directory = tempfile::tempdir()?;
    let [control, meta, chunks @ .., image, registry, client] = network.hosts() else { unreachable!() };
    let mut processes = vec![
        start(program, meta, "meta", 8098, &["--data-dir", "meta"], directory.path())?,
        start(program, control, "master", 8099, &["--meta", &at(meta, 8098)], directory.path())?,
    ];
    let master = at(control, 8099);
    for (number, host) in chunks.iter().enumerate() {
        let data = format!("chunk-{number}");
        let arguments = ["--data-dir", &data, "--master", &master, "--group", "1"];
        processes.push(start(program, host, "chunk", 7654, &arguments, directory.path())?);
    }
    let nodes = ["--master", &master, "--meta", &at(meta, 8098)];
    processes.push(start(program, image, "image", 6788, &nodes, directory.path())?);
    let peers = ["--image", &at(image, 6788), "--meta", &at(meta, 8098)];
    processes.push(start(program, registry, "registry", 5000, &peers, directory.path())?);
    let mut command = client.command(&std::env::current_exe()?);
    command.args(["client", &at(registry, 5000), &options.blobs.to_string(), &options.at_once.to_string()]);
    let printed = run(&mut command, RUN_LIMIT)
        .with_context(|| processes.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n"))?;
    let mut seconds = printed.split_whitespace().map(str::parse::<f64>);
    let mut rate = || -> Result<f64> {
        let seconds = seconds.next().context("the client printed too little")??;
        Ok((options.blobs * BLOB) as f64 / MIB / seconds)
    };
    Ok((rate()?, rate()?))
}

fn at(host: &Host, port: u16) -> String {
    format!("{}:{port}", host.address())
}

fn start(
    program: &Path,
    host: &Host,
    role: &str,
    port: u16,
    arguments: &[&str],
    directory: &Path,
) -> Result<Process> {
    let mut command: Command = host.command(program);
    command
        .current_dir(directory)
        .arg(role)
        .args(["--listen", &at(host, port), "--admin", "off"])
        .args(arguments);
    Process::start(&format!("{role}-{}", host.address()), &mut command, directory)
}

/// Pushes and pulls, and prints how many seconds each took.
async fn client(registry: SocketAddr, count: usize, at_once: usize) -> Result<()> {
    ensure!(registry.ip() != Ipv4Addr::LOCALHOST, "the registry is on another host");
    let blobs = Blobs::make("bench/large", count, BLOB, at_once);
    wait_ready(registry).await?;
    for is_push in [true, false] {
        let began = Instant::now();
        let mut clients = Vec::new();
        for number in 0..at_once {
            let mine: Vec<_> = blobs.blobs.iter().skip(number).step_by(at_once).cloned().collect();
            clients.push(async move {
                let mut connection = Connection::open(registry).await?;
                for blob in &mine {
                    match is_push {
                        true => connection.push("bench/large", blob).await?,
                        false => connection.pull("bench/large", blob).await?,
                    }
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        futures_util::future::try_join_all(clients).await?;
        println!("{}", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Waits until the cluster takes a blob.
async fn wait_ready(registry: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let probe = speedy_benches::blobs::Blob::of(b"is anybody there?".to_vec());
    loop {
        let pushed = async { Connection::open(registry).await?.push("bench/probe", &probe).await };
        match pushed.await {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > START_LIMIT => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
