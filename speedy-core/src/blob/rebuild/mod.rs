//! Layouts made anew from what chunk nodes hold, after a loss of metadata.

mod census;
mod commit;
mod mend;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, TryStreamExt};
use parking_lot::Mutex;

use self::census::{Census, Chunk};
use self::commit::Known;
use self::plan::Plan;
use super::records::{BlobRecord, State, UploadRecord, decode, decode_of};
use super::{BlobError, BlobInfo, BlobStore, Collector, Fragment, keys, trust};
use crate::digest::Digest;
use crate::id::{BlobId, GroupId};
use crate::meta::{Entry, Timestamp};

/// Blobs that are read at once.
const BLOBS_AT_ONCE: usize = 4;
/// Blobs that are named one by one in a report; of the others only the number is kept.
const MOST_NAMED: usize = 1000;

/// How a rebuild works.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RebuildOptions {
    /// Look and read, and change nothing.
    pub dry_run: bool,
    /// Let the [`Collector`] free what could not be rebuilt.
    pub release: bool,
    /// How long an upload session must have rested before it is taken for one whose end was lost: 10 minutes by
    /// default. Younger ones are left alone.
    pub idle: Duration,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self { dry_run: false, release: false, idle: Duration::from_secs(600) }
    }
}

/// Who follows a rebuild.
#[async_trait]
pub trait RebuildObserver: Send + Sync {
    /// So many bytes of chunks of so many are done.
    fn progress(&self, _done: u64, _of: u64) {}

    /// A blob is live, because it was before or by now. Called once for each; not in a dry run.
    async fn live(&self, _blob: &BlobInfo) -> Result<(), BlobError> {
        Ok(())
    }
}

/// A blob that could not be rebuilt, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotRebuilt {
    /// The blob.
    pub blob: BlobId,
    /// Bytes of it that chunk nodes hold.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// What a rebuild found and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Groups whose chunks were looked at.
    pub groups: Vec<GroupId>,
    /// Chunks that were looked at.
    pub chunks: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Blobs that the metadata knows, live or dead.
    pub known: u64,
    /// Blobs that are still uploading, or were given up there.
    pub uploading: u64,
    /// Fragments of live blobs that were moved to another group after the backup, and are named there now.
    pub moved: u64,
    /// Blobs made live again; in a dry run those that would be.
    pub rebuilt: u64,
    /// Bytes of those, all read and verified.
    pub rebuilt_bytes: u64,
    /// Blobs with the content of another that is live.
    pub duplicates: u64,
    /// Blobs that could not be rebuilt, and live ones that name chunks which are nowhere.
    pub failed: u64,
    /// The first thousand of those.
    pub not_rebuilt: Vec<NotRebuilt>,
    /// Chunks that no layout names: of blobs that could not be rebuilt, of duplicates, of tries that were given up.
    /// They are kept until the rebuild is told to [release](RebuildOptions::release) them.
    pub left: u64,
}

impl BlobStore {
    /// Makes the blobs live again that the metadata does not know and chunk nodes hold whole: every byte is read and
    /// verified, and the digest is that of the bytes. Of blobs that are known only fragments change that were moved to
    /// another group since: they are named where they are. So it can be run again, and after a restore of an old backup it
    /// adds what that lacks. While it runs no collector does.
    ///
    /// What can't come back: repositories, tags, and what manifests up to 64 KiB said, which are metadata alone. How long
    /// a blob was is not written anywhere else either: an upload that was never finished comes back as a blob of what
    /// had come, under a digest that nobody asks for.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] when chunks can't be listed or read for another reason than damage, or a collector
    /// does not let go; [`BlobError::Full`] when there is no room for metadata. What was done stays; run it again.
    pub async fn rebuild(
        &self,
        options: RebuildOptions,
        observer: &dyn RebuildObserver,
    ) -> Result<Rebuilt, BlobError> {
        if options.dry_run {
            return self.rebuild_held(options, observer).await;
        }
        let lease = Collector::new(self.clone()).hold().await?;
        let rebuilt = self.rebuild_held(options, observer).await;
        lease.release().await;
        rebuilt
    }

    async fn rebuild_held(
        &self,
        options: RebuildOptions,
        observer: &dyn RebuildObserver,
    ) -> Result<Rebuilt, BlobError> {
        let census = Census::take(self.fragments().as_ref()).await?;
        let rebuild = Rebuild {
            store: self,
            options,
            observer,
            total: census.bytes,
            sessions: sessions(self).await?,
            now: self.meta().now().await?,
            report: Mutex::new(Rebuilt {
                groups: census.groups.iter().copied().collect(),
                chunks: census.chunks,
                bytes: census.bytes,
                ..Rebuilt::default()
            }),
            done: Mutex::new(0),
        };
        for part in census.parts() {
            rebuild.part(part).await?;
        }
        rebuild.finish(&census.groups).await
    }
}

/// An upload session that the metadata knows.
struct Session {
    entry: Entry,
    record: UploadRecord,
}

/// The sessions by the blob that they fill.
async fn sessions(store: &BlobStore) -> Result<HashMap<BlobId, Session>, BlobError> {
    let (mut sessions, mut rest) = (HashMap::new(), Some(keys::uploads()));
    while let Some(range) = rest {
        let page = store.meta().scan(range, 256).await?;
        for entry in page.entries {
            let Ok(record) = decode::<UploadRecord>(&entry) else { continue };
            if let Ok(blob) = BlobId::try_from(&record.blob[..]) {
                sessions.insert(blob, Session { entry, record });
            }
        }
        rest = page.next;
    }
    Ok(sessions)
}

struct Rebuild<'a> {
    store: &'a BlobStore,
    options: RebuildOptions,
    observer: &'a dyn RebuildObserver,
    total: u64,
    sessions: HashMap<BlobId, Session>,
    now: Timestamp,
    report: Mutex<Rebuilt>,
    done: Mutex<u64>,
}

/// What became of a blob.
enum End {
    Known(Option<BlobInfo>),
    /// A live blob that names so many chunks that are nowhere.
    Broken(u64),
    Uploading,
    Rebuilt(BlobInfo, Plan),
    Duplicate(BlobInfo),
    Failed(String),
}

impl Rebuild<'_> {
    /// Rebuilds the blobs of one part of the census.
    async fn part(&self, suffixes: std::ops::RangeInclusive<u16>) -> Result<(), BlobError> {
        let mut chunks = census::chunks_of(self.store.fragments().as_ref(), suffixes).await?;
        chunks.sort_unstable_by_key(|chunk| chunk.blob);
        let blobs = chunks.chunk_by(|one, next| one.blob == next.blob).map(Ok::<_, BlobError>);
        stream::iter(blobs).try_for_each_concurrent(BLOBS_AT_ONCE, |chunks| self.blob(chunks)).await
    }

    async fn blob(&self, chunks: &[Chunk]) -> Result<(), BlobError> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let id = first.blob;
        let end = self.decide(id, chunks).await?;
        let bytes = chunks.iter().map(|chunk| chunk.fragment.length).sum();
        let mut live = None;
        {
            let mut report = self.report.lock();
            match end {
                End::Known(info) => {
                    report.known += 1;
                    live = info;
                }
                End::Broken(lost) => {
                    report.known += 1;
                    report.failed += 1;
                    let reason = format!(
                        "it is live and {lost} of its chunks are on no node: it was deleted after the backup, or lost. \
                         Delete what needs it"
                    );
                    report.not_rebuilt.push(NotRebuilt { blob: id, bytes, reason });
                    report.not_rebuilt.truncate(MOST_NAMED);
                }
                End::Uploading => report.uploading += 1,
                End::Rebuilt(info, plan) => {
                    report.rebuilt += 1;
                    report.rebuilt_bytes += info.size;
                    report.left += plan.unused;
                    live = Some(info);
                }
                End::Duplicate(info) => {
                    report.duplicates += 1;
                    report.left += chunks.len() as u64;
                    live = Some(info);
                }
                End::Failed(reason) => {
                    report.failed += 1;
                    report.left += chunks.len() as u64;
                    report.not_rebuilt.push(NotRebuilt { blob: id, bytes, reason });
                    report.not_rebuilt.truncate(MOST_NAMED);
                }
            }
        }
        if let Some(live) = live
            && !self.options.dry_run
        {
            self.observer.live(&live).await?;
        }
        let mut done = self.done.lock();
        *done += bytes;
        self.observer.progress(*done, self.total);
        Ok(())
    }

    async fn decide(&self, id: BlobId, chunks: &[Chunk]) -> Result<End, BlobError> {
        let entry = self.store.meta().get(keys::blob(id)).await?;
        let record: Option<BlobRecord> = entry.as_ref().map(|entry| decode_of(id, entry)).transpose()?;
        let mut layout = Vec::new();
        // What its upload had before the backup, where it had any; all else is on no row.
        match record.as_ref().map(BlobRecord::state) {
            None => {}
            Some(State::Uploading) => {
                let Some(known) = self.lost_end(id, chunks).await? else { return Ok(End::Uploading) };
                layout = known;
            }
            Some(State::Live) => {
                let mended = mend::mend(self.store, id, chunks, self.options.dry_run).await?;
                self.report.lock().moved += mended.moved;
                if mended.lost > 0 {
                    return Ok(End::Broken(mended.lost));
                }
                let info = |record: BlobRecord| {
                    let digest = record.digests().next()?;
                    Some(BlobInfo { id, size: record.size, digest })
                };
                return Ok(End::Known(record.and_then(info)));
            }
            Some(State::Dead | State::Unknown) => return Ok(End::Known(None)),
        }
        let start = layout.last().map_or(0, |last: &Fragment| last.offset + last.length);
        let candidates = chunks.iter().map(|chunk| chunk.fragment).filter(|chunk| chunk.offset >= start);
        let plan = Plan::new(start, candidates.collect());
        let end = plan.end(start);
        if plan.beyond > 0 || end == 0 {
            return Ok(End::Failed(format!(
                "bytes from {end} on are missing, and there are some after that"
            )));
        }
        if !layout.is_empty() && plan.path.len() > commit::MOST_ADDED {
            return Ok(End::Failed("its upload went on for longer than one transaction can say".into()));
        }
        layout.extend_from_slice(&plan.path);
        let digest = match self.read(id, &layout, end).await {
            Ok(digest) => digest,
            Err(BlobError::Damaged { reason, .. }) => return Ok(End::Failed(reason)),
            Err(error) => return Err(error),
        };
        let info = BlobInfo { id, size: end, digest };
        if let Some(there) = self.store.find(&digest).await? {
            return Ok(End::Duplicate(there.info));
        }
        let known = match (&entry, self.sessions.get(&id)) {
            (Some(blob), Some(session)) => Some(Known { blob, session: &session.entry }),
            _ => None,
        };
        if !self.options.dry_run && !commit::commit(self.store, &info, &plan.path, known.as_ref()).await? {
            // Somebody was first: a client that pushes the same again, or one that goes on with this upload.
            return Ok(match self.store.find(&digest).await? {
                Some(there) => End::Duplicate(there.info),
                None => End::Uploading,
            });
        }
        Ok(End::Rebuilt(info, plan))
    }

    /// The layout as it is known of an upload that rests and of which chunks exist beyond that: it went on after the
    /// backup that the metadata comes from. `None` for any other.
    async fn lost_end(&self, id: BlobId, chunks: &[Chunk]) -> Result<Option<Vec<Fragment>>, BlobError> {
        let Some(session) = self.sessions.get(&id) else { return Ok(None) };
        let rests = self.now.since(Timestamp(session.record.active)) >= self.options.idle;
        let went_on = chunks.iter().any(|chunk| chunk.fragment.offset >= session.record.offset);
        if !rests || !went_on {
            return Ok(None);
        }
        let layout = commit::layout(self.store, id).await?;
        Ok(Some(layout.into_iter().flat_map(|(_, fragments)| fragments).collect()))
    }

    /// Reads a blob of these fragments and answers its digest.
    async fn read(&self, id: BlobId, fragments: &[Fragment], size: u64) -> Result<Digest, BlobError> {
        let scratch = commit::scratch(self.store, id, fragments).await?;
        let mut bytes = super::BlobReader::new(scratch, id, 0..size);
        let mut hasher = crate::digest::Hasher::new(crate::digest::Algorithm::Sha256);
        while let Some(run) = bytes.try_next().await? {
            hasher = super::ingest::hash_off_worker(hasher, vec![run], crate::digest::Hasher::update).await?;
        }
        Ok(hasher.finish())
    }

    async fn finish(self, groups: &BTreeSet<GroupId>) -> Result<Rebuilt, BlobError> {
        if self.options.release && !self.options.dry_run {
            for group in groups {
                trust::put(self.store, *group).await?;
            }
        }
        let mut report = self.report.into_inner();
        report.not_rebuilt.sort_by_key(|blob| blob.blob);
        Ok(report)
    }
}
