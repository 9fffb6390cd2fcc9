//! Repair: a node fetches what it lacks from the other members of its group.

mod compare;
mod fetch;
mod options;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use self::options::RepairOptions;
use self::progress::Figures;
pub use self::progress::RepairSnapshot;
use super::{ChunkNode, NodeError, Nodes, Routes};
use crate::id::{GroupId, GroupVersion, NodeId};
use crate::placement::{Backlog, Member, MemberState, Topology};
use crate::sync::{Arc, Mutex};

/// Keeps a node's chunks equal to those of its group's other members, for as long as [`run`](Self::run) runs.
///
/// # How
/// What a node holds is a set of chunks and a set of deletes. Neither ever shrinks but that a delete takes its chunk away,
/// so the replicas of a group become equal when each takes what the others have: nothing has to be decided, and the order
/// does not matter. A node compares its [summaries](ChunkNode::holdings) with those of another member, asks for the
/// [entries](ChunkNode::entries) of the ranges that differ, and fetches what it lacks. Every node does so by itself, and
/// only ever fetches.
///
/// A node that is behind compares itself again and again with a member in sync, until the master has heard
/// [how far it has come](Self::caught_up) and lets it settle, and then be in sync. One that is in sync looks
/// at another member every now and then; what a write has only just brought there is not fetched, for it is on its way.
///
/// What is damaged here counts as missing. So it is fetched again, and replaced.
///
/// # Memory
/// A few chunks are fetched at once, each as a stream, and the entries of one range of 65,536 ids.
#[derive(Clone, Debug)]
pub struct Repair {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    local: Arc<dyn ChunkNode>,
    node: NodeId,
    group: GroupId,
    routes: Routes,
    nodes: Arc<dyn Nodes>,
    options: RepairOptions,
    hurry: Notify,
    caught_up: Mutex<Option<GroupVersion>>,
    figures: Figures,
    pace: Mutex<Option<tokio::time::Instant>>,
}

/// What a look at the topology says a node should do.
enum Task {
    /// It is behind: these are in sync.
    CatchUp(VecDeque<Member>),
    /// It is in sync: this one may have something that it lacks.
    Compare(Member),
    /// There is nobody to compare with.
    Nothing,
}

/// What comes after a comparison.
struct Rest {
    length: Duration,
    /// Whether the node knew that it was behind before the comparison.
    was_behind: bool,
}

impl Repair {
    /// The repair of `local`, which is this node of this group.
    pub fn new(
        local: Arc<dyn ChunkNode>,
        node: NodeId,
        group: GroupId,
        routes: Routes,
        nodes: Arc<dyn Nodes>,
        options: RepairOptions,
    ) -> Self {
        let inner = Inner {
            local,
            node,
            group,
            routes,
            nodes,
            options,
            hurry: Notify::new(),
            caught_up: Mutex::new(None),
            figures: Figures::default(),
            pace: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Compares and fetches for ever. At most one such task makes sense.
    pub async fn run(self) {
        let mut turn = 0;
        loop {
            let rest = self.inner.round(&mut turn).await;
            let news = async {
                tokio::select! {
                    // Whoever found damage in the meantime left a permit.
                    () = self.inner.hurry.notified() => {}
                    // As it may have done during the round.
                    () = self.inner.is_behind(), if !rest.was_behind => {}
                }
            };
            let _ = timeout(rest.length, news).await;
        }
    }

    /// Compares at once rather than when it is due: something was found damaged.
    pub fn hurry(&self) {
        self.inner.hurry.notify_one();
    }

    /// The node has all that a member in sync had which knew this version of the group already, and had finished the
    /// writes of earlier ones. For the [heartbeat](crate::placement::Heartbeat::caught_up).
    pub fn caught_up(&self) -> Option<GroupVersion> {
        *self.inner.caught_up.lock()
    }

    /// What is still to be fetched, as far as it is known.
    pub fn backlog(&self) -> Backlog {
        self.inner.figures.backlog()
    }

    /// What has been done so far.
    pub fn snapshot(&self) -> RepairSnapshot {
        self.inner.figures.snapshot()
    }
}

fn must_catch_up(member: &Member) -> bool {
    matches!(member.state, MemberState::CatchingUp | MemberState::Settling)
}

impl Inner {
    /// One comparison, and what comes of it.
    async fn round(&self, turn: &mut usize) -> Rest {
        let task = self.task(turn);
        let was_behind = matches!(task, Task::CatchUp(_));
        Rest { length: self.work(task).await, was_behind }
    }

    /// Does what is to be done. Answers how long to rest.
    async fn work(&self, task: Task) -> Duration {
        match task {
            Task::Nothing => self.options.retry,
            Task::Compare(member) => match self.compare(&member, true).await {
                Ok(_) => self.options.interval,
                // Reported where it matters, to those who catch up.
                Err(error) => {
                    debug!(node = %member.node, address = %member.address, %error, "no comparison with a member");
                    self.options.retry
                }
            },
            Task::CatchUp(members) => {
                for member in members {
                    match self.compare(&member, false).await {
                        Ok(version) => {
                            *self.caught_up.lock() = Some(version);
                            return self.options.retry / 4;
                        }
                        // It hears of a new version as late as a heartbeat.
                        Err(NodeError::WrongVersion { current }) => {
                            debug!(node = %member.node, version = %current, "a member does not know the new version yet");
                        }
                        Err(error) => {
                            self.figures.failed();
                            warn!(
                                node = %member.node, address = %member.address, %error,
                                "could not fetch all that is missing from a member; trying another, or again"
                            );
                        }
                    }
                }
                self.options.retry / 2
            }
        }
    }

    /// Waits until the node is told that it is behind: not in its interval, but at once, it has to catch up.
    async fn is_behind(&self) {
        let mut is_behind = |topology: &Topology| {
            let me = topology.group(self.group).and_then(|group| group.member(self.node));
            me.is_some_and(must_catch_up)
        };
        if !self.routes.watch_for(&mut is_behind).await {
            std::future::pending().await
        }
    }

    fn task(&self, turn: &mut usize) -> Task {
        let topology = self.routes.current();
        let Some(group) = topology.group(self.group) else { return Task::Nothing };
        let Some(me) = group.member(self.node) else { return Task::Nothing };
        *turn = turn.wrapping_add(1);
        let others = group.members.iter().filter(|member| member.node != self.node);
        if must_catch_up(me) {
            let mut sources: VecDeque<Member> =
                others.filter(|member| member.is_in_sync()).cloned().collect();
            let by = *turn % sources.len().max(1);
            sources.rotate_left(by);
            return Task::CatchUp(sources);
        }
        let is_there = |member: &&Member| !matches!(member.state, MemberState::Lost | MemberState::Joining);
        let mut members: Vec<&Member> = others.filter(is_there).collect();
        if members.is_empty() || !me.is_in_sync() {
            return Task::Nothing;
        }
        Task::Compare(members.swap_remove(*turn % members.len()).clone())
    }

    /// Keeps to the rate: waits until `bytes` more may come.
    async fn wait_for_turn(&self, bytes: u64) {
        let Some(rate) = self.options.bytes_per_second else { return };
        let now = tokio::time::Instant::now();
        let length = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let begin = {
            let mut pace = self.pace.lock();
            let begin = pace.map_or(now, |free| free.max(now));
            *pace = Some(begin + length);
            begin
        };
        sleep(begin - now).await;
    }

    /// Waits for an answer, not for ever.
    async fn within<T>(&self, answer: impl Future<Output = Result<T, NodeError>>) -> Result<T, NodeError> {
        let limit = self.options.patience;
        let late = |_| Err(NodeError::Unavailable(format!("no answer for {limit:?}")));
        timeout(limit, answer).await.unwrap_or_else(late)
    }

    fn tell(&self, fetched: u64, from: &Member) {
        if fetched > 0 {
            info!(group = %self.group, fetched, node = %from.node, address = %from.address, "fetched what was missing here");
        }
    }
}
