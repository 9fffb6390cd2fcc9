//! A network in this machine: hosts as network namespaces, each with a link of its own to one switch.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::run;

const LIMIT: Duration = Duration::from_secs(20);

/// Networks that this process has made, for their names.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Hosts behind one switch. Nothing leaves it; dropping it removes it. Needs root.
#[derive(Debug)]
pub struct Network {
    name: String,
    rate: Option<String>,
    hosts: Vec<Host>,
}

/// The state of a host's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// It carries what it can, both ways.
    Up,
    /// Unplugged: the host sees it.
    Down,
    /// What the host sends is lost, and nobody is told.
    Mute,
    /// What is sent to the host is lost, and nobody is told.
    Deaf,
}

/// A host: its own interfaces, addresses and ports.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    address: Ipv4Addr,
}

impl Network {
    /// So many hosts whose links carry so much each way, in the words of `tc`, such as `1gbit`; without a rate, what the
    /// machine can.
    ///
    /// # Errors
    /// Without root, or where the system has no network namespaces.
    pub fn new(hosts: usize, rate: Option<&str>) -> Result<Self> {
        ensure!((1..=200).contains(&hosts), "a network has 1 to 200 hosts");
        let name = format!("speedy{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // From here on dropping it removes what was made.
        let mut network = Self { name, rate: rate.map(str::to_owned), hosts: Vec::new() };
        let switch = network.name.clone();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "dev", "bridge", "up"])?;
        for number in 1..=hosts {
            let address = Ipv4Addr::new(10, 77, 0, u8::try_from(number)?);
            let namespace = format!("{}-{number}", network.name);
            ip(&["netns", "add", &namespace])?;
            let host = Host { namespace: namespace.clone(), address };
            network.hosts.push(host.clone());
            let port = format!("port{number}");
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])?;
            ip(&["-n", &switch, "link", "set", "dev", &port, "master", "bridge", "up"])?;
            ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "dev", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "dev", "lo", "up"])?;
            // The congestion control that Linux usually has, whatever this machine has set: one that paces each connection
            // sends those of a hundred clients in tiny packets, which takes more than one machine has processors for.
            let (subnet, source) = ("10.77.0.0/24", address.to_string());
            let route = ["route", "replace", subnet, "dev", "eth0", "proto", "kernel", "scope", "link"];
            ip(&[&["-n", &namespace][..], &route, &["src", &source, "congctl", "cubic"]].concat())?;
            network.shape(&host, Link::Up)?;
        }
        Ok(network)
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Breaks the link of a host, or mends it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn set_link(&self, host: &Host, link: Link) -> Result<()> {
        let state = if link == Link::Down { "down" } else { "up" };
        ip(&["-n", &self.name, "link", "set", "dev", &host.port(), state])?;
        self.shape(host, link)
    }

    /// What the host may send, and what is sent to it: each end of its link limits or drops what it sends.
    fn shape(&self, host: &Host, link: Link) -> Result<()> {
        let limit = self.rate.as_ref().map(|rate| ["tbf", "rate", rate, "burst", "512kb", "latency", "20ms"]);
        let usual: &[&str] = limit.as_ref().map_or(&["noqueue"], |limit| limit);
        let ends = [(&host.namespace, "eth0".to_owned(), Link::Mute), (&self.name, host.port(), Link::Deaf)];
        for (namespace, device, drops) in ends {
            let tc = ["netns", "exec", namespace, "tc", "qdisc", "replace", "dev", &device, "root"];
            let queue: &[&str] = if link == drops { &["blackhole"] } else { usual };
            ip(&[&tc[..], queue].concat())?;
        }
        Ok(())
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
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Moves the calling thread there, for good: sockets that it and the threads that it starts open from now on are
    /// the host's.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn enter(&self) -> Result<()> {
        let namespace = Path::new("/run/netns").join(&self.namespace);
        let file = File::open(&namespace).with_context(|| format!("opening {}", namespace.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering {}", namespace.display()))
    }

    /// Runs `work` there, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// Those of [`Host::enter`] and of `work`.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let done = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The switch's end of its link.
    fn port(&self) -> String {
        format!("port{}", self.address.octets()[3])
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
