use futures_util::future::join_all;
use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::client::Inner;
use crate::id::{FileId, GroupVersion, NodeId};
use crate::placement::Member;
use crate::request::carried;
use crate::sync::Arc;

/// A chunk that members may have taken though its write has not succeeded. Unless it is
/// [confirmed](Self::confirmed) it is deleted when this is dropped, also when that happens because the writer was.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    inner: Arc<Inner>,
    file: FileId,
    members: Vec<Member>,
}

impl Unconfirmed {
    pub(super) fn new(inner: &Arc<Inner>, file: FileId) -> Self {
        Self { inner: Arc::clone(inner), file, members: Vec::new() }
    }

    /// Notes that these members may have the chunk from now on.
    pub(super) fn sent_to<'a>(&mut self, members: impl Iterator<Item = &'a Member>) {
        for member in members {
            if self.members.iter().all(|known| known.node != member.node) {
                self.members.push(member.clone());
            }
        }
    }

    /// The chunk is acknowledged: it stays.
    pub(super) fn confirmed(mut self) {
        self.members.clear();
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        let members = std::mem::take(&mut self.members);
        if members.is_empty() {
            return;
        }
        // Without a runtime the process is ending, and the orphan collector has the rest.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(carried(sweep(Arc::clone(&self.inner), self.file, members)));
        }
    }
}

/// Deletes a chunk that nobody will ever ask for. A member that never got it keeps a tombstone, so that a write still
/// on its way is refused.
async fn sweep(inner: Arc<Inner>, file: FileId, members: Vec<Member>) {
    let sweeps = members.iter().map(|member| async {
        let node: NodeId = member.node;
        let topology = inner.routes.current();
        // Where the group is gone the node says which version it knows, and that is logged.
        let version = topology.group(file.group).map_or(GroupVersion::INITIAL, |group| group.version);
        let outcome = inner.delete_at(file, version, member).await;
        match outcome {
            Ok(()) => debug!(chunk = %file, %node, "deleted what a failed write left"),
            Err(error) => warn!(
                chunk = %file, %node, address = %member.address, %error,
                "a failed write may have left a chunk here; the orphan collector frees it"
            ),
        }
    });
    join_all(sweeps).await;
}
