//! Everything in one process.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::deployment::Deployment;
use crate::node::Node;
use crate::ports::free_addresses;

/// `speedy serve` on a directory of its own.
#[derive(Debug)]
pub struct Single {
    /// The process.
    pub node: Node,
}

impl Deployment for Single {
    const NAME: &'static str = "single";

    fn start(directory: &Path) -> Result<Self> {
        let [listen, admin] = free_addresses()?;
        let data = directory.join("data").display().to_string();
        let mut node = Node::new("serve", "serve", listen, admin, &["--data-dir", &data], directory);
        node.start()?;
        let single = Self { node };
        single.registry().wait_ready()?;
        Ok(single)
    }

    fn front(&self) -> SocketAddr {
        self.node.address()
    }

    fn admin(&self) -> SocketAddr {
        self.node.admin()
    }
}
