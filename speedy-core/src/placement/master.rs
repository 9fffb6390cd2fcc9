use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;

use super::records::{
    GroupRecord, IdsRecord, REVISION, RevisionRecord, SeenRecord, all_seen, group_key, groups, ids_key,
    node_of_seen, seen_key,
};
use super::{
    Backlog, Group, GroupOrder, Heartbeat, HeartbeatReply, Master, MasterError, Member, MemberState,
    Topology, membership,
};
use crate::id::{GroupId, NodeId};
use crate::meta::{
    Entry, KeyRange, MAX_PAGE_ENTRIES, MetaError, MetaStore, Outcome, Timestamp, Transaction, Version, Write,
};

/// How often a change that meets another master's tries again.
const TRIES: usize = 16;

/// How a [`StoredMaster`] works.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    replicas: u32,
    timeout: Duration,
    replace_after: Duration,
}

impl Default for MasterOptions {
    fn default() -> Self {
        Self { replicas: 3, timeout: Duration::from_secs(5), replace_after: Duration::from_secs(60) }
    }
}

impl MasterOptions {
    /// Members that make a new group complete; by default 3. Groups that exist keep their number.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        assert!(replicas > 0, "a group has at least one replica");
        self.replicas = replicas;
        self
    }

    /// How long a node may be silent before it counts as lost; by default 5 seconds. Of a node that another master hears,
    /// this one knows up to half of that later.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a member must have been silent before an empty node that is started for its group takes its place; by
    /// default a minute.
    #[must_use]
    pub fn replace_after(mut self, silence: Duration) -> Self {
        self.replace_after = silence;
        self
    }
}

/// A master whose state is in a metadata store. Any number of masters may share one store, and each can answer
/// everything: every change is a compare-and-set of the group and of the topology's revision.
///
/// # Who is in sync
/// The members in sync hold every chunk that was ever acknowledged; the rules by which a member leaves them and comes
/// back are those of the module `membership`. The node's identity lives in its data directory: a node that comes back
/// with an empty one is another node, takes a place only where one is free, and is in sync when it has fetched all.
///
/// # Why no chunk id is handed out twice
/// The lowest free id of a group rises by compare-and-set, durably, before a range is handed out. Should the
/// metadata be restored from an old backup, ranges still begin above the highest id that any member has reported, and
/// none is handed out before all members have reported to this run of the master.
#[derive(Debug)]
pub struct StoredMaster {
    meta: Arc<dyn MetaStore>,
    options: MasterOptions,
    started: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topology: Topology,
    /// Of the entry at [`REVISION`] when the topology was loaded.
    loaded: Option<Version>,
    seen: HashMap<NodeId, Seen>,
    /// Of the last [`StoredMaster::tick`], by the metadata's clock; `None` where it failed.
    ticked: Option<Timestamp>,
    /// Since when heartbeats could be taken in without a break. Whoever was silent before may have found nobody to tell.
    hearing_since: Timestamp,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    record: SeenRecord,
    /// When it was last written to the store for other masters.
    stored: Timestamp,
    /// Whether another master heard it: it may have done so again since it wrote that down.
    is_hearsay: bool,
}

/// A group as it is, and how it must still be for a change to apply.
struct Loaded {
    group: Option<Group>,
    unchanged: Transaction,
    revision: u64,
}

impl StoredMaster {
    /// A master over a metadata store.
    pub async fn new(meta: Arc<dyn MetaStore>, options: MasterOptions) -> Result<Self, MasterError> {
        let started = meta.now().await?;
        let state = State { ticked: Some(started), hearing_since: started, ..State::default() };
        let master = Self { meta, options, started, state: Mutex::new(state) };
        master.refresh().await?;
        Ok(master)
    }

    /// Marks as lost the members that have been silent for too long, and forgets those that never came to hold
    /// anything. To be called every second or so; between two calls nothing is marked.
    ///
    /// Where the metadata could not be reached, or this was not called, for half the timeout, nobody could say that he is
    /// there: everybody has the whole timeout anew.
    pub async fn tick(&self) -> Result<(), MasterError> {
        let ticked = self.mark_lost().await;
        self.state.lock().ticked = ticked.as_ref().ok().copied();
        ticked.map(drop)
    }

    /// Answers when it looked.
    async fn mark_lost(&self) -> Result<Timestamp, MasterError> {
        self.refresh().await?;
        self.load_seen().await?;
        let now = self.meta.now().await?;
        let groups: Vec<GroupId> = {
            let mut state = self.state.lock();
            if state.ticked.is_none_or(|ticked| now.since(ticked) >= self.options.timeout / 2) {
                state.hearing_since = now;
            }
            state.topology.groups.iter().map(|group| group.id).collect()
        };
        for id in groups {
            let before = self.state.lock().topology.group(id).cloned();
            let silent = |member: &Member| now.since(self.last_seen(member.node)) > self.options.timeout;
            let after = self.change(id, |group| membership::silence(group?, silent).map(Ok)).await?;
            if let (Some(before), Some(after)) = (before, after) {
                tell_of_the_lost(&before, &after);
            }
        }
        Ok(now)
    }

    /// When a node was last there, for all that this master can know: never before heartbeats could be taken in, so that
    /// nodes get the whole timeout to find it.
    fn last_seen(&self, node: NodeId) -> Timestamp {
        let state = self.state.lock();
        let seen = state.seen.get(&node).map(|seen| {
            let at = Timestamp(seen.record.at);
            if seen.is_hearsay { at.after(self.restated_after()) } else { at }
        });
        seen.unwrap_or_default().max(state.hearing_since)
    }

    /// How old what a master hears of a node is before it is written down for others again.
    fn restated_after(&self) -> Duration {
        self.options.timeout / 2
    }

    /// Loads the topology again if another master has changed it.
    async fn refresh(&self) -> Result<(), MasterError> {
        let revision = self.meta.get(REVISION).await?;
        let version = revision.as_ref().map(|entry| entry.version);
        if self.state.lock().loaded == version {
            return Ok(());
        }
        // Read after the revision: if a group changes in between, so does the revision, and the next look loads again.
        let mut topology = Topology { revision: revision_of(revision.as_ref())?, groups: Vec::new() };
        for entry in self.scan(groups()).await? {
            topology.groups.push(group_of(&entry)?);
        }
        let mut state = self.state.lock();
        if state.loaded < version {
            (state.topology, state.loaded) = (topology, version);
        }
        Ok(())
    }

    /// Takes in what other masters have heard.
    async fn load_seen(&self) -> Result<(), MasterError> {
        let entries = self.scan(all_seen()).await?;
        let mut state = self.state.lock();
        for entry in entries {
            let Some(node) = node_of_seen(&entry.key) else { continue };
            let record: SeenRecord = decode(&entry)?;
            let seen = state.seen.entry(node).or_default();
            if seen.record.at < record.at {
                *seen = Seen { stored: Timestamp(record.at), record, is_hearsay: true };
            }
        }
        Ok(())
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<Entry>, MasterError> {
        let (mut entries, mut rest) = (Vec::new(), Some(range));
        while let Some(range) = rest {
            let page = self.meta.scan(range, MAX_PAGE_ENTRIES).await?;
            entries.extend(page.entries);
            rest = page.next;
        }
        Ok(entries)
    }

    async fn load(&self, id: GroupId) -> Result<Loaded, MasterError> {
        let key = group_key(id);
        let entries = self.meta.get_many(&[key.clone(), REVISION]).await?;
        let (group, revision) = (entries.first().cloned().flatten(), entries.last().cloned().flatten());
        let unchanged =
            Transaction::new().unchanged(key, group.as_ref()).unchanged(REVISION, revision.as_ref());
        Ok(Loaded {
            group: group.as_ref().map(group_of).transpose()?,
            unchanged,
            revision: revision_of(revision.as_ref())?,
        })
    }

    /// Changes a group by compare-and-set. `change` is given the group as it is and answers the one to be, or `None`
    /// to leave it; it is called again when another master was first. Answers the group as it then is.
    async fn change(
        &self,
        id: GroupId,
        change: impl Fn(Option<&Group>) -> Option<Result<Group, MasterError>> + Send + Sync,
    ) -> Result<Option<Group>, MasterError> {
        for _ in 0..TRIES {
            let loaded = self.load(id).await?;
            let Some(changed) = change(loaded.group.as_ref()) else { return Ok(loaded.group) };
            let changed = changed?;
            if self.apply(loaded, &changed).await? {
                return Ok(Some(changed));
            }
        }
        Err(contended(id))
    }

    /// Writes a group down where nothing has changed since it was loaded; whether it did.
    async fn apply(&self, loaded: Loaded, changed: &Group) -> Result<bool, MasterError> {
        let transaction = loaded
            .unchanged
            .write(put(group_key(changed.id), &GroupRecord::from(changed)))
            .write(put(REVISION, &RevisionRecord { revision: loaded.revision + 1 }));
        let is_committed = self.meta.transact(transaction).await?.is_committed();
        if is_committed {
            self.refresh().await?;
        }
        Ok(is_committed)
    }

    fn others_take_chunks(&self, id: GroupId) -> bool {
        let state = self.state.lock();
        state.topology.groups.iter().any(|group| group.id != id && group.takes_new_chunks())
    }

    /// Notes what a node says of itself. Answers what is due to be written down for other masters.
    async fn note(&self, heartbeat: &Heartbeat) -> Result<(Timestamp, Option<SeenRecord>), MasterError> {
        let now = self.meta.now().await?;
        let record = SeenRecord {
            at: now.0,
            highest_chunk: heartbeat.highest_chunk.map(crate::id::ChunkId::get),
            free_bytes: heartbeat.free_bytes,
            total_bytes: heartbeat.total_bytes,
            backlog_chunks: heartbeat.backlog.chunks,
            backlog_bytes: heartbeat.backlog.bytes,
            backlog_rate: heartbeat.backlog.bytes_per_second,
            address: heartbeat.address.clone(),
        };
        let mut state = self.state.lock();
        let seen = state.seen.entry(heartbeat.node).or_default();
        (seen.record, seen.is_hearsay) = (record.clone(), false);
        let due = now.since(seen.stored) >= self.restated_after();
        if due {
            seen.stored = now;
        }
        Ok((now, due.then_some(record)))
    }

    /// Why a node can't be where it says: another member is, and says so still. Two that have changed places are taken.
    fn twin(&self, heartbeat: &Heartbeat, now: Timestamp) -> Option<MasterError> {
        let state = self.state.lock();
        let mut others = state
            .topology
            .groups
            .iter()
            .flat_map(|group| group.members.iter().map(move |member| (group, member)));
        let (group, twin) = others.find(|(_, member)| {
            member.node != heartbeat.node
                && member.address == heartbeat.address
                && state.seen.get(&member.node).is_some_and(|seen| {
                    seen.record.address == heartbeat.address
                        && now.since(Timestamp(seen.record.at)) <= self.options.timeout
                })
        })?;
        Some(MasterError::Refused(format!(
            "node {} says that it is dialled at {}, where node {} of group {} is; start it with its own --advertise",
            heartbeat.node, heartbeat.address, twin.node, group.id
        )))
    }

    /// The lowest id above all that the group's members hold, once all have said so to this run of the master.
    fn floor(&self, group: &Group) -> Result<u64, MasterError> {
        let state = self.state.lock();
        let mut floor = 1;
        for member in group.in_sync() {
            let seen = state.seen.get(&member.node).filter(|seen| Timestamp(seen.record.at) >= self.started);
            let seen = seen.ok_or_else(|| {
                MasterError::Unavailable(format!(
                    "node {} at {} of group {} has not reported since the master started",
                    member.node, member.address, group.id
                ))
            })?;
            floor = floor.max(seen.record.highest_chunk.map_or(0, |highest| highest.saturating_add(1)));
        }
        Ok(floor)
    }
}

#[async_trait]
impl Master for StoredMaster {
    async fn topology(&self) -> Result<Topology, MasterError> {
        self.refresh().await?;
        let state = self.state.lock();
        let mut topology = state.topology.clone();
        for member in topology.groups.iter_mut().flat_map(|group| &mut group.members) {
            if let Some(seen) = state.seen.get(&member.node) {
                let SeenRecord { free_bytes, total_bytes, backlog_chunks: chunks, .. } = seen.record;
                let (bytes, bytes_per_second) = (seen.record.backlog_bytes, seen.record.backlog_rate);
                let backlog = Backlog { chunks, bytes, bytes_per_second };
                (member.free_bytes, member.total_bytes, member.backlog) = (free_bytes, total_bytes, backlog);
            }
        }
        Ok(topology)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        self.refresh().await?;
        let (now, due) = self.note(&heartbeat).await?;
        {
            let state = self.state.lock();
            let other = state.topology.groups.iter().find(|group| {
                group.id != heartbeat.group
                    && group.members.iter().any(|member| member.node == heartbeat.node)
            });
            if let Some(other) = other {
                return Err(MasterError::Refused(format!(
                    "node {} holds chunks of group {} and was started for group {}; start it with --group {}, or \
                     with an empty data directory",
                    heartbeat.node, other.id, heartbeat.group, other.id
                )));
            }
        }
        if let Some(refusal) = self.twin(&heartbeat, now) {
            return Err(refusal);
        }
        let is_gone = |node| now.since(self.last_seen(node)) > self.options.replace_after;
        // A change may be tried again, so it is spoken of only once it has been made.
        let changed = AtomicBool::new(false);
        let admission = |group: Option<&Group>| {
            let admitted = membership::heard(group, &heartbeat, self.options.replicas, is_gone);
            changed.store(admitted.is_some(), Ordering::Relaxed);
            admitted
        };
        let group = self.change(heartbeat.group, admission).await?;
        let group = group.ok_or_else(|| MasterError::Unavailable("the group was just removed".into()))?;
        if let Some(record) = due {
            // A crash may lose it: the node says it again within a second.
            let write = Transaction::new().write(put(seen_key(heartbeat.node), &record)).relaxed();
            // It is for other masters only. A full disk, on which nothing can be written, is no reason to lose nodes.
            if let Err(error) = self.meta.transact(write).await {
                tracing::debug!(node = %heartbeat.node, %error, "could not note for other masters that a node is there");
            }
        }
        let member = group.members.iter().find(|member| member.node == heartbeat.node);
        let member = member.ok_or_else(|| MasterError::Unavailable("the node was just removed".into()))?;
        if changed.load(Ordering::Relaxed) {
            tracing::info!(
                "chunk node {} at {} is {}: group {} has {} of {} members in sync",
                member.node,
                member.address,
                member.state,
                group.id,
                group.in_sync().count(),
                group.replicas
            );
        }
        Ok(HeartbeatReply::new(group.version, member.state))
    }

    async fn allocate_chunks(&self, id: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        if count == 0 {
            return Err(MasterError::Refused("a range of no ids was asked for".into()));
        }
        self.load_seen().await?;
        let group = self.load(id).await?.group;
        let group = group.ok_or_else(|| MasterError::Refused(format!("there is no group {id}")))?;
        if !group.is_writable() {
            return Err(MasterError::Unavailable(format!("group {id} takes no chunks now")));
        }
        let floor = self.floor(&group)?;
        let key = ids_key(id);
        for _ in 0..TRIES {
            let entry = self.meta.get(key.clone()).await?;
            let next = entry.as_ref().map(decode::<IdsRecord>).transpose()?.map_or(1, |record| record.next);
            let start = next.max(floor);
            let end = start.checked_add(count.into()).ok_or_else(|| {
                MasterError::Refused(format!("group {id} has used up its chunk ids; add another group"))
            })?;
            let take = Transaction::new()
                .unchanged(key.clone(), entry.as_ref())
                .write(put(key.clone(), &IdsRecord { next: end }));
            if let Outcome::Committed(_) = self.meta.transact(take).await? {
                return Ok(start..end);
            }
        }
        Err(MasterError::Unavailable(format!(
            "the ids of group {id} kept being taken by other masters; try again"
        )))
    }

    async fn order(&self, id: GroupId, order: GroupOrder) -> Result<Group, MasterError> {
        for _ in 0..TRIES {
            let loaded = self.load(id).await?;
            // After that: should another group change from now on, this change does not apply. Of two orders at once, each
            // of which leaves the other's group to take chunks, the second is refused.
            self.refresh().await?;
            let Some(group) = &loaded.group else {
                return Err(MasterError::Refused(format!("there is no group {id}")));
            };
            let Some(changed) = membership::ordered(group, order) else { return Ok(group.clone()) };
            let changed = changed?;
            if changed.is_drained() && !group.is_drained() && !self.others_take_chunks(id) {
                return Err(MasterError::Refused(format!(
                    "no other group takes chunks, and without group {id} every push would fail: start the nodes of \
                     another group, or those that its groups lack; speedy cluster status shows how they are"
                )));
            }
            if self.apply(loaded, &changed).await? {
                return Ok(changed);
            }
        }
        Err(contended(id))
    }
}

fn tell_of_the_lost(before: &Group, after: &Group) {
    for member in after.members.iter().filter(|member| member.state == MemberState::Lost) {
        if before.member(member.node).is_some_and(|earlier| earlier.state != MemberState::Lost) {
            let goes_on = if after.is_writable() { "goes on" } else { "takes no chunks until one is back" };
            tracing::warn!(
                "chunk node {} at {} is silent: group {} has {} of {} members in sync and {goes_on}",
                member.node,
                member.address,
                after.id,
                after.in_sync().count(),
                after.replicas
            );
        }
    }
}

fn contended(id: GroupId) -> MasterError {
    MasterError::Unavailable(format!("group {id} kept being changed by other masters; try again"))
}

fn put(key: Bytes, record: &impl Message) -> Write {
    Write::Put(key, record.encode_to_vec().into())
}

fn decode<R: Message + Default>(entry: &Entry) -> Result<R, MasterError> {
    R::decode(entry.value.clone()).map_err(|error| unreadable(entry, &error))
}

fn group_of(entry: &Entry) -> Result<Group, MasterError> {
    decode::<GroupRecord>(entry)?.group().map_err(|error| unreadable(entry, &error))
}

fn revision_of(entry: Option<&Entry>) -> Result<u64, MasterError> {
    Ok(entry.map(decode::<RevisionRecord>).transpose()?.map_or(0, |record| record.revision))
}

fn unreadable(entry: &Entry, error: &dyn std::error::Error) -> MasterError {
    let key = entry.key.escape_ascii();
    MasterError::Unavailable(format!("the master's record at {key} cannot be read: {error}"))
}

impl From<MetaError> for MasterError {
    fn from(error: MetaError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests;
