//! One walk over everything, in the steps of [`Phase`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use speedy_core::blob::{BlobError, Collected, Collector, Pace, all_references, holder_of_reference};
use speedy_core::digest::Digest;
use speedy_core::id::BlobId;
use speedy_core::meta::{Check, Entry, KeyRange, Timestamp, Transaction, Write};
use tokio::time::Instant;

use super::progress::{Phase, Progress};
use super::report::{Item, Tally};
use super::{Ages, Counted};
use crate::registry::names::RepositoryName;
use crate::registry::repositories::{Fate, Repositories, keys};
use crate::registry::v1::{self, Images};

/// Entries looked at in one page; fewer where they are manifests, which come whole.
const PAGE: usize = 256;
const MANIFESTS: usize = 32;
/// Entries looked at at once.
const AT_ONCE: usize = 8;
/// Manifests whose leftovers are looked for in one walk over all references. The others wait for the next.
const LEFTOVERS: usize = 10_000;
/// How long what is known of uploads under way is taken to be true.
const BUSY: Duration = Duration::from_secs(60);
/// Most things that a dry run names one by one.
const ITEMS: usize = 1000;

/// What upload sessions are called that are there, and when the oldest of each name began.
type Busy = Arc<BTreeMap<String, Timestamp>>;

/// What became of the things that belong to an entry.
struct Judged<T> {
    key: Bytes,
    fates: Result<Vec<(T, Fate)>, BlobError>,
}

impl<T> Judged<T> {
    /// There is one.
    fn one(entry: Entry, fate: Result<Fate, BlobError>, thing: T) -> Self {
        Self { key: entry.key, fates: fate.map(|fate| vec![(thing, fate)]) }
    }

    /// The entry is of a later version.
    fn none(entry: Entry) -> Self {
        Self { key: entry.key, fates: Ok(Vec::new()) }
    }
}

/// A walk, from where [`Progress`] says.
pub(super) struct Cycle<'a> {
    pub(super) repositories: &'a Repositories,
    pub(super) collector: &'a mut Collector,
    pub(super) ages: Ages,
    pub(super) pace: Pace,
    pub(super) progress: Progress,
    /// What is removed, by name, where somebody wants to know.
    pub(super) items: Option<Items>,
    /// Told what was done after each page; `None` where nothing is changed, and chunks of no blob are not looked for.
    pub(super) observer: Option<Observer>,
    /// Repositories, and images of v1, to which somebody uploads, and when that was found out.
    busy: Busy,
    busy_since: Option<Instant>,
    /// What had been looked at when this began.
    examined: u64,
}

/// What a process counts of a walk that may have been begun by another one.
#[derive(Debug)]
pub(super) struct Observer {
    counted: Arc<Mutex<Counted>>,
    /// What the process had done before.
    total: Tally,
    /// What of the walk had been done before.
    before: Tally,
}

impl Observer {
    pub(super) fn new(counted: &Arc<Mutex<Counted>>, progress: &Progress) -> Self {
        let total = counted.lock().total;
        Self { counted: Arc::clone(counted), total, before: progress.tally.unwrap_or_default() }
    }

    fn told(&self, tally: &Tally) {
        self.counted.lock().total = self.total.then(&tally.less(&self.before));
    }
}

/// Things by name, as many as fit into a report.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) list: Vec<Item>,
    pub(super) more: u64,
}

impl Items {
    pub(super) fn add(&mut self, item: impl FnOnce() -> Item) {
        if self.list.len() < ITEMS {
            self.list.push(item());
        } else {
            self.more += 1;
        }
    }
}

impl<'a> Cycle<'a> {
    pub(super) fn new(
        repositories: &'a Repositories,
        collector: &'a mut Collector,
        ages: Ages,
        pace: Pace,
        progress: Progress,
        observer: Option<Observer>,
    ) -> Self {
        let examined = pace.total();
        Self {
            repositories,
            collector,
            ages,
            pace,
            progress,
            items: None,
            observer,
            busy: Busy::default(),
            busy_since: None,
            examined,
        }
    }

    /// Walks to the end. It can be dropped at any point: what is kept says where to go on.
    pub(super) async fn run(&mut self) -> Result<(), BlobError> {
        if self.progress.phase() == Phase::Idle {
            let began = self.repositories.meta().now().await?.0;
            let last = self.progress.last;
            self.progress = Progress { began, last, ..Progress::default() };
            self.progress.set_phase(Phase::Uploads);
        }
        while self.progress.phase() != Phase::Idle {
            // What a chunk of no blob is takes two walks to know.
            let is_known = self.observer.is_some() || self.progress.phase() != Phase::Orphans;
            if is_known {
                self.collector.keep_lease().await?;
                self.progress.save(self.repositories.meta().as_ref()).await?;
                self.phase().await?;
                self.observe();
            }
            let next = self.progress.phase().next();
            self.progress.set_phase(next);
            self.progress.from = Bytes::new();
        }
        Ok(())
    }

    async fn phase(&mut self) -> Result<(), BlobError> {
        match self.progress.phase() {
            Phase::Idle => Ok(()),
            Phase::Uploads | Phase::Dead | Phase::Orphans => self.bytes().await,
            Phase::Pending => self.pending().await,
            Phase::Leftovers => self.leftovers().await,
            Phase::Manifests => match self.ages.untagged {
                Some(age) => self.manifests(age).await,
                None => Ok(()),
            },
            Phase::Links => match self.ages.unreferenced {
                Some(age) => self.links(age).await,
                None => Ok(()),
            },
            Phase::Images => match self.ages.unreferenced {
                Some(age) => self.images(age).await,
                None => Ok(()),
            },
            Phase::Blobs => match self.ages.unreferenced {
                Some(age) => self.blobs(age).await,
                None => Ok(()),
            },
            Phase::Repositories => self.empty_repositories().await,
        }
    }

    /// What the blob room does by itself.
    async fn bytes(&mut self) -> Result<(), BlobError> {
        let mut collected = Collected::default();
        let done = match self.progress.phase() {
            Phase::Uploads => self.collector.expire_uploads(&mut collected).await,
            Phase::Dead => self.collector.empty_dead(&mut collected).await,
            _ => self.collector.free_orphans(&mut collected).await,
        };
        // What was done before it failed was done.
        let tally = self.progress.done();
        tally.uploads += collected.uploads;
        tally.upload_bytes += collected.upload_bytes;
        tally.emptied += collected.blobs;
        tally.emptied_bytes += collected.blob_bytes;
        tally.orphans += collected.orphans;
        tally.orphan_bytes += collected.orphan_bytes;
        tally.suspects += collected.suspects;
        tally.unknown += collected.unknown;
        done
    }

    async fn pending(&mut self) -> Result<(), BlobError> {
        let repositories = self.repositories;
        let judge = |entry: Entry, _| async move {
            let Some((name, digest)) = keys::name_and_digest(&entry.key) else { return Judged::none(entry) };
            let ended = repositories.collect_pending(&name, &digest, &entry).await;
            Judged::one(entry, ended.map(|_| Fate::Kept), ())
        };
        self.walk(keys::all_pending(), PAGE, judge, |_, (), _| {}).await
    }

    /// Looks through all references for those of manifests that may have left some. Without such there is nothing to
    /// look through.
    async fn leftovers(&mut self) -> Result<(), BlobError> {
        let found = self.repositories.meta().scan(keys::leftovers(), LEFTOVERS).await?.entries;
        let manifests: BTreeMap<Bytes, (RepositoryName, Digest)> = found
            .iter()
            .filter_map(|entry| keys::name_and_digest(&entry.key))
            .map(|(name, digest)| (Repositories::holder_of_references(&name, &digest), (name, digest)))
            .collect();
        // The whole walk or none of it: who goes on in its middle would not know whom it was for.
        let mut rest = Some(all_references()).filter(|_| !manifests.is_empty());
        while let Some(range) = rest {
            self.collector.keep_lease().await?;
            let page = self.repositories.meta().scan(range, PAGE).await?;
            self.pace.examined(page.entries.len()).await;
            for entry in page.entries {
                let of = holder_of_reference(&entry.key).and_then(|holder| manifests.get(holder));
                let Some((name, digest)) = of else { continue };
                let removed = self.repositories.collect_reference(name, digest, entry.key).await?;
                self.progress.done().references += u64::from(removed);
            }
            rest = page.next;
        }
        for (name, digest) in manifests.values() {
            self.progress.done().references += self.repositories.collect_parents(name, digest).await?;
        }
        for entry in found {
            let done = Transaction::new().check(Check::Version(entry.key.clone(), entry.version));
            // One that was written again has left something since.
            let done = done.write(Write::Delete(entry.key)).relaxed();
            let _ = self.repositories.meta().transact(done).await?;
        }
        Ok(())
    }

    async fn manifests(&mut self, age: Duration) -> Result<(), BlobError> {
        let repositories = self.repositories;
        let judge = |entry: Entry, busy: Busy| async move {
            let Some((name, digest)) = keys::name_and_digest(&entry.key) else { return Judged::none(entry) };
            let uploading = busy.get(name.as_str()).copied();
            let fate = repositories.collect_manifest(&name, &digest, &entry, age, uploading).await;
            Judged::one(entry, fate, (name, digest))
        };
        self.walk(keys::all_manifests(), MANIFESTS, judge, |cycle, (name, digest), fate| {
            let tally = cycle.progress.done();
            match fate {
                Fate::Kept => {}
                Fate::Waits(_) => tally.waiting_manifests += 1,
                Fate::Spared(_) => tally.spared_manifests += 1,
                Fate::Removed(bytes) => {
                    tally.manifests += 1;
                    tally.manifest_bytes += bytes;
                    cycle.tell("manifest", Some(&name), digest.to_string(), bytes, || {
                        format!("no tag, index or subject has kept it for {}", spoken(age))
                    });
                }
            }
        })
        .await
    }

    async fn links(&mut self, age: Duration) -> Result<(), BlobError> {
        let repositories = self.repositories;
        let judge = |entry: Entry, busy: Busy| async move {
            let Some((name, digest)) = keys::name_and_digest(&entry.key) else { return Judged::none(entry) };
            let uploading = busy.get(name.as_str()).copied();
            let fate = repositories.collect_link(&name, &digest, &entry, age, uploading).await;
            Judged::one(entry, fate, (name, digest))
        };
        self.walk(keys::all_links(), PAGE, judge, |cycle, (name, digest), fate| {
            let tally = cycle.progress.done();
            match fate {
                Fate::Kept => {}
                Fate::Waits(bytes) => {
                    tally.waiting_links += 1;
                    tally.waiting_link_bytes += bytes;
                }
                Fate::Spared(bytes) => {
                    tally.spared_links += 1;
                    tally.spared_link_bytes += bytes;
                }
                Fate::Removed(bytes) => {
                    tally.links += 1;
                    tally.link_bytes += bytes;
                    cycle.tell("link", Some(&name), digest.to_string(), bytes, || {
                        format!("no manifest of the repository has needed it for {}", spoken(age))
                    });
                }
            }
        })
        .await
    }

    async fn images(&mut self, age: Duration) -> Result<(), BlobError> {
        let images = Images::new(self.repositories.clone());
        let ended = images.remove_loose().await;
        self.passed_over(ended, b"V/d/")?;
        let judge = |entry: Entry, busy: Busy| {
            let images = images.clone();
            async move {
                let fates = images.collect(&entry, age, |label| busy.contains_key(label)).await;
                Judged { key: entry.key, fates }
            }
        };
        self.walk(v1::all_images(), PAGE, judge, |cycle, id: String, fate| {
            let tally = cycle.progress.done();
            match fate {
                Fate::Kept | Fate::Spared(_) => {}
                Fate::Waits(_) => tally.waiting_images += 1,
                Fate::Removed(bytes) => {
                    tally.images += 1;
                    cycle.tell("image", None, id, bytes, || {
                        format!("no tag of v1 has reached it for {}", spoken(age))
                    });
                }
            }
        })
        .await
    }

    async fn blobs(&mut self, age: Duration) -> Result<(), BlobError> {
        let mut after = BlobId::try_from(&self.progress.from[..]).ok();
        loop {
            self.collector.keep_lease().await?;
            let (blobs, next) = self.repositories.blobs().list(after, PAGE).await?;
            self.pace.examined(blobs.len()).await;
            let repositories = self.repositories;
            let judged = blobs.into_iter().filter(|blob| blob.is_live).map(|blob| async move {
                let fate = repositories.collect_blob(&blob, age).await;
                let key = Bytes::copy_from_slice(blob.id.as_bytes());
                Judged { key, fates: fate.map(|fate| vec![(blob.id, fate)]) }
            });
            self.settle(judged.collect(), &|cycle, id, fate| {
                let tally = cycle.progress.done();
                match fate {
                    Fate::Kept | Fate::Spared(_) => {}
                    Fate::Waits(bytes) => {
                        tally.waiting_blobs += 1;
                        tally.waiting_blob_bytes += bytes;
                    }
                    Fate::Removed(bytes) => {
                        tally.blobs += 1;
                        tally.blob_bytes += bytes;
                        cycle.tell("blob", None, id.to_string(), bytes, || "no repository has it".into());
                    }
                }
            })
            .await?;
            after = next;
            let Some(after) = after else { return Ok(()) };
            self.progress.from = Bytes::copy_from_slice(after.as_bytes());
            self.progress.save(self.repositories.meta().as_ref()).await?;
        }
    }

    async fn empty_repositories(&mut self) -> Result<(), BlobError> {
        let repositories = self.repositories;
        let count = |cycle: &mut Self, (), fate: Fate| {
            cycle.progress.done().repositories += u64::from(fate == Fate::Removed(0));
        };
        let judge = |entry: Entry, _| async move {
            let Some(name) = keys::name_of_repository(&entry.key) else { return Judged::none(entry) };
            let removed = repositories.collect_repository(&name, &entry).await;
            Judged::one(entry, removed.map(|removed| Fate::of(removed, 0)), ())
        };
        self.walk(keys::repositories(None), PAGE, judge, count).await?;
        let Some(age) = self.ages.unreferenced else { return Ok(()) };
        let images = Images::new(self.repositories.clone());
        let judge = |entry: Entry, _| {
            let images = images.clone();
            async move {
                let removed = images.collect_repository(&entry, age).await;
                Judged::one(entry, removed.map(|removed| Fate::of(removed, 0)), ())
            }
        };
        self.walk(v1::all_repositories(None), PAGE, judge, count).await
    }

    /// Walks over a range from where that was left: has its entries judged, several at once, and counts what became of
    /// each thing.
    async fn walk<T, F: Future<Output = Judged<T>>>(
        &mut self,
        all: KeyRange,
        limit: usize,
        judge: impl Fn(Entry, Busy) -> F,
        count: impl Fn(&mut Self, T, Fate),
    ) -> Result<(), BlobError> {
        let mut rest = Some(self.resumed(all));
        while let Some(range) = rest {
            let (entries, next) = self.page(range, limit).await?;
            self.look_for_uploads().await?;
            let judged = entries.into_iter().map(|entry| judge(entry, Arc::clone(&self.busy))).collect();
            self.settle(judged, &count).await?;
            rest = next;
        }
        Ok(())
    }

    /// Judges the things of a page and counts what became of each.
    async fn settle<T, F: Future<Output = Judged<T>>>(
        &mut self,
        judged: Vec<F>,
        count: &impl Fn(&mut Self, T, Fate),
    ) -> Result<(), BlobError> {
        for Judged { key, fates } in stream::iter(judged).buffered(AT_ONCE).collect::<Vec<_>>().await {
            for (thing, fate) in self.passed_over(fates, &key)? {
                count(self, thing, fate);
            }
        }
        self.observe();
        Ok(())
    }

    /// What is left of a range from where the walk stands.
    fn resumed(&self, all: KeyRange) -> KeyRange {
        match all.contains(&self.progress.from) {
            true => KeyRange { start: self.progress.from.clone(), ..all },
            false => all,
        }
    }

    /// The entries at the beginning of a range, and the rest of it. Keeps that the walk is there.
    async fn page(
        &mut self,
        range: KeyRange,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<KeyRange>), BlobError> {
        self.collector.keep_lease().await?;
        if self.progress.from != range.start {
            self.progress.from = range.start.clone();
            self.progress.save(self.repositories.meta().as_ref()).await?;
        }
        let page = self.repositories.meta().scan(range, limit).await?;
        self.pace.examined(page.entries.len()).await;
        Ok((page.entries, page.next))
    }

    /// Finds out to which repositories somebody uploads: a push whose next layer takes its time keeps the ones before.
    async fn look_for_uploads(&mut self) -> Result<(), BlobError> {
        if self.busy_since.is_none_or(|since| since.elapsed() >= BUSY) {
            self.busy = Arc::new(self.collector.labels().await?);
            self.busy_since = Some(Instant::now());
        }
        Ok(())
    }

    /// What can't be read is kept, and does not stop the walk.
    fn passed_over<R: Default>(&mut self, done: Result<R, BlobError>, key: &[u8]) -> Result<R, BlobError> {
        match done {
            Err(error @ BlobError::Damaged { .. }) => {
                let key = key.escape_ascii();
                tracing::warn!(%key, %error, "the collector passes over what it can't read; it is kept");
                self.progress.done().unreadable += 1;
                Ok(R::default())
            }
            done => done,
        }
    }

    fn tell(
        &mut self,
        what: &str,
        repository: Option<&RepositoryName>,
        name: String,
        bytes: u64,
        why: impl FnOnce() -> String,
    ) {
        if let Some(items) = &mut self.items {
            let repository = repository.map(ToString::to_string);
            items.add(|| Item { what: what.into(), repository, name, bytes, why: why() });
        }
    }

    fn observe(&mut self) {
        let examined = self.pace.total();
        self.progress.done().examined += examined - std::mem::replace(&mut self.examined, examined);
        let tally = *self.progress.done();
        if let Some(observer) = &self.observer {
            observer.told(&tally);
        }
    }
}

fn spoken(age: Duration) -> String {
    humantime::format_duration(age).to_string()
}
