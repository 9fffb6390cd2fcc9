//! The blobs of a cluster, for a command that reads or changes them.

use std::sync::Arc;
use std::time::Duration;

use speedy_core::blob::{BlobOptions, BlobStore};
use speedy_core::budget::Budget;
use speedy_core::placement::Master;
use speedy_core::replicate::{ReplicationClient, ReplicationOptions, Routes};
use tokio::time::Instant;

use crate::address::AddressList;
use crate::chunk::ChunkNodes;
use crate::master::MasterClient;
use crate::meta::MetaClient;

/// How often the groups are looked up.
const FOLLOW: Duration = Duration::from_secs(1);

/// The blobs as an image node has them; `None` where the masters name no group for so long.
pub(super) async fn of_cluster(
    masters: &AddressList,
    meta: &AddressList,
    patience: Duration,
) -> Option<BlobStore> {
    let master: Arc<dyn Master> = Arc::new(MasterClient::new(masters));
    let routes = Routes::follow(Arc::clone(&master), FOLLOW);
    routes.wait_for(Instant::now() + patience, |known| !known.groups.is_empty()).await?;
    let nodes = Arc::new(ChunkNodes::new());
    let fragments = ReplicationClient::new(routes, nodes, master, ReplicationOptions::new());
    let meta = Arc::new(MetaClient::new(meta));
    Some(BlobStore::new(meta, Arc::new(fragments), Budget::default(), BlobOptions::default()))
}
