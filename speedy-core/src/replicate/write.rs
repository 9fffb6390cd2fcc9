use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tracing::{error, warn};

use super::cleanup::Unconfirmed;
use super::client::Inner;
use super::progress::Progress;
use super::refusal::{Lack, lacks};
use super::{Link, MAX_CHUNK_LEN, NodeError, WriteHeader};
use crate::id::{ChunkId, FileId, GroupId, GroupVersion, Owner};
use crate::payload::Payload;
use crate::placement::{Group, Member, Topology};
use crate::replicate::FragmentError;
use crate::sync::Arc;

/// Ids of one group that a write may use up on conflicts. Even the first must not happen.
const IDS_A_GROUP: usize = 3;

/// How often a member is asked again for the same chunk.
const RETRIES_A_MEMBER: u32 = 1;

/// A pause before a retry, for a node that restarts its connection or learns of its group's version.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before groups that have failed are tried again.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Why one id was given up.
enum GivenUp {
    /// A node knows the id already.
    IdTaken(String),
    /// The group can't take the chunk now. Another may.
    Group(Lack),
    /// No group would take it.
    Invalid(String),
}

impl Inner {
    /// Writes a chunk to a group of the ring's choice, or to `only` one.
    pub(super) async fn write(
        self: &Arc<Self>,
        only: Option<GroupId>,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        if payload.is_empty() || payload.len() > MAX_CHUNK_LEN {
            let length = payload.len();
            return Err(FragmentError::Invalid(format!(
                "a fragment of {length} bytes: 1 to {MAX_CHUNK_LEN} are allowed"
            )));
        }
        let deadline = Instant::now() + self.options.failover_wait;
        let mut tried: Vec<(GroupId, Lack)> = Vec::new();
        loop {
            // Groups may come and go meanwhile; none is tried twice in a round, so each round ends.
            let topology = self.routes.current();
            let candidates = match only {
                Some(group) => vec![group],
                None => self.chooser.candidates(&topology, owner, payload.len()).map_err(|error| {
                    FragmentError::Unavailable(format!("the groups make no ring: {error}"))
                })?,
            };
            let next = candidates.into_iter().find(|id| tried.iter().all(|(group, _)| group != id));
            let Some(group) = next else {
                // A group that has just lost a member goes on without it once the master has noticed.
                let may_pass = tried.iter().any(|(_, lack)| lack.may_pass());
                if !may_pass || Instant::now() >= deadline {
                    return Err(lacks(&topology, tried));
                }
                let pause = deadline.min(Instant::now() + ROUND_PAUSE);
                let revision = topology.revision;
                self.routes.wait_for(pause, |topology| topology.revision > revision).await;
                self.metrics.write_retries.add(1);
                tried.clear();
                continue;
            };
            if !tried.is_empty() {
                self.metrics.write_failovers.add(1);
            }
            let pending = self.chooser.begin(group, payload.len());
            let written = self.write_in(group, owner, &payload).await;
            drop(pending);
            match written {
                Ok(chunk) => {
                    self.chooser.succeeded(group);
                    self.metrics.chunks_written.add(1);
                    self.metrics.bytes_written.add(payload.len());
                    return Ok(FileId::new(group, chunk));
                }
                Err(GivenUp::Invalid(reason)) => return Err(FragmentError::Invalid(reason)),
                Err(GivenUp::Group(lack)) => {
                    warn!(%group, %lack, "a group did not take a chunk");
                    self.chooser.failed(group, self.options.penalty);
                    tried.push((group, lack));
                }
                Err(GivenUp::IdTaken(reason)) => tried.push((group, Lack::Failed(reason))),
            }
        }
    }

    /// Writes a chunk in one group, under a fresh id.
    async fn write_in(
        self: &Arc<Self>,
        group: GroupId,
        owner: Owner,
        payload: &Payload,
    ) -> Result<ChunkId, GivenUp> {
        let mut taken = String::new();
        for _ in 0..IDS_A_GROUP {
            let id = self.ids.next(group).await;
            let id = id.map_err(|error| GivenUp::Group(Lack::Ids(error.to_string())))?;
            match self.write_chunk(group, id, owner, payload).await {
                Ok(()) => return Ok(id),
                Err(GivenUp::IdTaken(reason)) => {
                    self.metrics.id_conflicts.add(1);
                    error!(%group, chunk = %id, %reason, "a fresh chunk id was taken already: was the master restored?");
                    taken = reason;
                }
                Err(other) => return Err(other),
            }
        }
        Err(GivenUp::IdTaken(taken))
    }

    /// Writes a chunk under one id, with whatever versions the group has meanwhile.
    ///
    /// The id stays the same across versions. It was only ever sent with these bytes, so a member that has it already
    /// says yes again; and once it is given up it is deleted, so it is never used for others.
    async fn write_chunk(
        self: &Arc<Self>,
        group: GroupId,
        id: ChunkId,
        owner: Owner,
        payload: &Payload,
    ) -> Result<(), GivenUp> {
        let deadline = Instant::now() + self.options.topology_wait;
        let mut unconfirmed = Unconfirmed::new(self, FileId::new(group, id));
        loop {
            let topology = self.routes.current();
            let target = writable(&topology, group)?;
            unconfirmed.sent_to(target.recipients().chain(target.catching_up()));
            let header = WriteHeader::new(id, owner, payload.len(), payload.checksum(), target.version);
            let written = tokio::select! {
                written = async {
                    let _turn = self.turns.wait(group, payload.len()).await;
                    self.replicate(target, &header, payload).await
                } => written,
                // Whoever is lost would be waited for in vain.
                (member, current) = self.loses_a_recipient(target) => {
                    Err((member, NodeError::WrongVersion { current }))
                }
            };
            match written {
                Ok(()) => {
                    unconfirmed.confirmed();
                    return Ok(());
                }
                Err((_, NodeError::WrongVersion { current })) if Instant::now() < deadline => {
                    self.metrics.write_retries.add(1);
                    self.agree_on_version(group, target.version, current, deadline).await;
                }
                Err((member, error)) => return Err(give_up(&member, error, payload)),
            }
        }
    }

    /// Waits until one of those that a write goes to is no longer one; answers it and the group's version by then.
    async fn loses_a_recipient(&self, target: &Group) -> (Member, GroupVersion) {
        let mut found = None;
        let mut lost = |topology: &Topology| {
            let Some(group) = topology.group(target.id).filter(|group| group.version > target.version) else {
                return false;
            };
            let stays = |member: &Member| group.recipients().any(|other| other.node == member.node);
            found = target.recipients().find(|member| !stays(member)).map(|member| (member, group.version));
            found.is_some()
        };
        self.routes.watch_for(&mut lost).await;
        match found {
            Some((member, version)) => (member.clone(), version),
            // Routes that nobody keeps up to date.
            None => std::future::pending().await,
        }
    }

    /// Writes to all members that it must reach: along a chain, and where that breaks side by side.
    async fn replicate(
        &self,
        group: &Group,
        header: &WriteHeader,
        payload: &Payload,
    ) -> Result<(), (Member, NodeError)> {
        let mut members: Vec<&Member> = group.recipients().collect();
        // For all writers the same, so that two chains never wait for each other.
        members.sort_unstable_by_key(|member| member.node);
        let is_suspect = members.iter().any(|member| self.suspects.holds(member.node));
        if members.len() > 1 && !is_suspect {
            match self.write_along(group, &members, header, payload).await {
                Ok(()) => return Ok(()),
                Err((member, error @ (NodeError::Unavailable(_) | NodeError::Body(_)))) => {
                    warn!(chunk = %header.id, node = %member.node, address = %member.address, %error, "a chain broke");
                    self.metrics.chains_broken.add(1);
                    self.suspects.punish(member.node, self.options.penalty);
                }
                Err(refused) => return Err(refused),
            }
        }
        self.fan_out(group, header, payload).await
    }

    /// Writes to the first member, which passes the frames on to the others, and to those that catch up.
    async fn write_along(
        &self,
        group: &Group,
        members: &[&Member],
        header: &WriteHeader,
        payload: &Payload,
    ) -> Result<(), (Member, NodeError)> {
        let (first, rest) = members.split_first().expect("a chain has at least one member");
        let link = |member: &Member| Link::new(member.node, member.address.clone());
        let waited = rest.iter().map(|member| link(member));
        let chain = waited.chain(group.catching_up().map(|member| link(member).optional()));
        let header = header.clone().through(chain.collect());
        let limit = self.options.progress_timeout;
        let progress = Progress::new();
        let frames = progress.frames(payload);
        let written = progress.watch(limit, self.nodes.node(first).write(header, frames)).await;
        match written.unwrap_or_else(|_| Err(NodeError::Unavailable(format!("no progress for {limit:?}")))) {
            Ok(copies) if copies as usize == members.len() => Ok(()),
            // A node of an older release does not know of chains.
            Ok(copies) => {
                let text = format!("{copies} of {} members of the chain were written to", members.len());
                Err(((*first).clone(), NodeError::Unavailable(text)))
            }
            Err(NodeError::Downstream { link, error }) => {
                let member = members.iter().find(|member| member.node == link.node).unwrap_or(first);
                Err(((*member).clone(), *error))
            }
            Err(error) => Err(((*first).clone(), error)),
        }
    }

    /// Writes to all members that it must reach at once, each from its own stream of the same frames. The first failure ends it;
    /// the others are dropped, and so leave nothing behind that can be read or are cleaned up.
    async fn fan_out(
        &self,
        group: &Group,
        header: &WriteHeader,
        payload: &Payload,
    ) -> Result<(), (Member, NodeError)> {
        let write = |member| async move {
            let result = self.write_to(member, header, payload).await;
            if let Err(NodeError::Unavailable(_)) = result {
                self.suspects.punish(member.node, self.options.penalty);
            }
            result.map_err(|error| (member.clone(), error))
        };
        let mut writes: FuturesUnordered<_> = group.recipients().map(write).collect();
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    /// Writes to one member, once more if that may help.
    async fn write_to(
        &self,
        member: &Member,
        header: &WriteHeader,
        payload: &Payload,
    ) -> Result<(), NodeError> {
        let node = self.nodes.node(member);
        let limit = self.options.progress_timeout;
        let mut retries = 0;
        loop {
            let progress = Progress::new();
            let frames = progress.frames(payload);
            let Ok(result) = progress.watch(limit, node.write(header.clone(), frames)).await else {
                // It had its chance; a second would cost as long again.
                return Err(NodeError::Unavailable(format!("no progress for {limit:?}")));
            };
            match result {
                Err(NodeError::Unavailable(_) | NodeError::Body(_)) if retries < RETRIES_A_MEMBER => {
                    retries += 1;
                    self.metrics.write_retries.add(1);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                result => return result.map(drop),
            }
        }
    }

    /// Waits until this process and the nodes may agree on the version of a group, but not beyond `deadline`.
    pub(super) async fn agree_on_version(
        &self,
        group: GroupId,
        ours: GroupVersion,
        theirs: GroupVersion,
        deadline: Instant,
    ) {
        if theirs > ours {
            let caught_up =
                |topology: &Topology| topology.group(group).is_some_and(|group| group.version >= theirs);
            if self.routes.wait_for(deadline, caught_up).await.is_some() {
                return;
            }
        }
        // Either the node has yet to hear from the master, or nobody tells this process: routes that are fixed.
        tokio::time::sleep_until(deadline.min(Instant::now() + RETRY_PAUSE)).await;
    }
}

fn writable(topology: &Topology, group: GroupId) -> Result<&Group, GivenUp> {
    match topology.group(group) {
        Some(group) if group.is_writable() => Ok(group),
        Some(group) => Err(GivenUp::Group(Lack::of(group))),
        None => Err(GivenUp::Group(Lack::Failed("it is no longer there".into()))),
    }
}

/// What a member's refusal means for the write.
fn give_up(member: &Member, error: NodeError, payload: &Payload) -> GivenUp {
    let at = |error: &NodeError| format!("node {} at {}: {error}", member.node, member.address);
    match error {
        NodeError::Conflict(_) | NodeError::Deleted(_) | NodeError::Damaged { .. } => {
            GivenUp::IdTaken(at(&error))
        }
        NodeError::Full(_) => GivenUp::Group(Lack::Full(at(&error))),
        NodeError::Invalid(_) => GivenUp::Invalid(at(&error)),
        // Either the node got other bytes than were sent, or the caller announced others than it gave.
        NodeError::Body(_) if Payload::new(payload.frames().to_vec()).checksum() != payload.checksum() => {
            GivenUp::Invalid("the payload does not have the checksum that it claims".into())
        }
        NodeError::Body(_)
        | NodeError::WrongVersion { .. }
        | NodeError::NotFound(_)
        | NodeError::Downstream { .. }
        | NodeError::Unavailable(_) => GivenUp::Group(Lack::Failed(at(&error))),
    }
}
