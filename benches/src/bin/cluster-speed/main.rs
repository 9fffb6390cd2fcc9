//! How fast is a cluster whose links are the bottleneck? Image node and registry on one host, three chunk nodes on three, the
//! master and the meta node on one, and the clients on another: network namespaces of this machine, joined by links of a
//! set rate. Needs root.
//!
//! The clients push blobs, each of which is stored three times, and pull them; then the same number of bytes goes over the
//! same links by bare connections. The links' own counters show who sent what. With `--beside` another release's program takes turns with this one. Each figure is the median of all
//! rounds, with the least and the greatest beside it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
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
    /// Blobs that are pushed and pulled.
    #[arg(long, default_value_t = 48)]
    blobs: usize,
    /// MiB of each.
    #[arg(long, default_value_t = 16)]
    megabytes: usize,
    /// How many of them at a time.
    #[arg(long, default_value_t = 10)]
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
    Client { way: Way, registry: SocketAddr, blobs: usize, megabytes: usize, at_once: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Push,
    Pull,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(60);
const RUN_LIMIT: Duration = Duration::from_secs(1800);
const MIB: f64 = (1 << 20) as f64;

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Client { way, registry, blobs, megabytes, at_once }) = options.role {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(client(way, registry, blobs, megabytes << 20, at_once));
    }
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let speedy = options.speedy.clone().map_or_else(speedy_e2e::speedy, Ok)?;
    let programs: Vec<PathBuf> = std::iter::once(speedy)
        .chain(options.beside.clone())
        // Each runs in a directory of its own.
        .map(|program| program.canonicalize().with_context(|| format!("looking for {}", program.display())))
        .collect::<Result<_>>()?;
    let mut figures = vec![Figures::default(); programs.len()];
    for round in 0..options.rounds {
        for turn in 0..programs.len() {
            let which = (turn + round) % programs.len();
            eprintln!("round {} of {}: {}", round + 1, options.rounds, programs[which].display());
            figures[which].add(measure(&options, &programs[which])?);
        }
    }
    println!("| program | | MiB/s | raw TCP, MiB/s | of raw TCP |");
    println!("| --- | --- | ---: | ---: | ---: |");
    for (program, figures) in programs.iter().zip(&figures) {
        let [push, pull, raw_up, raw_down] = &figures.rates;
        for (name, rates, raw) in [("push", push, raw_up), ("pull", pull, raw_down)] {
            let (rates, raw) = (Spread::of(rates.clone()), Spread::of(raw.clone()));
            println!(
                "| {} | {name} | {} | {} | {:.0}% |",
                program.display(),
                rates.text(),
                raw.text(),
                100.0 * rates.median / raw.median
            );
        }
    }
    println!("\nBytes that left and reached each host for each byte that was pushed, the last round:\n");
    println!("| program | host | out | in |");
    println!("| --- | --- | ---: | ---: |");
    for (program, figures) in programs.iter().zip(&figures) {
        for (host, sent, received) in &figures.links {
            println!("| {} | {host} | {sent:.3} | {received:.3} |", program.display());
        }
    }
    println!(
        "\n{} blobs of {} MiB, {} at a time; every link carries {} each way. Median of {} rounds (least–greatest).",
        options.blobs, options.megabytes, options.at_once, options.rate, options.rounds
    );
    println!("Machine: {}.", machine());
    Ok(())
}

/// What was measured of one program.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// MiB a second: of pushes, of pulls, and of bare connections the same ways.
    rates: [Vec<f64>; 4],
    /// Bytes out of and into each host for each byte pushed, in the last round.
    links: Vec<(&'static str, f64, f64)>,
}

impl Figures {
    fn add(&mut self, (rates, links): Round) {
        for (all, rate) in self.rates.iter_mut().zip(rates) {
            all.push(rate);
        }
        self.links = links;
    }
}

type Round = ([f64; 4], Vec<(&'static str, f64, f64)>);

/// One cluster: pushes, pulls, and bare connections over the same links.
fn measure(options: &Options, program: &Path) -> Result<Round> {
    let network = Network::new(6, &options.rate)?;
    let directory = tempfile::tempdir()?;
    let [control, chunks @ .., front, client] = network.hosts() else { unreachable!() };
    let mut processes = vec![
        start(program, control, "meta", 8098, &["--data-dir", "meta"], directory.path())?,
        start(program, control, "master", 8099, &["--meta", &at(control, 8098)], directory.path())?,
    ];
    let master = at(control, 8099);
    for (number, host) in chunks.iter().enumerate() {
        let data = format!("chunk-{number}");
        let arguments = ["--data-dir", &data, "--master", &master, "--group", "1"];
        processes.push(start(program, host, "chunk", 7654, &arguments, directory.path())?);
    }
    let nodes = ["--master", &master, "--meta", &at(control, 8098)];
    processes.push(start(program, front, "image", 6788, &nodes, directory.path())?);
    let peers = ["--image", &at(front, 6788), "--meta", &at(control, 8098)];
    processes.push(start(program, front, "registry", 5000, &peers, directory.path())?);
    let total = (options.blobs * options.megabytes) << 20;
    let transfer = |way: Way| -> Result<f64> {
        let mut command = client.command(&std::env::current_exe()?);
        let numbers = [options.blobs, options.megabytes, options.at_once].map(|number| number.to_string());
        command.args(["client", way.name(), &at(front, 5000)]).args(numbers);
        let printed = run(&mut command, RUN_LIMIT)
            .with_context(|| processes.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n"))?;
        Ok(total as f64 / MIB / printed.trim().parse::<f64>()?)
    };
    let hosts = [
        ("client", client),
        ("front", front),
        ("chunk 1", &chunks[0]),
        ("chunk 2", &chunks[1]),
        ("chunk 3", &chunks[2]),
    ];
    let before = hosts.map(|(_, host)| carried(host));
    let push = transfer(Way::Push)?;
    let mut links = Vec::new();
    for ((name, host), before) in hosts.into_iter().zip(before) {
        let ((sent, received), (sent_before, received_before)) = (carried(host)?, before?);
        let share = |bytes: u64| bytes as f64 / total as f64;
        links.push((name, share(sent - sent_before), share(received - received_before)));
    }
    let pull = transfer(Way::Pull)?;
    let up = total as f64 / MIB / raw(client, front, total, options.at_once)?;
    let down = total as f64 / MIB / raw(front, client, total, options.at_once)?;
    Ok(([push, pull, up, down], links))
}

/// Bytes that left and reached a host over its link so far.
fn carried(host: &Host) -> Result<(u64, u64)> {
    host.run(|| {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = table.lines().skip(2).find(|line| !line.trim_start().starts_with("lo:"));
        let (_, numbers) = line.and_then(|line| line.split_once(':')).context("the host has no link")?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok((numbers[8], numbers[0]))
    })
}

/// Seconds that so many bytes take from one host to another over bare connections.
fn raw(from: &Host, to: &Host, bytes: usize, connections: usize) -> Result<f64> {
    let address = SocketAddr::from((to.address(), 9));
    let listener = to.run(|| Ok(TcpListener::bind(address)?))?;
    let each = bytes / connections;
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| -> Result<()> {
            let streams: Vec<TcpStream> =
                (0..connections).map(|_| Ok(listener.accept()?.0)).collect::<Result<_>>()?;
            std::thread::scope(|scope| {
                let drain = |mut stream: TcpStream| std::io::copy(&mut stream, &mut std::io::sink());
                let drains: Vec<_> =
                    streams.into_iter().map(|stream| scope.spawn(move || drain(stream))).collect();
                drains.into_iter().try_for_each(|drain| drain.join().expect("no panic").map(drop))
            })?;
            Ok(())
        });
        let connect =
            || (0..connections).map(|_| Ok(TcpStream::connect(address)?)).collect::<Result<Vec<TcpStream>>>();
        let streams = from.run(connect)?;
        let began = Instant::now();
        std::thread::scope(|scope| {
            let send = |mut stream: TcpStream| {
                let piece = vec![7; 1 << 20];
                (0..each >> 20).try_for_each(|_| stream.write_all(&piece))
            };
            let sends: Vec<_> = streams.into_iter().map(|stream| scope.spawn(move || send(stream))).collect();
            sends.into_iter().try_for_each(|send| send.join().expect("no panic"))
        })?;
        sink.join().expect("no panic")?;
        Ok(began.elapsed().as_secs_f64())
    })
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

/// Pushes or pulls, and prints how many seconds that took.
async fn client(way: Way, registry: SocketAddr, count: usize, bytes: usize, at_once: usize) -> Result<()> {
    ensure!(registry.ip() != Ipv4Addr::LOCALHOST, "the registry is on another host");
    let blobs = Blobs::make("bench/large", count, bytes, at_once);
    wait_ready(registry).await?;
    let began = Instant::now();
    let mut clients = Vec::new();
    for number in 0..at_once {
        let mine: Vec<_> = blobs.blobs.iter().skip(number).step_by(at_once).cloned().collect();
        clients.push(async move {
            let mut connection = Connection::open(registry).await?;
            for blob in &mine {
                match way {
                    Way::Push => connection.push("bench/large", blob).await?,
                    Way::Pull => connection.pull("bench/large", blob).await?,
                }
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    futures_util::future::try_join_all(clients).await?;
    println!("{}", began.elapsed().as_secs_f64());
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
