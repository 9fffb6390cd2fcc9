//! A cluster with each role on a host of its own, but for the registry, which shares the image node's.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use speedy_benches::processor_seconds;
use speedy_e2e::{Host, Network, Process};

/// Members of a group.
const REPLICAS: usize = 3;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) groups: usize,
    /// Image nodes, each with a registry on its host and a host of clients.
    pub(crate) fronts: usize,
    /// What each link carries each way; nothing for what the machine can.
    pub(crate) rate: Option<String>,
}

/// A running cluster. Dropping it ends its processes and removes its network.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Vec<(&'static str, Process)>,
    chunks: Vec<Host>,
    fronts: Vec<Host>,
    clients: Vec<Host>,
    /// Last, so that it outlives the processes.
    _network: Network,
}

impl Cluster {
    /// Starts one with its data in `directory`.
    pub(crate) fn start(shape: &Shape, program: &Path, directory: &Path) -> Result<Self> {
        let chunks = shape.groups * REPLICAS;
        let network = Network::new(1 + chunks + 2 * shape.fronts, shape.rate.as_deref())?;
        let hosts = network.hosts().to_vec();
        let (control, hosts) = hosts.split_first().context("a network without hosts")?;
        let (chunks, hosts) = hosts.split_at(chunks);
        let (fronts, clients) = hosts.split_at(shape.fronts);
        let [chunks, fronts, clients] = [chunks, fronts, clients].map(<[Host]>::to_vec);
        let mut cluster = Self { processes: Vec::new(), chunks, fronts, clients, _network: network };
        let mut start = |role: &'static str, host: &Host, port, arguments: &[&str]| {
            cluster.processes.push((role, start(program, host, role, port, arguments, directory)?));
            anyhow::Ok(())
        };
        let (meta, master) = (at(control, 8098), at(control, 8099));
        start("meta", control, 8098, &["--data-dir", "meta"])?;
        start("master", control, 8099, &["--meta", &meta])?;
        for (number, host) in cluster.chunks.iter().enumerate() {
            let (data, group) = (format!("chunk-{number}"), (number / REPLICAS + 1).to_string());
            start("chunk", host, 7654, &["--data-dir", &data, "--master", &master, "--group", &group])?;
        }
        for host in &cluster.fronts {
            start("image", host, 6788, &["--master", &master, "--meta", &meta])?;
            start("registry", host, 5000, &["--image", &at(host, 6788), "--meta", &meta])?;
        }
        Ok(cluster)
    }

    /// Each host of clients, with the host and the address of their registry.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = (&Host, &Host, String)> {
        self.clients.iter().zip(&self.fronts).map(|(client, front)| (client, front, at(front, 5000)))
    }

    /// The hosts on the way of the blobs, with their names.
    pub(crate) fn hosts(&self) -> Vec<(String, Host)> {
        [("clients", &self.clients), ("image node and registry", &self.fronts), ("chunk node", &self.chunks)]
            .into_iter()
            .flat_map(|(name, hosts)| {
                hosts.iter().zip(1..).map(move |(host, number)| (format!("{name} {number}"), host.clone()))
            })
            .collect()
    }

    /// Seconds of processor time that the processes of each role took so far, in the order of the way of a push.
    pub(crate) fn processor_seconds(&self) -> Result<Vec<(&'static str, f64)>> {
        ["registry", "image", "chunk", "meta", "master"]
            .into_iter()
            .map(|role| {
                let processes = self.processes.iter().filter(|(name, _)| *name == role);
                let seconds =
                    processes.map(|(_, process)| processor_seconds(process.id())).sum::<Result<f64>>()?;
                Ok((role, seconds))
            })
            .collect()
    }

    /// The ends of all logs, for an error.
    pub(crate) fn log_tails(&self) -> String {
        self.processes.iter().map(|(_, process)| process.log_tail()).collect::<Vec<_>>().join("\n")
    }
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
