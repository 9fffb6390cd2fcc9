//! A network in this machine: hosts as network namespaces, each with a link of its own to one switch.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::run;

const LIMIT: Duration = Duration::from_secs(20);

/// Networks that this process has made, for their names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Hosts behind one switch. Nothing leaves it; dropping it removes it. Needs root.
#[derive(Debug)]
pub struct Network {
    name: String,
    hosts: Vec<Host>,
}

/// A host: its own interfaces, addresses and ports.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    address: Ipv4Addr,
}

impl Network {
    /// Hosts of these names whose links carry so much each way, in the words of `tc`, such as `1gbit`.
    ///
    /// # Errors
    /// Without root, or where the system has no network namespaces.
    pub fn new(hosts: usize, rate: &str) -> Result<Self> {
        ensure!((1..=200).contains(&hosts), "a network has 1 to 200 hosts");
        let name = format!("speedy{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // From here on dropping it removes what was made.
        let mut network = Self { name, hosts: Vec::new() };
        let switch = network.name.clone();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "dev", "bridge", "up"])?;
        for number in 1..=hosts {
            let address = Ipv4Addr::new(10, 77, 0, u8::try_from(number)?);
            let namespace = format!("{}-{number}", network.name);
            ip(&["netns", "add", &namespace])?;
            network.hosts.push(Host { namespace: namespace.clone(), address });
            let port = format!("port{number}");
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])?;
            ip(&["-n", &switch, "link", "set", "dev", &port, "master", "bridge", "up"])?;
            ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "dev", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "dev", "lo", "up"])?;
            // What the host sends, and what is sent to it.
            for (namespace, device) in [(&namespace, "eth0"), (&switch, port.as_str())] {
                let shape = ["root", "tbf", "rate", rate, "burst", "512kb", "latency", "20ms"];
                let tc = ["netns", "exec", namespace, "tc", "qdisc", "add", "dev", device];
                ip(&[&tc[..], &shape].concat())?;
            }
        }
        Ok(network)
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Takes the link of a host down, or up again.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn connect(&self, host: &Host, up: bool) -> Result<()> {
        let number = host.address.octets()[3];
        ip(&[
            "-n",
            &self.name,
            "link",
            "set",
            "dev",
            &format!("port{number}"),
            if up { "up" } else { "down" },
        ])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "delete", &host.namespace]);
        }
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

impl Host {
    /// Its address in the network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command that runs there. Its process is the program itself, so its process id ends it.
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments), LIMIT)
        .with_context(|| {
            format!(
                "ip {} (network namespaces need root, and the Debian package iproute2)",
                arguments.join(" ")
            )
        })
        .map(drop)
}
