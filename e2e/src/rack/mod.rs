//! A cluster of which every process has a host of its own, to break parts of it.

mod fault;
mod status;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use fault::Fault;

use crate::binary::speedy;
use crate::disk::SmallDisk;
use crate::network::{Host, Link, Network};
use crate::node::Node;
use crate::process::{Finished, Process, log_of, read_log, run, wait_until};
use status::Status;

/// What a link carries: far more than two processors can fill with verified bytes.
const RATE: &str = "2gbit";

/// Bytes of the disk of the first chunk node: what is not written to it takes no room.
const DISK: u64 = 16 << 30;

/// Nodes that make a group complete.
const REPLICAS: usize = 3;

/// Until when a cluster must be complete.
const COMPLETE_LIMIT: Duration = Duration::from_secs(90);

/// For how long the master has to say that it is: it takes a while to see that a node is gone.
const STEADY: Duration = Duration::from_secs(1);

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How long the move of a group's chunks may take.
const MOVE_LIMIT: Duration = Duration::from_secs(180);

/// Bytes a second of a move that is to be interrupted.
const SLOWLY: &str = "4MiB";

/// How often it is asked.
const ASK: Duration = Duration::from_millis(200);

/// A process of a [`Rack`]. Numbers begin at 1, as in its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The meta node.
    Meta,
    /// One of two masters.
    Master(usize),
    /// One of three chunk nodes a group; the first three are the first group.
    Chunk(usize),
    /// One of two image nodes.
    Image(usize),
    /// One of two registries.
    Registry(usize),
}

/// A meta node, two masters over it, groups of three chunk nodes, two image nodes, two registries, and a host for the
/// clients, all behind one switch. Needs root. Dropping it ends and removes everything.
///
/// The first chunk node keeps its chunks on a disk of its own, which can be filled.
#[derive(Debug)]
pub struct Rack {
    // Dropped in this order: what runs, what it runs on.
    moving: Option<Process>,
    nodes: Vec<(Place, Node)>,
    disk: SmallDisk,
    network: Network,
    directory: PathBuf,
    groups: usize,
}

impl Rack {
    /// Starts a cluster of so many groups with its data and logs in `directory`, and waits until it is complete.
    ///
    /// # Errors
    /// Without root, or when a process does not start; the logs in `directory` say why.
    pub fn start(directory: &Path, groups: usize) -> Result<Self> {
        ensure!((1..=9).contains(&groups), "a rack has 1 to 9 groups");
        let network = Network::new(places(groups).len() + 1, Some(RATE))?;
        let disk = SmallDisk::ext4(directory, DISK)?;
        std::os::unix::fs::symlink(disk.path(), data(directory, Place::Chunk(1)))?;
        let mut rack =
            Self { moving: None, nodes: Vec::new(), disk, network, directory: directory.to_owned(), groups };
        rack.nodes = places(groups).into_iter().map(|place| (place, rack.node_at(place))).collect();
        // The front ends first and the masters last: a role whose peer is not up yet waits for it.
        for (_, node) in rack.nodes.iter_mut().rev() {
            node.launch()?;
        }
        for (_, node) in &mut rack.nodes {
            node.wait_ready()?;
        }
        rack.wait_complete()?;
        Ok(rack)
    }

    /// How many groups it has.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The host that clients are on.
    pub fn clients(&self) -> &Host {
        self.network.hosts().last().expect("the last host is that of the clients")
    }

    /// The registries.
    pub fn registries(&self) -> [SocketAddr; 2] {
        [self.address(Place::Registry(1)), self.address(Place::Registry(2))]
    }

    /// All its processes.
    pub fn places(&self) -> Vec<Place> {
        places(self.groups)
    }

    /// A process.
    ///
    /// # Panics
    /// When the rack has no such place.
    pub fn node(&mut self, place: Place) -> &mut Node {
        let found = self.nodes.iter_mut().find(|(at, _)| *at == place);
        &mut found.unwrap_or_else(|| panic!("the rack has no {place}")).1
    }

    /// Where a chunk node or the meta node keeps its data.
    pub fn data(&self, place: Place) -> PathBuf {
        data(&self.directory, place)
    }

    /// Waits until the masters say that every group has all its members in sync, and go on saying so. Answers how
    /// long that took.
    ///
    /// # Errors
    /// When it never comes; the text has what the masters said last.
    pub fn wait_complete(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut since = None;
        let mut last = String::from("no master has answered");
        let waited = wait_until("all groups to be complete", COMPLETE_LIMIT, || {
            match self.status() {
                Ok(status) if status.is_complete(self.groups, REPLICAS) => {
                    since.get_or_insert_with(Instant::now);
                }
                Ok(status) => (since, last) = (None, status.to_string()),
                Err(error) => (since, last) = (None, format!("{error:#}")),
            }
            if since.is_some_and(|since: Instant| since.elapsed() >= STEADY) {
                return Ok(true);
            }
            std::thread::sleep(ASK);
            Ok(false)
        });
        waited.with_context(|| format!("the last that was said: {last}"))?;
        Ok(since.map_or(Duration::ZERO, |since| since - started))
    }

    /// Sees that every process runs.
    ///
    /// # Errors
    /// When one has ended by itself; the text has the end of its log.
    pub fn ensure_all_run(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|(_, node)| node.ensure_runs())
    }

    /// For each of the three chunk nodes of the groups in turn: calls `work` while the two others are dead. What it reads
    /// comes from this one. In the end two are still dead.
    ///
    /// # Errors
    /// When a node does not start again, the groups are not complete afterwards, or `work` fails.
    pub fn with_one_of_each_group(&mut self, mut work: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        for survivor in 1..=REPLICAS {
            let others: Vec<_> = (1..=self.groups * REPLICAS)
                .filter(|number| number % REPLICAS != survivor % REPLICAS)
                .map(Place::Chunk)
                .collect();
            for &place in &others {
                self.node(place).kill()?;
            }
            work(self).with_context(|| format!("with nothing of each group but its node {survivor}"))?;
            if survivor < REPLICAS {
                for &place in &others {
                    self.node(place).start()?;
                }
                self.wait_complete()?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<Status> {
        Status::ask(self.clients(), &self.masters())
    }

    fn masters(&self) -> String {
        list(&[self.address(Place::Master(1)), self.address(Place::Master(2))])
    }

    /// Tells the masters that the node which is known at this place does not come back.
    fn give_up_node(&self, place: Place) -> Result<()> {
        let node = self.status()?.node_at(&self.address(place).to_string())?;
        let mut command = self.clients().command(&speedy()?);
        run(command.args(["cluster", "replace", "--master", &self.masters(), &node]), COMMAND_LIMIT).map(drop)
    }

    /// Begins to move all chunks of the first group to the second, so slowly that there is time to break something.
    fn begin_move(&mut self) -> Result<()> {
        let mut command = self.move_command()?;
        self.moving = Some(Process::start("move", command.args(["--rate", SLOWLY]), &self.directory)?);
        Ok(())
    }

    /// Kills the move that goes on, and lets another one go on where it was, to its end.
    fn finish_move(&mut self) -> Result<()> {
        let mut moving = self.moving.take().context("nothing is moved")?;
        if moving.ended()?.is_none() {
            moving.kill()?;
        }
        run(&mut self.move_command()?, MOVE_LIMIT).context(moving.log_tail()).map(drop)
    }

    fn move_command(&self) -> Result<Command> {
        let mut command = self.clients().command(&speedy()?);
        let meta = self.address(Place::Meta).to_string();
        command.args(["cluster", "move", "--from", "1", "--to", "2", "--master", &self.masters()]);
        command.args(["--meta", &meta]);
        Ok(command)
    }

    /// All that a process has said.
    fn log(&self, place: Place) -> String {
        read_log(&log_of(&place.to_string(), &self.directory))
    }

    /// Has every byte of a chunk node's store verified, by itself or while it does not run: whether all is whole.
    fn is_sound(&self, place: Place, runs: bool) -> Result<bool> {
        let mut command = self.host(place).command(&speedy()?);
        command.args(["store", "check"]);
        match runs {
            true => command.args(["--admin", &admin(place).to_string()]),
            false => command.arg(self.data(place)),
        };
        let check = Finished::of(&mut command, COMMAND_LIMIT)?;
        match check.status.code() {
            Some(0) => Ok(true),
            // Damage.
            Some(3) => Ok(false),
            _ => bail!("speedy store check of {place}: {}\n{}{}", check.status, check.output, check.errors),
        }
    }

    /// How many chunks can be read in the store of a chunk node that does not run.
    fn readable_chunks(&self, place: Place) -> Result<u64> {
        let mut command = Command::new(speedy()?);
        let stats = run(command.args(["store", "stats", "--json"]).arg(self.data(place)), COMMAND_LIMIT)?;
        let stats: Value = serde_json::from_str(&stats)?;
        stats["chunks"].as_u64().context("speedy store stats does not say how many chunks there are")
    }

    fn host(&self, place: Place) -> &Host {
        let index = self.places().into_iter().position(|at| at == place);
        &self.network.hosts()[index.unwrap_or_else(|| panic!("the rack has no {place}"))]
    }

    fn set_link(&self, place: Place, link: Link) -> Result<()> {
        self.network.set_link(self.host(place), link)
    }

    fn address(&self, place: Place) -> SocketAddr {
        SocketAddr::from((self.host(place).address(), place.port()))
    }

    fn node_at(&self, place: Place) -> Node {
        let at = |places: &[Place]| list(&places.iter().map(|&at| self.address(at)).collect::<Vec<_>>());
        let (masters, meta) = (self.masters(), at(&[Place::Meta]));
        let images = at(&[Place::Image(1), Place::Image(2)]);
        let data = self.data(place).display().to_string();
        let arguments = match place {
            Place::Meta => vec!["--data-dir", &data],
            Place::Master(_) => vec!["--meta", &meta],
            Place::Chunk(_) => vec!["--data-dir", &data, "--master", &masters],
            Place::Image(_) => vec!["--master", &masters, "--meta", &meta],
            Place::Registry(_) => vec!["--image", &images, "--meta", &meta],
        };
        let mut arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        if let Place::Chunk(number) = place {
            arguments.extend(["--group".to_owned(), number.div_ceil(REPLICAS).to_string()]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Node::new(
            &place.to_string(),
            place.role(),
            self.address(place),
            admin(place),
            &arguments,
            &self.directory,
        )
        .on(self.host(place))
    }
}

impl Place {
    fn role(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Master(_) => "master",
            Self::Chunk(_) => "chunk",
            Self::Image(_) => "image",
            Self::Registry(_) => "registry",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Meta => 8098,
            Self::Master(_) => 8099,
            Self::Chunk(_) => 7654,
            Self::Image(_) => 6788,
            Self::Registry(_) => 5000,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Master(number) | Self::Chunk(number) | Self::Image(number) | Self::Registry(number) => {
                write!(f, "{}-{number}", self.role())
            }
        }
    }
}

/// In the order of their hosts.
fn places(groups: usize) -> Vec<Place> {
    let mut places = vec![Place::Meta, Place::Master(1), Place::Master(2)];
    places.extend((1..=groups * REPLICAS).map(Place::Chunk));
    places.extend([Place::Image(1), Place::Image(2), Place::Registry(1), Place::Registry(2)]);
    places
}

fn data(directory: &Path, place: Place) -> PathBuf {
    directory.join(place.to_string())
}

/// On its host.
fn admin(place: Place) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], place.port() + 10_000))
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Empties a directory.
fn empty(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            bail!("removing {}: {error}", path.display());
        }
    }
    Ok(())
}
