use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::hedge::Hedging;
use super::metrics::ReplicationMetrics;
use super::turns::Turns;
use super::{Blocks, ChunkNode, IdSource, ReplicationOptions, Routes};
use crate::id::{FileId, GroupId, NodeId, Owner};
use crate::payload::Payload;
use crate::placement::penalties::Penalties;
use crate::placement::{GroupChooser, Master, Member};
use crate::replicate::{FragmentError, FragmentPage, Fragments, ListCursor};
use crate::sync::{Arc, AtomicUsize};

/// Finds the chunk node that a member of a group is: a connection to it, or the node itself in one process.
///
/// Called for every request, so it keeps what it makes. It does not wait: a node that can't be reached says so when it
/// is asked something.
pub trait Nodes: fmt::Debug + Send + Sync + 'static {
    /// The node of this member, at the address that the member has now.
    fn node(&self, member: &Member) -> Arc<dyn ChunkNode>;
}

/// Keeps fragments on groups of chunk nodes: chooses the group, writes to all its members that count, reads from any.
///
/// # Writes
/// The bytes go to the first member, which passes them on to the second while it writes, and so on: they leave this process
/// once however many replicas there are. The order is that of the nodes' ids, for all writers the same. Where the chain
/// breaks, and for a while after, all members are written to side by side, so a link that is down between two of
/// them fails no write. Chunks go to a group in the order in which they came, so many bytes
/// [at once](ReplicationOptions::with_write_window).
///
/// # Consistency
/// A write returns once every member of a group that is in sync or settling has the chunk on stable storage. What is read was
/// compared with its checksums, in this process or in the one that holds the store.
///
/// # Retries
/// A member that did not answer, or broke off, is asked once more for the same id: the same bytes under the same id
/// are the same chunk, so a lost answer costs nothing. So is the group, when it and the client disagreed on its
/// version. Anything that lasts gives the id up: the chunk goes to another group, under an id of that one. When no
/// group is left the caller hears of each what it lacks.
///
/// # Cancellation
/// A write that fails, or whose future is dropped, deletes in the background what its members may have taken. What
/// can't be deleted is logged, and found later by its owner. A read that is dropped ends at the node.
///
/// # Without a master
/// Everything goes on with the last topology and the ids in hand.
///
/// # Reads
/// Reads spread over the members in sync. One that waits longer than 95 of 100 did is sent to another member too, within a budget
/// of a twentieth of all reads; a member that is slower again and again, or fails, is asked last for a while. A damaged copy is passed over and
/// counted here, and replaced by its node's own [repair](super::Repair).
#[derive(Clone, Debug)]
pub struct ReplicationClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) routes: Routes,
    pub(super) nodes: Arc<dyn Nodes>,
    pub(super) ids: IdSource,
    pub(super) options: ReplicationOptions,
    pub(super) chooser: GroupChooser,
    pub(super) turns: Turns,
    /// Nodes that failed a short while ago.
    pub(super) suspects: Penalties<NodeId>,
    /// When a read asks a second replica.
    pub(super) hedging: Hedging,
    /// Where the next read begins among the members, so that reads spread over them.
    pub(super) turn: AtomicUsize,
    pub(super) metrics: Arc<ReplicationMetrics>,
}

impl ReplicationClient {
    /// A client that knows the groups from `routes` and takes chunk ids from `master`.
    pub fn new(
        routes: Routes,
        nodes: Arc<dyn Nodes>,
        master: Arc<dyn Master>,
        options: ReplicationOptions,
    ) -> Self {
        let inner = Inner {
            routes,
            nodes,
            ids: IdSource::new(master, &options),
            turns: Turns::new(options.write_window),
            options,
            chooser: GroupChooser::new(),
            suspects: Penalties::new(),
            hedging: Hedging::new(),
            turn: AtomicUsize::new(0),
            metrics: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the client has done so far.
    pub fn metrics(&self) -> &Arc<ReplicationMetrics> {
        &self.inner.metrics
    }
}

#[async_trait]
impl Fragments for ReplicationClient {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.inner.write(None, owner, payload).await
    }

    async fn write_in(
        &self,
        group: GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        self.inner.write(Some(group), owner, payload).await
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        super::read::read(Arc::clone(&self.inner), file, range).await
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.inner.delete(file).await
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        self.inner.list(cursor, limit).await
    }
}
