//! The groups of a cluster as one of its masters tells of them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use speedy_core::placement::Master;
use speedy_services::address::HostPort;
use speedy_services::master::MasterClient;

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its id.
    pub id: u32,
    /// Its version.
    pub version: u64,
    /// Whether all its members are in sync.
    pub complete: bool,
}

/// The groups that the master at `address` knows.
///
/// # Errors
/// When it does not answer.
pub fn groups_of(address: SocketAddr) -> Result<Vec<Group>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = MasterClient::new(&HostPort::from(address).into());
        let topology = client.topology().await.with_context(|| format!("asking the master at {address}"))?;
        let group = |group: &speedy_core::placement::Group| Group {
            id: group.id.get(),
            version: group.version.get(),
            complete: group.is_complete(),
        };
        Ok(topology.groups.iter().map(group).collect())
    })
}
