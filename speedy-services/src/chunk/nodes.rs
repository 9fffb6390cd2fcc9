use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use speedy_core::id::NodeId;
use speedy_core::placement::Member;
use speedy_core::replicate::{ChunkNode, Nodes};

use super::ChunkClient;
use crate::address::HostPort;

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The chunk nodes that members of groups are, each with its connections, which are kept.
#[derive(Debug, Default)]
pub struct ChunkNodes {
    /// Each with the address that it was dialled at.
    known: Mutex<HashMap<NodeId, Known>>,
}

type Known = (String, Arc<dyn ChunkNode>);

impl ChunkNodes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Nodes for ChunkNodes {
    /// # Panics
    /// Outside a tokio runtime.
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode> {
        let mut known = self.known.lock();
        if let Some((address, node)) = known.get(&member.node)
            && *address == member.address
        {
            return Arc::clone(node);
        }
        // The master takes no address that is none. One that got there all the same leads to port 0, which no
        // connection reaches, so the node counts as away.
        let address = member.address.parse().unwrap_or_else(|_| HostPort::from(NOWHERE));
        let node: Arc<dyn ChunkNode> = Arc::new(ChunkClient::of(member.node, address));
        known.insert(member.node, (member.address.clone(), Arc::clone(&node)));
        node
    }
}
