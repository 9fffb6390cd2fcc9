//! The master: the rules of membership over rows of a metadata store. `docs/meta.md` specifies the rows.

mod membership;
mod records;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use self::membership::{check, hear, lose, new_group};
use self::records::{
    ChunksRecord, GROUP_PREFIX, REVISION_KEY, RevisionRecord, chunks_key, decode, decode_group, doubt_key,
    encode_group, group_key,
};
use super::{Group, Heartbeat, HeartbeatReply, Master, MasterError, Topology};
use crate::id::{ChunkId, GroupId, GroupVersion, NodeId};
use crate::meta::{Check, Entry, KeyRange, MetaError, MetaStore, Outcome, Transaction, Version, Write};
use crate::sync::{Arc, Mutex};

/// Attempts to make a change before others' changes are blamed.
const ATTEMPTS: usize = 64;
/// Groups that are read at a time.
const PAGE: usize = 1000;

/// How a [`StoredMaster`] is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MasterOptions {
    replicas: u32,
    heartbeat_timeout: Duration,
}

impl MasterOptions {
    /// Members that make a group complete. Default 3; at least 1. A group that was complete once keeps the number
    /// that it had then.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// How long a member may be silent before it is lost. Default 5 s; at least 1 s. Nodes should be heard from
    /// several times in half of it.
    #[must_use]
    pub fn heartbeat_timeout(mut self, timeout: Duration) -> Self {
        self.heartbeat_timeout = timeout;
        self
    }

    fn validate(self) -> Result<Self, MasterError> {
        if self.replicas == 0 {
            return Err(MasterError::Refused("a group needs at least 1 replica; give --replicas N".into()));
        }
        if self.heartbeat_timeout < Duration::from_secs(1) {
            return Err(MasterError::Refused(format!(
                "a heartbeat timeout of {:?}; the least is 1 s",
                self.heartbeat_timeout
            )));
        }
        Ok(self)
    }
}

impl Default for MasterOptions {
    fn default() -> Self {
        Self { replicas: 3, heartbeat_timeout: Duration::from_secs(5) }
    }
}

/// A master whose state is in a metadata store, so that several masters can share it.
///
/// # Consistency
/// Every change of groups and members is one transaction that checks and raises one revision, so changes come one
/// after the other whichever master makes them, and are durable before anyone sees them. A master keeps what it read
/// and reads again when the revision is another. Heartbeats change nothing in the store while all is well.
///
/// # Liveness
/// A master times silence by its own clock and from when it first learnt of a member, so that a restart marks nobody
/// lost before a full timeout. Where nodes talk to one master and another hears nothing, the other must not mark them
/// lost: a master that has not heard from a member for half the timeout leaves a row of doubt in the store. Whichever
/// master hears from the member takes the row away. Only a doubt that stood for the other half makes the member lost,
/// in a transaction that checks that it still stands.
///
/// # Chunk ids
/// A range is durable before it is handed out. So that a store restored from a backup gives no id twice, a master
/// allocates in a group only once it has heard from all its members since it started, and above all that they hold.
#[derive(Debug)]
pub struct StoredMaster {
    meta: Arc<dyn MetaStore>,
    options: MasterOptions,
    loaded: Mutex<Arc<Loaded>>,
    nodes: Mutex<HashMap<NodeId, Heard>>,
}

/// The groups as of one revision.
#[derive(Clone, PartialEq, Debug, Default)]
struct Loaded {
    /// The version of the revision's row; `None` before there is one.
    version: Option<Version>,
    topology: Topology,
}

/// What was heard from a member, in this process.
#[derive(Clone, Debug)]
struct Heard {
    /// When it was last heard from, here or, where doubt was taken away, elsewhere; or when it was learnt of.
    last: Instant,
    /// Whether it was heard from here at all.
    reported: bool,
    highest_chunk: Option<ChunkId>,
    free_bytes: u64,
    total_bytes: u64,
    /// The doubt that was found or left, and when.
    doubt: Option<(Version, Instant)>,
}

impl Heard {
    fn nothing() -> Self {
        Self {
            last: Instant::now(),
            reported: false,
            highest_chunk: None,
            free_bytes: 0,
            total_bytes: 0,
            doubt: None,
        }
    }
}

impl From<MetaError> for MasterError {
    fn from(error: MetaError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl StoredMaster {
    /// A master of the groups that are in `meta`. Other masters may share it.
    ///
    /// # Errors
    /// [`MasterError::Refused`] for options out of bounds; [`MasterError::Unavailable`] when the store can't be read.
    pub async fn open(meta: Arc<dyn MetaStore>, options: MasterOptions) -> Result<Self, MasterError> {
        let options = options.validate()?;
        let master = Self { meta, options, loaded: Mutex::default(), nodes: Mutex::default() };
        master.load().await?;
        Ok(master)
    }

    /// Marks members lost that have been silent for too long. To be called every second or so.
    ///
    /// # Errors
    /// [`MasterError::Unavailable`] when the store is; then nobody was marked by this call, or not all.
    pub async fn tick(&self) -> Result<(), MasterError> {
        let loaded = self.current().await?;
        for group in &loaded.topology.groups {
            for member in group.in_sync() {
                if self.silence(member.node) >= self.options.heartbeat_timeout / 2 {
                    self.doubt(group.id, member.node).await?;
                }
            }
        }
        Ok(())
    }

    /// Raises a doubt about a member, or acts on one that has stood for long enough.
    async fn doubt(&self, group: GroupId, node: NodeId) -> Result<(), MasterError> {
        let key = doubt_key(node);
        let standing = self.meta.get(key.clone()).await?.map(|entry| entry.version);
        let known = self.nodes.lock().get(&node).and_then(|heard| heard.doubt);
        match (standing, known) {
            (None, None) => {
                let raise = Transaction::new().check(Check::Absent(key.clone()));
                let raise = raise.write(Write::Put(key, Bytes::new())).relaxed();
                if let Outcome::Committed(version) = self.meta.transact(raise).await? {
                    self.note_doubt(node, version);
                }
            }
            (Some(standing), Some((version, since))) if standing == version => {
                let timeout = self.options.heartbeat_timeout;
                if self.silence(node) >= timeout && since.elapsed() >= timeout / 2 {
                    self.lose(group, node, standing).await?;
                }
            }
            (Some(standing), None) => self.note_doubt(node, standing),
            // It was taken away since: another master has heard from the node.
            (_, Some(_)) => self.vouch(node),
        }
        Ok(())
    }

    fn note_doubt(&self, node: NodeId, version: Version) {
        if let Some(heard) = self.nodes.lock().get_mut(&node) {
            heard.doubt = Some((version, Instant::now()));
        }
    }

    fn vouch(&self, node: NodeId) {
        if let Some(heard) = self.nodes.lock().get_mut(&node) {
            heard.last = Instant::now();
            heard.doubt = None;
        }
    }

    async fn lose(&self, group: GroupId, node: NodeId, doubt: Version) -> Result<(), MasterError> {
        let key = doubt_key(node);
        let stands = Transaction::new().check(Check::Version(key.clone(), doubt));
        let stands = stands.write(Write::Delete(key));
        let edit = |group: &Group| Ok(lose(group, node));
        match self.change(group, &stands, edit).await? {
            Some(Changed::Committed(group)) => {
                tracing::warn!(
                    group = %group.id, %node, version = %group.version,
                    "a member is silent and counts as lost; its group takes no writes until it is back"
                );
                if let Some(heard) = self.nodes.lock().get_mut(&node) {
                    heard.doubt = None;
                }
            }
            Some(Changed::Refuted) => self.vouch(node),
            None => {}
        }
        Ok(())
    }

    /// How long nothing was heard from a node.
    fn silence(&self, node: NodeId) -> Duration {
        self.nodes.lock().get(&node).map_or(Duration::ZERO, |heard| heard.last.elapsed())
    }

    /// The groups as they are in the store now.
    async fn current(&self) -> Result<Arc<Loaded>, MasterError> {
        Ok(self.current_and(None).await?.0)
    }

    /// The groups as they are in the store now, and the row of another key.
    async fn current_and(&self, other: Option<Bytes>) -> Result<(Arc<Loaded>, Option<Entry>), MasterError> {
        let keys: Vec<Bytes> = [Bytes::from_static(REVISION_KEY)].into_iter().chain(other).collect();
        let mut rows = self.meta.get_many(&keys).await?.into_iter();
        let version = rows.next().flatten().map(|row| row.version);
        let other = rows.next().flatten();
        let loaded = Arc::clone(&self.loaded.lock());
        let loaded = if loaded.version == version { loaded } else { self.load().await? };
        Ok((loaded, other))
    }

    async fn load(&self) -> Result<Arc<Loaded>, MasterError> {
        loop {
            let before = self.meta.get(Bytes::from_static(REVISION_KEY)).await?;
            let mut groups = Vec::new();
            let mut range = Some(KeyRange::prefix(GROUP_PREFIX));
            while let Some(rest) = range {
                let page = self.meta.scan(rest, PAGE).await?;
                for entry in &page.entries {
                    groups.push(decode_group(entry)?);
                }
                range = page.next;
            }
            // Pages are snapshots each of its own: they belong together if nothing changed meanwhile.
            let after = self.meta.get(Bytes::from_static(REVISION_KEY)).await?;
            if before == after {
                let revision = before.as_ref().map(decode::<RevisionRecord>).transpose()?.unwrap_or_default();
                let topology = Topology { revision: revision.revision, groups };
                return Ok(self.adopt(Loaded { version: before.map(|row| row.version), topology }));
            }
        }
    }

    /// Goes on with these groups, unless newer ones are known by now.
    fn adopt(&self, new: Loaded) -> Arc<Loaded> {
        let mut loaded = self.loaded.lock();
        if new.version >= loaded.version {
            *loaded = Arc::new(new);
            let mut nodes = self.nodes.lock();
            let members = || loaded.topology.groups.iter().flat_map(|group| &group.members);
            nodes.retain(|node, _| members().any(|member| member.node == *node));
            for member in members() {
                nodes.entry(member.node).or_insert_with(Heard::nothing);
            }
        }
        Arc::clone(&loaded)
    }

    /// Changes a group by `edit`, which says what becomes of it or that nothing does; together with the checks and
    /// writes of `also`.
    async fn change(
        &self,
        id: GroupId,
        also: &Transaction,
        edit: impl Fn(&Group) -> Result<Option<Group>, MasterError>,
    ) -> Result<Option<Changed>, MasterError> {
        for _ in 0..ATTEMPTS {
            let loaded = self.current().await?;
            let groups = &loaded.topology.groups;
            let at = groups.binary_search_by_key(&id, |group| group.id);
            let group = at.map_or_else(|_| new_group(id, self.options.replicas), |at| groups[at].clone());
            let Some(changed) = edit(&group)? else { return Ok(None) };
            let mut topology = loaded.topology.clone();
            topology.revision += 1;
            match at {
                Ok(at) => topology.groups[at] = changed.clone(),
                Err(at) => topology.groups.insert(at, changed.clone()),
            }
            let revision = Bytes::from_static(REVISION_KEY);
            let unchanged = match loaded.version {
                Some(version) => Check::Version(revision.clone(), version),
                None => Check::Absent(revision.clone()),
            };
            let record = RevisionRecord { revision: topology.revision };
            let transaction = Transaction::new()
                .check(unchanged)
                .write(Write::Put(revision, record.encode_to_vec().into()))
                .write(Write::Put(group_key(id), encode_group(&changed)))
                .and(also.clone());
            match self.meta.transact(transaction).await? {
                Outcome::Committed(version) => {
                    self.adopt(Loaded { version: Some(version), topology });
                    return Ok(Some(Changed::Committed(changed)));
                }
                Outcome::Conflict(0) => {}
                Outcome::Conflict(_) => return Ok(Some(Changed::Refuted)),
            }
        }
        Err(MasterError::Unavailable(format!(
            "other masters changed groups {ATTEMPTS} times while this one tried to change group {id}; try again"
        )))
    }

    /// Takes note of what a member says of itself.
    fn note(&self, heartbeat: &Heartbeat) {
        if let Some(heard) = self.nodes.lock().get_mut(&heartbeat.node) {
            heard.last = Instant::now();
            heard.reported = true;
            heard.highest_chunk = heard.highest_chunk.max(heartbeat.highest_chunk);
            heard.free_bytes = heartbeat.free_bytes;
            heard.total_bytes = heartbeat.total_bytes;
            heard.doubt = None;
        }
    }

    /// The lowest id above all that the members of a group hold.
    fn above_all_reported(&self, group: &Group) -> Result<u64, MasterError> {
        let nodes = self.nodes.lock();
        let mut lowest = 1;
        for member in &group.members {
            let heard = nodes.get(&member.node).filter(|heard| heard.reported).ok_or_else(|| {
                MasterError::Unavailable(format!(
                    "it has not heard from node {} at {} of group {} since it started, and so can't tell which chunk \
                     ids are taken; see that the node runs and reaches this master",
                    member.node, member.address, group.id
                ))
            })?;
            if let Some(highest) = heard.highest_chunk {
                lowest = lowest.max(highest.get().checked_add(1).ok_or_else(|| exhausted(group.id))?);
            }
        }
        Ok(lowest)
    }
}

/// What became of a change.
enum Changed {
    Committed(Group),
    /// One of the checks that went with it does not hold.
    Refuted,
}

fn exhausted(group: GroupId) -> MasterError {
    MasterError::Refused(format!(
        "group {group} has no chunk ids left: they are taken or reported up to the highest number. A node that reports \
         an id that was never handed out is damaged"
    ))
}

#[async_trait]
impl Master for StoredMaster {
    async fn topology(&self) -> Result<Topology, MasterError> {
        let loaded = self.current().await?;
        let mut topology = loaded.topology.clone();
        let nodes = self.nodes.lock();
        for member in topology.groups.iter_mut().flat_map(|group| &mut group.members) {
            if let Some(heard) = nodes.get(&member.node) {
                member.free_bytes = heard.free_bytes;
                member.total_bytes = heard.total_bytes;
            }
        }
        Ok(topology)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MasterError> {
        // Before anything that may wait: that the store is away is no reason to take the node for lost.
        if let Some(heard) = self.nodes.lock().get_mut(&heartbeat.node) {
            heard.last = Instant::now();
        }
        let (loaded, doubt) = self.current_and(Some(doubt_key(heartbeat.node))).await?;
        check(&heartbeat, &loaded.topology)?;
        self.note(&heartbeat);
        if let Some(doubt) = doubt {
            let lift = Transaction::new().check(Check::Version(doubt.key.clone(), doubt.version));
            // Where another heartbeat has lifted it already, all is well too.
            let _ = self.meta.transact(lift.write(Write::Delete(doubt.key)).relaxed()).await?;
        }
        let silent = |node| self.silence(node) >= self.options.heartbeat_timeout;
        let edit = |group: &Group| hear(group, &heartbeat, self.options.replicas, silent);
        if let Some(Changed::Committed(group)) =
            self.change(heartbeat.group, &Transaction::new(), edit).await?
        {
            tracing::info!(
                group = %group.id, node = %heartbeat.node, address = %heartbeat.address, version = %group.version,
                members = group.members.len(), replicas = group.replicas,
                "a heartbeat changed its group"
            );
            // A node that has just joined was not known before.
            self.note(&heartbeat);
        }
        let loaded = Arc::clone(&self.loaded.lock());
        let group = loaded.topology.group(heartbeat.group);
        let member =
            group.and_then(|group| group.members.iter().find(|member| member.node == heartbeat.node));
        match (group, member) {
            (Some(group), Some(member)) => Ok(HeartbeatReply::new(group.version, member.state)),
            // Another node took its place between the two, in a group that is not complete yet.
            _ => Err(MasterError::Unavailable(format!("group {} is changing; try again", heartbeat.group))),
        }
    }

    async fn allocate_chunks(&self, id: GroupId, count: u32) -> Result<Range<u64>, MasterError> {
        if count == 0 {
            return Err(MasterError::Refused("a range of no chunk ids was asked for".into()));
        }
        let loaded = self.current().await?;
        let group = loaded.topology.group(id);
        let group = group.ok_or_else(|| {
            MasterError::Refused(format!("there is no group {id}; start chunk nodes with --group {id}"))
        })?;
        if group.version == GroupVersion::INITIAL {
            return Err(MasterError::Unavailable(format!(
                "group {id} has {} of {} members; start the others with --group {id}",
                group.members.len(),
                group.replicas
            )));
        }
        let lowest = self.above_all_reported(group)?;
        let key = chunks_key(id);
        for _ in 0..ATTEMPTS {
            let row = self.meta.get(key.clone()).await?;
            let record: ChunksRecord = row.as_ref().map(decode).transpose()?.unwrap_or_default();
            let start = record.next.max(lowest);
            let end = start.checked_add(count.into()).ok_or_else(|| exhausted(id))?;
            let taken = ChunksRecord { next: end }.encode_to_vec();
            let take = Transaction::new().unchanged(key.clone(), row.as_ref());
            if self.meta.transact(take.write(Write::Put(key.clone(), taken.into()))).await?.is_committed() {
                return Ok(start..end);
            }
        }
        Err(MasterError::Unavailable(format!("many ask for chunk ids of group {id} at once; try again")))
    }
}
