use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tracing::debug;

use super::progress::Progress;
use super::{
    BlockStream, ChunkNode, ChunkPage, ChunkStat, Holdings, Link, NodeError, Nodes, RangeEntries, WriteHeader,
};
use crate::id::{ChunkId, GroupVersion};
use crate::payload::{BodyError, Frames};
use crate::placement::{Member, MemberState};
use crate::request::carried;
use crate::sync::Arc;

/// Frames that wait for the slower of the two who take them. More would not make it faster, only hold more.
const AHEAD: usize = 2;

/// Frames that may wait for a node that nobody waits for.
const BESIDE: usize = 8;

/// How long the whole chain may make no progress where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A chunk node that passes what it stores on to the next of a chain.
///
/// A write goes to the node's own store and to the next node at the same time, frame by frame, at the pace of the slower. It
/// is answered when both have the chunk on stable storage. So whoever writes sends each byte once however many replicas
/// there are, and so does each node but the last.
///
/// Links that are [optional](Link::is_optional) get the frames from the last node before them, which does not wait for
/// them.
///
/// When one of the two fails the other is dropped, which leaves nothing that can be read; unless it was done
/// already, which the writer finds out by a second try or cleans up.
#[derive(Clone, Debug)]
pub struct RelayNode {
    local: Arc<dyn ChunkNode>,
    nodes: Arc<dyn Nodes>,
    patience: Duration,
}

impl RelayNode {
    /// A node that stores in `local` and finds the others through `nodes`.
    pub fn new(local: Arc<dyn ChunkNode>, nodes: Arc<dyn Nodes>) -> Self {
        Self { local, nodes, patience: PATIENCE }
    }

    /// How long a writer at the head of a chain waits while nothing moves: 10 s by default. Each node waits a little shorter
    /// for those behind it than the one before it does, so that who stalls is named by its neighbour.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Stores on the next node and those behind it.
    async fn pass_on(&self, link: Link, header: WriteHeader, frames: Frames) -> Result<u32, NodeError> {
        let behind = u32::try_from(header.chain.len()).unwrap_or(u32::MAX - 2) + 1;
        let limit = self.patience.mul_f64(f64::from(behind) / f64::from(behind + 1));
        // A dialler asks for no more of a member than who and where it is.
        let member = Member::new(link.node, link.address.clone(), MemberState::InSync);
        let node = self.nodes.node(&member);
        let progress = Progress::new();
        let frames = progress.noting(frames);
        let stalled = || Err(NodeError::Unavailable(format!("no progress for {limit:?}")));
        let result = progress.watch(limit, node.write(header, frames)).await.unwrap_or_else(|_| stalled());
        result.map_err(|error| match error {
            // Its neighbour has named it.
            NodeError::Downstream { .. } => error,
            error => NodeError::Downstream { link, error: Box::new(error) },
        })
    }

    /// Passes frames on to all nodes of a chain, for which nobody waits. Answers the same frames.
    fn pass_on_beside(&self, header: &WriteHeader, frames: Frames) -> Frames {
        if header.chain.is_empty() {
            return frames;
        }
        let mut beside = Vec::new();
        for link in header.chain.clone() {
            let (there, remote) = half(BESIDE);
            let (relay, header) = (self.clone(), header.clone().through(Vec::new()));
            tokio::spawn(carried(async move {
                let id = header.id;
                if let Err(error) = relay.pass_on(link, header, remote).await {
                    debug!(chunk = %id, %error, "a member that catches up did not take a new chunk: it fetches it later");
                }
            }));
            beside.push(there);
        }
        frames.inspect(move |frame| offer(&mut beside, frame)).boxed()
    }
}

/// Gives a frame to a node that nobody waits for, unless it is too slow. Then it gets no more, and so keeps nothing.
fn offer(beside: &mut Vec<Half>, frame: &Result<bytes::Bytes, BodyError>) {
    beside.retain(|there| there.try_send(frame.clone()).is_ok());
}

type Half = mpsc::Sender<Result<bytes::Bytes, BodyError>>;

/// Gives each frame to both. One that takes no more knows its answer already, or is about to: the other goes on until
/// that is heard, for an early end would look like a body that is too short.
async fn split(mut frames: Frames, here: Half, there: Half) {
    while let Some(frame) = frames.next().await {
        let _ = here.send(frame.clone()).await;
        let _ = there.send(frame).await;
    }
}

fn half(ahead: usize) -> (Half, Frames) {
    let (sender, receiver) = mpsc::channel(ahead);
    let frames = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    (sender, frames.boxed())
}

#[async_trait]
impl ChunkNode for RelayNode {
    async fn write(&self, header: WriteHeader, frames: Frames) -> Result<u32, NodeError> {
        let mut chain = header.chain.iter();
        let next = match chain.next() {
            Some(next) if !next.is_optional => next.clone(),
            // The last that is waited for.
            _ => {
                let frames = self.pass_on_beside(&header, frames);
                return self.local.write(header.through(Vec::new()), frames).await;
            }
        };
        let onward = header.clone().through(chain.cloned().collect());
        let ((here, local), (there, remote)) = (half(AHEAD), half(AHEAD));
        let local = self.local.write(header.through(Vec::new()), local);
        let both = async {
            let (here, there) = tokio::try_join!(local, self.pass_on(next, onward, remote))?;
            Ok(here + there)
        };
        match select(std::pin::pin!(both), std::pin::pin!(split(frames, here, there))).await {
            Either::Left((done, _)) => done,
            Either::Right(((), both)) => both.await,
        }
    }

    async fn read(&self, id: ChunkId, range: Range<u64>) -> Result<BlockStream, NodeError> {
        self.local.read(id, range).await
    }

    async fn stat(&self, id: ChunkId) -> Result<ChunkStat, NodeError> {
        self.local.stat(id).await
    }

    async fn delete(&self, id: ChunkId, version: GroupVersion) -> Result<(), NodeError> {
        self.local.delete(id, version).await
    }

    async fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<ChunkPage, NodeError> {
        self.local.list(after, limit).await
    }

    async fn holdings(&self) -> Result<Holdings, NodeError> {
        self.local.holdings().await
    }

    async fn entries(&self, range: u64) -> Result<RangeEntries, NodeError> {
        self.local.entries(range).await
    }
}
