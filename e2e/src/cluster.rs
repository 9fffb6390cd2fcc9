//! Seven processes: a master, a meta node, three chunk nodes, an image node and a registry.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::deployment::Deployment;
use crate::node::Node;
use crate::ports::free_addresses;

/// A cluster of one group on this machine.
#[derive(Debug)]
pub struct Cluster {
    /// The master.
    pub master: Node,
    /// The meta node.
    pub meta: Node,
    /// The chunk nodes of the one group.
    pub chunks: [Node; 3],
    /// The image node.
    pub image: Node,
    /// The HTTP front end.
    pub registry: Node,
    /// The data directory of the meta node.
    pub meta_data: PathBuf,
}

impl Cluster {
    fn nodes(&mut self) -> [&mut Node; 7] {
        let [one, two, three] = &mut self.chunks;
        [&mut self.master, &mut self.meta, one, two, three, &mut self.image, &mut self.registry]
    }
}

impl Deployment for Cluster {
    const NAME: &'static str = "cluster";

    fn start(directory: &Path) -> Result<Self> {
        let listen: [_; 7] = free_addresses()?;
        let admin: [_; 7] = free_addresses()?;
        // As the README has it.
        let [master, meta, _, _, _, image, _] = listen.map(|address| address.to_string());
        let data = |name: &str| directory.join(name).display().to_string();
        let node = |at: usize, name: &str, role: &str, arguments: &[&str]| {
            Node::new(name, role, listen[at], admin[at], arguments, directory)
        };
        let chunk = |at: usize, name: &str| {
            node(at, name, "chunk", &["--data-dir", &data(name), "--master", &master, "--group", "1"])
        };
        let mut cluster = Self {
            master: node(0, "master", "master", &["--meta", &meta]),
            meta: node(1, "meta", "meta", &["--data-dir", &data("meta")]),
            chunks: [chunk(2, "chunk-1"), chunk(3, "chunk-2"), chunk(4, "chunk-3")],
            image: node(5, "image", "image", &["--master", &master, "--meta", &meta]),
            registry: node(6, "registry", "registry", &["--image", &image, "--meta", &meta]),
            meta_data: directory.join("meta"),
        };
        // The front ends first and the master last: a role whose peer is not up yet waits for it.
        for node in cluster.nodes().into_iter().rev() {
            node.launch()?;
        }
        for node in cluster.nodes() {
            node.wait_ready()?;
        }
        cluster.registry().wait_ready()?;
        Ok(cluster)
    }

    fn front(&self) -> SocketAddr {
        self.registry.address()
    }

    fn admin(&self) -> SocketAddr {
        self.registry.admin()
    }
}
