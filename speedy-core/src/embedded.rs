//! Everything in one process: a blob store over a chunk store and a metadata store in one directory.
//!
//! ```
//! use futures_util::TryStreamExt;
//! use speedy_core::blob::body_of;
//! use speedy_core::embedded::{Embedded, EmbeddedOptions};
//! use speedy_core::meta::Transaction;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let speedy = Embedded::open(dir.path(), EmbeddedOptions::default()).await?;
//! let blob = speedy.blobs().put(body_of("some bytes"), None, &|_| Transaction::new()).await?;
//! let bytes: Vec<_> = speedy.blobs().read(&blob, 0..blob.size)?.try_collect().await?;
//! assert_eq!(bytes.concat(), b"some bytes");
//! # Ok(()) }
//! ```
//!
//! It is the cluster's code with a group of one: the same replication client over a chunk node in this process, the
//! same master over the embedded metadata. So a directory that began here can become the first member of a group.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::{BlobOptions, BlobStore};
use crate::budget::Budget;
use crate::id::{GroupId, NodeId};
use crate::meta::{self, EmbeddedMeta, KeyRange, MetaError, MetaStore, Transaction, Write};
use crate::placement::{Heartbeat, Master, MasterError, MasterOptions, Member, StoredMaster};
use crate::replicate::{ChunkNode, Nodes, ReplicationClient, ReplicationOptions, Routes, StoreNode};
use crate::store::{self, ChunkStore, Maintenance, MaintenanceOptions, StoreOptions};

/// The only group of an embedded store.
pub const GROUP: GroupId = GroupId::new(1);

/// What the member of the group is called where others would find an address.
const HERE: &str = "here";

/// Fragments that a read has open: no network is between, and what is read long before it is asked for has left the
/// processor's cache by then.
const READ_AHEAD: usize = 2;

/// How an [`Embedded`] store works.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    memory: u64,
    meta_cache: usize,
    blobs: BlobOptions,
    store: StoreOptions,
    maintenance: MaintenanceOptions,
    rebuilds: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            memory: Budget::DEFAULT,
            meta_cache: 32 << 20,
            blobs: BlobOptions::default().read_ahead(READ_AHEAD).expect("it is within its bounds"),
            store: StoreOptions::default().cache_writes(true),
            maintenance: MaintenanceOptions::default(),
            rebuilds: false,
        }
    }
}

impl EmbeddedOptions {
    /// Bytes that may be held in memory on behalf of requests, the metadata's cache counted in; by default 256 MiB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Bytes of the metadata's cache; by default 32 MiB. At most half of the memory is used for it.
    #[must_use]
    pub fn meta_cache(mut self, bytes: usize) -> Self {
        self.meta_cache = bytes;
        self
    }

    /// How blobs are kept; by default as [`BlobOptions`] says, with 2 fragments of a read open at once.
    #[must_use]
    pub fn blobs(mut self, options: BlobOptions) -> Self {
        self.blobs = options;
        self
    }

    /// Changes how blobs are kept from what is set.
    #[must_use]
    pub fn map_blobs(mut self, change: impl FnOnce(BlobOptions) -> BlobOptions) -> Self {
        self.blobs = change(self.blobs);
        self
    }

    /// How chunks are kept; by default as [`StoreOptions`] says, with what is written [kept in the page
    /// cache](StoreOptions::cache_writes): an image is often pulled as soon as it was pushed.
    #[must_use]
    pub fn store(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// Opens chunks without metadata, too, to make it anew of them. Until that is said to be [done](Embedded::rebuilt) the
    /// directory is opened in no other way. By default chunks without metadata are refused.
    #[must_use]
    pub fn rebuilds(mut self, rebuilds: bool) -> Self {
        self.rebuilds = rebuilds;
        self
    }

    /// How room comes back and bytes are verified in the background.
    #[must_use]
    pub fn maintenance(mut self, options: MaintenanceOptions) -> Self {
        self.maintenance = options;
        self
    }
}

/// `c/rebuilding`: the metadata was lost, and is being made of the chunks.
const REBUILDING: Bytes = Bytes::from_static(b"c/rebuilding");

/// What chunks leave free for metadata that lies on the same file system: its own reserve, and room to work above that.
const BESIDE_CHUNKS: u64 = meta::EmbeddedOptions::DEFAULT_RESERVE + (64 << 20);

/// A blob store in a directory, and what it stands on.
#[derive(Debug)]
pub struct Embedded {
    directory: PathBuf,
    blobs: BlobStore,
    /// Ends with this, and before the store is closed.
    maintenance: Arc<Maintenance>,
    store: Arc<ChunkStore>,
    meta: Arc<EmbeddedMeta>,
    replication: ReplicationClient,
}

/// Why a directory can't be opened. Its text says on what and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The chunk store under `chunks/` can't be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The metadata under `meta/` can't be opened.
    #[error(transparent)]
    Meta(#[from] meta::OpenError),
    /// There are chunks, and no metadata that says what they are of.
    #[error(
        "{}: there are {chunks} chunks under chunks/, and no metadata under meta/: it is gone, its file system is not \
         mounted, or a rebuild was not finished. Bring it back: speedy meta restore makes it of a backup, speedy meta \
         rebuild what it can of the chunks; move away first what is left in meta/. Or start on another directory",
        directory.display()
    )]
    NoMetadata {
        /// The directory.
        directory: PathBuf,
        /// How many chunks there are.
        chunks: u64,
    },
    /// The chunk store is none that the metadata knows.
    #[error(
        "{}: the metadata under meta/ is about the chunks of node {known}, and under chunks/ is node {found}: its files \
         are gone, another's, or their file system is not mounted. Move away what is there now and bring them back; without them \
         no blob can be read, so if they are lost start on another directory",
        directory.display()
    )]
    OtherChunks {
        /// The directory.
        directory: PathBuf,
        /// The node whose chunks the metadata names.
        known: NodeId,
        /// The node that is there.
        found: NodeId,
    },
    /// The two do not belong together, or the metadata failed just after it was opened.
    #[error("{}: {source}", directory.display())]
    Master {
        /// The directory.
        directory: PathBuf,
        /// What the master said.
        source: MasterError,
    },
}

/// The one node, whatever member is asked for.
#[derive(Debug)]
struct Here(Arc<StoreNode>);

impl Nodes for Here {
    fn node(&self, _member: &Member) -> Arc<dyn ChunkNode> {
        Arc::clone(&self.0) as Arc<dyn ChunkNode>
    }
}

impl Embedded {
    /// Opens the store in `directory`, which is made if it is not there: chunks under `chunks/`, metadata under
    /// `meta/`. Both are locked against other processes until this and all that came of it are dropped.
    pub async fn open(directory: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let directory = directory.as_ref().to_path_buf();
        let cache = options.meta_cache.min(usize::try_from(options.memory / 2).unwrap_or(usize::MAX));
        let (store, chunks, meta) = {
            let directory = directory.clone();
            // Metadata beside chunks still has room when the chunks have none.
            let store_options = options.store.clone().least_reserve(BESIDE_CHUNKS);
            // Opening reads the disk for as long as recovery takes.
            let rebuilds = options.rebuilds;
            let opened = tokio::task::spawn_blocking(move || -> Result<_, OpenError> {
                let store = ChunkStore::open(directory.join("chunks"), store_options)?;
                let chunks = store.usage().map_or(0, |usage| usage.chunks);
                // Before a file is made where a restore would have to make one.
                if chunks > 0 && !rebuilds && !EmbeddedMeta::is_in(directory.join("meta")) {
                    return Err(OpenError::NoMetadata { directory, chunks });
                }
                let meta_options = meta::EmbeddedOptions::default().cache_bytes(cache);
                let meta = EmbeddedMeta::open(directory.join("meta"), meta_options)?;
                Ok((Arc::new(store), chunks, Arc::new(meta)))
            });
            opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?
        };
        let of_master = |source| OpenError::Master { directory: directory.clone(), source };
        // It would serve as an empty registry, as if nothing had ever been pushed.
        if chunks > 0 && is_lost(&meta).await.map_err(|error| of_master(error.into()))? {
            if !options.rebuilds {
                return Err(OpenError::NoMetadata { directory: directory.clone(), chunks });
            }
            let begin = Transaction::new().write(Write::Put(REBUILDING, Bytes::new()));
            let begun = meta.transact(begin).await.map_err(|error| of_master(error.into()))?;
            debug_assert!(begun.is_committed(), "it checks nothing");
        }
        let keys: Arc<dyn MetaStore> = Arc::clone(&meta) as _;
        let master = StoredMaster::new(Arc::clone(&keys), MasterOptions::default().replicas(1));
        let master: Arc<dyn Master> = Arc::new(master.await.map_err(of_master)?);
        let mut heartbeat = Heartbeat::new(store.node_id(), GROUP, HERE);
        heartbeat.highest_chunk = store.highest_id();
        let known = master.topology().await.map_err(of_master)?;
        if let Some(group) = known.group(GROUP).filter(|group| group.replicas > 1) {
            return Err(of_master(MasterError::Refused(format!(
                "this directory was made part of a cluster, with {} replicas: start the roles of the cluster on it, \
                 as speedy cluster adopt says",
                group.replicas
            ))));
        }
        let members = known.group(GROUP).map(|group| &group.members[..]).unwrap_or_default();
        if let [member] = members
            && member.node != store.node_id()
        {
            let (known, found) = (member.node, store.node_id());
            return Err(OpenError::OtherChunks { directory: directory.clone(), known, found });
        }
        let reply = master.heartbeat(heartbeat).await.map_err(of_master)?;
        let node = Arc::new(StoreNode::new(Arc::clone(&store)));
        node.set_version(Some(reply.version));
        let routes = Routes::fixed(master.topology().await.map_err(of_master)?);
        let replication =
            ReplicationClient::new(routes, Arc::new(Here(node)), master, ReplicationOptions::default());
        let budget = Budget::new(options.memory.saturating_sub(cache as u64));
        let blobs = BlobStore::new(keys, Arc::new(replication.clone()), budget, options.blobs);
        let maintenance = Arc::new(Maintenance::start(Arc::clone(&store), options.maintenance));
        Ok(Self { directory, blobs, maintenance, store, meta, replication })
    }

    /// Says that what could be made of the chunks is made, so that the directory can be served from again.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn rebuilt(&self) -> Result<(), MetaError> {
        self.meta.transact(Transaction::new().write(Write::Delete(REBUILDING))).await.map(drop)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The chunks that the blobs consist of.
    pub fn store(&self) -> &Arc<ChunkStore> {
        &self.store
    }

    /// The metadata, which can be [backed up](EmbeddedMeta::backup) at any time.
    pub fn meta(&self) -> &Arc<EmbeddedMeta> {
        &self.meta
    }

    /// What is done in the background to keep them.
    pub fn maintenance(&self) -> &Arc<Maintenance> {
        &self.maintenance
    }

    /// What writes and reads them.
    pub fn replication(&self) -> &ReplicationClient {
        &self.replication
    }
}

/// Whether nothing was ever written to it, or all that was is of a rebuild that has not come to its end.
async fn is_lost(meta: &EmbeddedMeta) -> Result<bool, MetaError> {
    let everything = KeyRange { start: Bytes::new(), end: None };
    Ok(meta.scan(everything, 1).await?.entries.is_empty() || meta.get(REBUILDING).await?.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::blob::body_of;

    #[tokio::test]
    async fn metadata_does_not_go_with_other_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Embedded::open(directory.path(), EmbeddedOptions::default());
        let speedy = open().await.unwrap();
        speedy.blobs().put(body_of(vec![7; 100_000]), None, &|_| Transaction::new()).await.unwrap();
        let node = speedy.store().node_id();
        drop(speedy);
        let (chunks, aside) = (directory.path().join("chunks"), directory.path().join("aside"));
        fs::rename(&chunks, &aside).unwrap();
        for _ in 0..2 {
            let refused = open().await.unwrap_err().to_string();
            assert!(refused.contains(&format!("is about the chunks of node {node}")), "{refused}");
        }
        fs::remove_dir_all(&chunks).unwrap();
        fs::rename(&aside, &chunks).unwrap();
        open().await.unwrap();
    }

    #[tokio::test]
    async fn chunks_without_metadata_are_not_taken_for_a_new_store() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Embedded::open(directory.path(), EmbeddedOptions::default());
        let file = directory.path().join("meta/meta.redb");
        let speedy = open().await.unwrap();
        drop(speedy);
        // Without chunks there is nothing to lose.
        fs::remove_file(&file).unwrap();
        let speedy = open().await.unwrap();
        speedy.blobs().put(body_of(vec![7; 100_000]), None, &|_| Transaction::new()).await.unwrap();
        drop(speedy);
        let whole = fs::read(&file).unwrap();
        for left in [None, Some(b"")] {
            match left {
                None => fs::remove_file(&file).unwrap(),
                Some(bytes) => fs::write(&file, bytes).unwrap(),
            }
            for _ in 0..2 {
                let refused = open().await.unwrap_err().to_string();
                assert!(refused.contains("there are 1 chunks under chunks/"), "{refused}");
                assert_eq!(file.exists(), left.is_some(), "a restore finds the place as it was");
            }
        }
        fs::remove_file(&file).unwrap();
        let rebuild = || Embedded::open(directory.path(), EmbeddedOptions::default().rebuilds(true));
        // One that breaks off leaves metadata of which nothing can be served.
        drop(rebuild().await.unwrap());
        assert!(matches!(open().await.unwrap_err(), OpenError::NoMetadata { chunks: 1, .. }));
        rebuild().await.unwrap().rebuilt().await.unwrap();
        open().await.unwrap();
        fs::write(&file, whole).unwrap();
        open().await.unwrap();
    }
}
