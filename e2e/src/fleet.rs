//! A cluster in which every stateless role runs twice, and the master too.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::deployment::Deployment;
use crate::node::Node;
use crate::ports::free_addresses;
use crate::registry::Registry;

/// Two masters over one meta node, three chunk nodes, two image nodes and two registries on this machine.
#[derive(Debug)]
pub struct Fleet {
    /// The masters, in the order in which everyone names them.
    pub masters: [Node; 2],
    /// The meta node.
    pub meta: Node,
    /// The chunk nodes of the one group.
    pub chunks: [Node; 3],
    /// The image nodes.
    pub images: [Node; 2],
    /// The HTTP front ends.
    pub registries: [Node; 2],
}

impl Fleet {
    /// The registries as clients see them.
    pub fn fronts(&self) -> Vec<Registry> {
        self.registries.iter().map(|node| Registry::at(node.address())).collect()
    }

    fn nodes(&mut self) -> Vec<&mut Node> {
        let Self { masters, meta, chunks, images, registries } = self;
        let below = masters.iter_mut().chain([meta]).chain(chunks);
        below.chain(images).chain(registries).collect()
    }
}

impl Deployment for Fleet {
    const NAME: &'static str = "fleet";

    fn start(directory: &Path) -> Result<Self> {
        let listen: [_; 10] = free_addresses()?;
        let admin: [_; 10] = free_addresses()?;
        let list = |of: &[SocketAddr]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (masters, meta, images) = (list(&listen[..2]), list(&listen[2..3]), list(&listen[6..8]));
        let node = |at: usize, name: &str, role: &str, arguments: &[&str]| {
            let mut node = Node::new(name, role, listen[at], admin[at], arguments, directory);
            node.set("SPEEDY_LOG", "debug,h2=info,hyper=info,tower=info,hyper_util=info");
            node
        };
        let chunk = |at: usize, name: &str| {
            let data = directory.join(name).display().to_string();
            node(at, name, "chunk", &["--data-dir", &data, "--master", &masters, "--group", "1"])
        };
        let master = |at: usize, name: &str| node(at, name, "master", &["--meta", &meta]);
        let image = |at: usize, name: &str| node(at, name, "image", &["--master", &masters, "--meta", &meta]);
        let registry =
            |at: usize, name: &str| node(at, name, "registry", &["--image", &images, "--meta", &meta]);
        let data = directory.join("meta").display().to_string();
        let mut fleet = Self {
            masters: [master(0, "master-1"), master(1, "master-2")],
            meta: node(2, "meta", "meta", &["--data-dir", &data]),
            chunks: [chunk(3, "chunk-1"), chunk(4, "chunk-2"), chunk(5, "chunk-3")],
            images: [image(6, "image-1"), image(7, "image-2")],
            registries: [registry(8, "registry-1"), registry(9, "registry-2")],
        };
        for node in fleet.nodes().into_iter().rev() {
            node.launch()?;
        }
        for node in fleet.nodes() {
            node.wait_ready()?;
        }
        for front in fleet.fronts() {
            front.wait_ready()?;
        }
        Ok(fleet)
    }

    fn front(&self) -> SocketAddr {
        self.registries[0].address()
    }

    fn admin(&self) -> SocketAddr {
        self.registries[0].admin()
    }
}
