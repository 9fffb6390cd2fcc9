//! One round of one setup: a new cluster, pushes, pulls, and bare connections over the same links.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use speedy_benches::processor_seconds;
use speedy_e2e::Host;

use crate::client::{Clients, Way};
use crate::cluster::{Cluster, Shape};
use crate::raw;

/// As many bytes go over bare connections at the most: a second a link shows what it carries.
const RAW_LIMIT: usize = 2 << 30;

/// What the clients of each registry do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) blobs: usize,
    /// Bytes of each.
    pub(crate) length: usize,
    pub(crate) at_once: usize,
}

impl Load {
    fn bytes(&self) -> usize {
        self.blobs * self.length
    }
}

/// A cluster and what it is asked to do.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) shape: Shape,
    pub(crate) load: Load,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { blobs, length, at_once } = self.load;
        if self.shape.fronts > 1 {
            write!(f, "{} groups and image nodes, each ", self.shape.fronts)?;
        }
        write!(f, "{blobs} × {} MiB by {at_once} clients", length >> 20)
    }
}

/// What one transfer of all blobs took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfer {
    /// MiB a second.
    pub(crate) rate: f64,
    /// Seconds of processor time for a GiB, by role, the clients among them.
    pub(crate) processor: Vec<(&'static str, f64)>,
    /// Bytes that left and reached each host, for each byte pushed or pulled.
    pub(crate) links: Vec<(String, f64, f64)>,
}

/// One round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) push: Transfer,
    pub(crate) pull: Transfer,
    /// MiB a second of bare connections, the way of a push and the way of a pull.
    pub(crate) raw: [f64; 2],
}

/// All rounds of one setup and one program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(pub(crate) Vec<Round>);

impl Figures {
    pub(crate) fn add(&mut self, round: Round) {
        self.0.push(round);
    }
}

pub(crate) fn measure(setup: &Setup, program: &Path) -> Result<Round> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&setup.shape, program, directory.path())?;
    let transfer = |way| {
        transfer(&cluster, setup.load, way).with_context(|| format!("{setup}\n{}", cluster.log_tails()))
    };
    let push = transfer(Way::Push)?;
    let pull = transfer(Way::Pull)?;
    let bytes = setup.load.bytes().min(RAW_LIMIT);
    let up: Vec<(Host, Host)> =
        cluster.fronts().map(|(client, front, _)| (client.clone(), front.clone())).collect();
    let down: Vec<(Host, Host)> = up.iter().cloned().map(|(client, front)| (front, client)).collect();
    let raw = |pairs: &[_]| {
        let seconds = raw::seconds(pairs, bytes, setup.load.at_once)?;
        anyhow::Ok(mebibytes(bytes * pairs.len()) / seconds)
    };
    Ok(Round { push, pull, raw: [raw(&up)?, raw(&down)?] })
}

/// Has all clients push or pull all blobs.
fn transfer(cluster: &Cluster, load: Load, way: Way) -> Result<Transfer> {
    let mut clients = cluster
        .fronts()
        .enumerate()
        .map(|(number, (host, _, registry))| Clients::start(host, way, &registry, number * load.blobs, load))
        .collect::<Result<Vec<_>>>()?;
    let bytes = load.bytes() * clients.len();
    let taken = |clients: &[Clients]| {
        let theirs = clients.iter().map(|clients| processor_seconds(clients.id())).sum::<Result<f64>>()?;
        let mut taken = vec![("clients", theirs)];
        taken.extend(cluster.processor_seconds()?);
        anyhow::Ok(taken)
    };
    let hosts = cluster.hosts();
    let carried = || hosts.iter().map(|(_, host)| carried(host)).collect::<Result<Vec<_>>>();
    let (processor, links) = (taken(&clients)?, carried()?);
    let began = Instant::now();
    clients.iter_mut().try_for_each(Clients::go)?;
    clients.iter_mut().try_for_each(Clients::done)?;
    let seconds = began.elapsed().as_secs_f64();
    let (processor_after, links_after) = (taken(&clients)?, carried()?);
    let share = |after: u64, before: u64| (after - before) as f64 / bytes as f64;
    Ok(Transfer {
        rate: mebibytes(bytes) / seconds,
        processor: processor_after
            .iter()
            .zip(processor)
            .map(|(&(role, after), (_, before))| (role, (after - before) / (mebibytes(bytes) / 1024.0)))
            .collect(),
        links: hosts
            .iter()
            .zip(links_after)
            .zip(links)
            .map(|(((name, _), after), before)| {
                (name.clone(), share(after.0, before.0), share(after.1, before.1))
            })
            .collect(),
    })
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

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
