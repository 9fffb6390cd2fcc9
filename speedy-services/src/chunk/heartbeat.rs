use std::sync::Arc;
use std::time::Duration;

use speedy_core::id::{ChunkId, GroupId, GroupVersion, NodeId};
use speedy_core::placement::{Backlog, Heartbeat, HeartbeatReply, Master, MasterError, MemberState};
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::Condition;
use crate::roles::Waiting;

/// How often a chunk node tells the master of itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a node tells of its store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The highest chunk id that it has ever held.
    pub highest_chunk: Option<ChunkId>,
    /// Bytes that its disks can still take.
    pub free_bytes: u64,
    /// Bytes that its disks hold in all.
    pub total_bytes: u64,
    /// Whether its disks are so full that it should take no new chunks.
    pub is_short_of_room: bool,
    /// Whether its store may have lost chunks and has not fetched them again since.
    pub has_lost: bool,
    /// How far it has caught up.
    pub caught_up: Option<GroupVersion>,
    /// What it still has to fetch.
    pub backlog: Backlog,
}

/// What the heartbeat asks of a node and tells it.
pub trait GroupMember: Send + Sync + 'static {
    /// Who it is, for ever.
    fn node(&self) -> NodeId;
    /// The group it was started for.
    fn group(&self) -> GroupId;
    /// The state of its store now.
    fn report(&self) -> Report;
    /// The version that its group has: writes that name another one are refused from now on. May take as long as a
    /// commit does, so it runs where work may block.
    fn set_version(&self, version: GroupVersion);
}

/// Tells the master of a node once a second, and the node of its group's version, for ever. While no master can be
/// reached the node keeps the version that it knows: a complete group goes on without a master.
pub async fn heartbeat(
    member: Arc<dyn GroupMember>,
    master: Arc<dyn Master>,
    address: String,
    condition: Condition,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Waiting::default();
    let mut place: Option<HeartbeatReply> = None;
    loop {
        ticks.tick().await;
        let report = member.report();
        let mut beat = Heartbeat::new(member.node(), member.group(), address.clone());
        (beat.highest_chunk, beat.backlog) = (report.highest_chunk, report.backlog);
        (beat.free_bytes, beat.total_bytes) = (report.free_bytes, report.total_bytes);
        (beat.is_short_of_room, beat.has_lost) = (report.is_short_of_room, report.has_lost);
        beat.caught_up = report.caught_up;
        match master.heartbeat(beat).await {
            Ok(reply) => {
                if waiting.over() {
                    tracing::info!("the master answers");
                }
                if place != Some(reply) {
                    let (told, version) = (Arc::clone(&member), reply.version);
                    let set = tokio::task::spawn_blocking(move || told.set_version(version)).await;
                    set.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    announce(member.group(), reply);
                    condition.met();
                    place = Some(reply);
                }
            }
            Err(MasterError::Refused(why)) => {
                place = None;
                condition.unmet(format!("the master refused this node: {why}"));
                if waiting.should_say() {
                    tracing::error!("the master refused this node: {why}");
                }
            }
            Err(error) => {
                if waiting.should_say() {
                    match place {
                        Some(known) => tracing::warn!(
                            "{error}; going on with version {} of group {}",
                            known.version,
                            member.group()
                        ),
                        None => tracing::info!("waiting for the master: {error}"),
                    }
                }
            }
        }
    }
}

fn announce(group: GroupId, reply: HeartbeatReply) {
    let version = reply.version;
    match reply.state {
        MemberState::Joining => {
            tracing::info!("joined group {group}, which is not complete yet (version {version})");
        }
        MemberState::InSync => tracing::info!("in sync in group {group}, version {version}"),
        MemberState::Lost => tracing::warn!("group {group} had lost this node (version {version})"),
        MemberState::CatchingUp => tracing::info!(
            "group {group} took chunks while this node was away (version {version}): fetching what is missing"
        ),
        state => tracing::info!("group {group} has version {version}, this node is {state}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use speedy_core::placement::Topology;

    use super::*;
    use crate::admin::Readiness;
    use crate::drain::Drain;

    #[derive(Debug, Default)]
    struct Scripted {
        answers: Mutex<Vec<Result<HeartbeatReply, MasterError>>>,
        beats: Mutex<Vec<Heartbeat>>,
    }

    #[async_trait]
    impl Master for Scripted {
        async fn topology(&self) -> Result<Topology, MasterError> {
            Ok(Topology::default())
        }

        async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
            self.beats.lock().push(heartbeat);
            let mut answers = self.answers.lock();
            match answers.len() {
                0 => Err(MasterError::Unavailable("gone".into())),
                _ => answers.remove(0),
            }
        }

        async fn allocate_chunks(&self, _: GroupId, _: u32) -> Result<Range<u64>, MasterError> {
            Err(MasterError::Unavailable("not in this test".into()))
        }
    }

    struct Member {
        versions: Mutex<Vec<u64>>,
    }

    impl GroupMember for Member {
        fn node(&self) -> NodeId {
            NodeId::from_bytes([7; 16])
        }
        fn group(&self) -> GroupId {
            GroupId::new(3)
        }
        fn report(&self) -> Report {
            let (highest_chunk, caught_up) = (Some(ChunkId::new(9)), Some(GroupVersion::new(4)));
            Report { highest_chunk, free_bytes: 1, total_bytes: 2, caught_up, ..Report::default() }
        }
        fn set_version(&self, version: GroupVersion) {
            self.versions.lock().push(version.get());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_learns_each_change_and_keeps_its_version_without_a_master() {
        let reply = |version, state| Ok(HeartbeatReply::new(GroupVersion::new(version), state));
        let master = Arc::new(Scripted::default());
        *master.answers.lock() = vec![
            Err(MasterError::Unavailable("starting".into())),
            reply(1, MemberState::Joining),
            reply(1, MemberState::Joining),
            reply(2, MemberState::InSync),
            Err(MasterError::Unavailable("restarting".into())),
            reply(2, MemberState::InSync),
        ];
        let member = Arc::new(Member { versions: Mutex::new(Vec::new()) });
        let readiness = Readiness::default();
        let condition = readiness.condition("group", "no master has answered yet");
        let beats = heartbeat(Arc::clone(&member) as _, Arc::clone(&master) as _, "a:1".into(), condition);
        let _ = tokio::time::timeout(Duration::from_millis(6500), beats).await;
        assert_eq!(*member.versions.lock(), [1, 2]);
        assert!(
            readiness.missing(&Drain::new(Duration::ZERO)).is_empty(),
            "a lost master does not unready a node"
        );
        let beats = master.beats.lock();
        assert_eq!(beats.len(), 7);
        assert_eq!(beats[0].highest_chunk, Some(ChunkId::new(9)));
        assert_eq!((beats[0].address.as_str(), beats[0].free_bytes, beats[0].total_bytes), ("a:1", 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_node_is_not_ready_and_keeps_asking() {
        let master = Arc::new(Scripted::default());
        *master.answers.lock() =
            (0..10).map(|_| Err(MasterError::Refused("group 3 is full".into()))).collect();
        let member = Arc::new(Member { versions: Mutex::new(Vec::new()) });
        let readiness = Readiness::default();
        let condition = readiness.condition("group", "no master has answered yet");
        let beats = heartbeat(member, Arc::clone(&master) as _, "a:1".into(), condition);
        let _ = tokio::time::timeout(Duration::from_millis(2500), beats).await;
        assert_eq!(master.beats.lock().len(), 3);
        assert_eq!(
            readiness.missing(&Drain::new(Duration::ZERO)),
            ["group: the master refused this node: group 3 is full"]
        );
    }
}
