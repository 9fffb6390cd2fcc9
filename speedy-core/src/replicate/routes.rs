use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use crate::placement::{Master, Topology};
use crate::sync::Arc;

/// The topology as this process knows it: the last one that a master told, however long ago.
///
/// Clones share it. What follows a master goes on until the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Routes {
    latest: watch::Receiver<Arc<Topology>>,
    follower: Option<Arc<Follower>>,
}

/// The task that asks the master, ended when nobody needs it.
#[derive(Debug)]
struct Follower {
    hurry: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long the master may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest time between two questions to the master, however many are in a hurry.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

impl Routes {
    /// Routes that somebody else keeps up to date.
    pub fn new(latest: watch::Receiver<Arc<Topology>>) -> Self {
        Self { latest, follower: None }
    }

    /// Routes that never change.
    pub fn fixed(topology: Topology) -> Self {
        // A receiver keeps the last value after its sender is gone.
        Self::new(watch::channel(Arc::new(topology)).1)
    }

    /// Routes that ask a master every `interval`, and sooner when a node turns out to know more. Empty until the
    /// first answer; when the master is away the last answer stays. A topology older than the one known is ignored.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn follow(master: Arc<dyn Master>, interval: Duration) -> Self {
        let (sender, latest) = watch::channel(Arc::new(Topology::default()));
        let hurry = Arc::new(Notify::new());
        let task = tokio::spawn(follow(master, interval, sender, Arc::clone(&hurry))).abort_handle();
        Self { latest, follower: Some(Arc::new(Follower { hurry, task })) }
    }

    /// The topology now.
    pub fn current(&self) -> Arc<Topology> {
        Arc::clone(&self.latest.borrow())
    }

    /// Waits until the topology satisfies `wanted`, and answers it; `None` when it does not before `deadline`.
    pub async fn wait_for(
        &self,
        deadline: Instant,
        mut wanted: impl FnMut(&Topology) -> bool,
    ) -> Option<Arc<Topology>> {
        if let Some(follower) = &self.follower {
            follower.hurry.notify_one();
        }
        let mut latest = self.latest.clone();
        match timeout_at(deadline, latest.wait_for(|topology| wanted(topology))).await {
            Ok(Ok(topology)) => Some(Arc::clone(&topology)),
            // Without a sender nothing will ever change.
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Routes {
    /// Waits until the topology satisfies `wanted`. Answers whether it does; not so where nothing will ever change.
    /// In no hurry: the master is asked no sooner than it would be anyway.
    pub(super) async fn watch_for(&self, wanted: &mut impl FnMut(&Topology) -> bool) -> bool {
        self.latest.clone().wait_for(|topology| wanted(topology)).await.is_ok()
    }
}

async fn follow(
    master: Arc<dyn Master>,
    interval: Duration,
    latest: watch::Sender<Arc<Topology>>,
    hurry: Arc<Notify>,
) {
    let mut away = false;
    loop {
        let answer = timeout(ANSWER_TIMEOUT, master.topology()).await;
        let problem = match answer {
            Ok(Ok(topology)) => {
                take(&latest, topology);
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {ANSWER_TIMEOUT:?}")),
        };
        match (&problem, away) {
            (Some(problem), false) => {
                let revision = latest.borrow().revision;
                warn!(%problem, revision, "no topology from the master: going on with the last one known");
            }
            (None, true) => info!("the master answers again"),
            _ => {}
        }
        away = problem.is_some();
        tokio::time::sleep(SHORTEST_PAUSE.min(interval)).await;
        let _ = timeout(interval.saturating_sub(SHORTEST_PAUSE), hurry.notified()).await;
    }
}

fn take(latest: &watch::Sender<Arc<Topology>>, topology: Topology) {
    latest.send_if_modified(|known| {
        if topology.revision < known.revision {
            warn!(
                known = known.revision,
                told = topology.revision,
                "the master told an older topology: ignored. If it was restored from a backup, restart this node"
            );
        }
        let newer = topology.revision > known.revision;
        // A first topology counts whatever its revision.
        let news = newer || (topology.revision == known.revision && topology != **known);
        if news {
            *known = Arc::new(topology);
        }
        news
    });
}

#[cfg(test)]
mod tests;
