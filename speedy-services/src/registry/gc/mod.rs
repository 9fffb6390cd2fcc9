//! Garbage collection: finds what nobody needs and frees it, while pushes and pulls go on.
//!
//! `docs/gc.md` says what is of no use, and why nothing is freed on which a push in flight counts.

mod cycle;
mod progress;
pub mod report;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use speedy_core::blob::{BlobError, BlobStore, Collector, Leaseholder, Pace};
use speedy_core::meta::{Overlay, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::repositories::Repositories;
use crate::drain::Drain;
use cycle::{Cycle, Items, Observer};
use progress::{Phase, Progress};
use report::{Finished, Policy, Report, Status, Tally};

/// Walks that a run makes at most: each frees what the one before set free.
const MOST_CYCLES: usize = 16;
/// How long a walk that could not go on rests.
const REST: Duration = Duration::from_secs(30);
/// How long a run waits for a collector elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the lease may take to be given back; after that it runs out by itself.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// How garbage is collected.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GcOptions {
    /// How long after the end of one walk the next begins, by default 5 minutes; `None` for walks only on demand.
    pub interval: Option<Duration>,
    /// What is kept for how long.
    pub ages: Ages,
    /// Things that are looked at in a second, by default 5,000; `None` for as many as it goes.
    pub rate: Option<NonZeroU32>,
}

/// How long what is of no use is kept; `None` for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ages {
    /// Manifests without a tag: for ever by default.
    pub untagged: Option<Duration>,
    /// Blobs that no manifest of a repository needs, and images of v1 that no tag reaches: 24 hours by default.
    pub unreferenced: Option<Duration>,
}

impl Default for Ages {
    fn default() -> Self {
        Self { untagged: None, unreferenced: Some(Duration::from_secs(24 * 3600)) }
    }
}

impl Default for GcOptions {
    fn default() -> Self {
        let interval = Some(Duration::from_secs(300));
        Self { interval, ages: Ages::default(), rate: NonZeroU32::new(5000) }
    }
}

impl GcOptions {
    /// Sets [`interval`](Self::interval).
    #[must_use]
    pub fn interval(mut self, interval: Option<Duration>) -> Self {
        self.interval = interval;
        self
    }

    /// Sets [`ages`](Self::ages).
    #[must_use]
    pub fn ages(mut self, ages: Ages) -> Self {
        self.ages = ages;
        self
    }

    /// Sets [`rate`](Self::rate).
    #[must_use]
    pub fn rate(mut self, rate: Option<NonZeroU32>) -> Self {
        self.rate = rate;
        self
    }
}

/// The collector of a process. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Gc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    repositories: Repositories,
    options: GcOptions,
    place: String,
    collector: tokio::sync::Mutex<Collector>,
    /// Told when somebody asks for a run: the walk in the background makes room, and goes on afterwards.
    asked: Notify,
    counted: Arc<Mutex<Counted>>,
}

/// What a process has done since it started.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    total: Tally,
    cycles: u64,
    failures: u64,
    ended: Option<Timestamp>,
}

/// What a collector has done since its process started, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GcFigures {
    /// What it removed and freed; what waits is what waited last.
    pub total: Tally,
    /// Walks that came to their end.
    pub cycles: u64,
    /// Walks that could not go on, and were taken up again later.
    pub failures: u64,
    /// When the last walk of this process ended, in milliseconds since the Unix epoch.
    pub ended: Option<u64>,
}

impl Gc {
    /// The collector over a blob store. `place` is where others ask it: its admin address.
    pub fn new(blobs: BlobStore, options: GcOptions, place: impl Into<String>) -> Self {
        let place = place.into();
        let blobs = blobs.making_room();
        let collector = tokio::sync::Mutex::new(Collector::new(blobs.clone()).at(&place));
        Self(Arc::new(Inner {
            repositories: Repositories::new(blobs),
            options,
            place,
            collector,
            asked: Notify::new(),
            counted: Arc::default(),
        }))
    }

    /// Lets nobody hold the lease: over metadata that no other process sees, before the first walk of this one. Who has
    /// it then was killed.
    ///
    /// # Errors
    /// What the metadata store reports.
    pub async fn begin_alone(&self) -> Result<(), BlobError> {
        self.0.collector.lock().await.depose().await
    }

    /// Gives the lease back after a walk that was dropped where it stood, so that others need not wait for it to run out.
    pub async fn release(&self) {
        self.0.collector.lock().await.release().await;
    }

    /// [Walks](Self::run) until the process drains, and gives the lease back then.
    pub async fn run_until(self, drain: Drain) {
        tokio::select! {
            () = self.clone().run() => drain.started().await,
            () = drain.started() => {}
        }
        let _ = tokio::time::timeout(GIVE_BACK, self.release()).await;
    }

    /// Walks again and again, until it is dropped.
    pub async fn run(self) {
        let Some(interval) = self.0.options.interval else { return };
        loop {
            match self.due(interval).await {
                Ok(wait) => tokio::time::sleep(wait).await,
                Err(error) => {
                    tracing::debug!(%error, "the collector waits for the metadata store");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            }
            let walked = tokio::select! {
                walked = self.walk() => walked,
                () = self.0.asked.notified() => Ok(false),
            };
            match walked {
                Ok(true) => {}
                // Another process walks, or a run was asked for here.
                Ok(false) => tokio::time::sleep(REST.min(interval)).await,
                Err(error) => {
                    self.0.counted.lock().failures += 1;
                    tracing::warn!(%error, "the collector could not go on; it does so later, from where it was");
                    tokio::time::sleep(REST.min(interval)).await;
                }
            }
        }
    }

    /// How long to wait for the next walk, whoever made the last one.
    async fn due(&self, interval: Duration) -> Result<Duration, BlobError> {
        let meta = self.0.repositories.meta();
        let (now, progress) = (meta.now().await?, Progress::load(meta.as_ref()).await?);
        if progress.phase() != Phase::Idle {
            // One was interrupted. Whoever did so may be about to go on.
            return Ok(interval.min(Duration::from_secs(1)));
        }
        Ok(match progress.last {
            Some(last) => interval.saturating_sub(now.since(Timestamp(last.ended))),
            None => interval,
        })
    }

    /// One walk from where the last one was left; `false` where another process is at it.
    async fn walk(&self) -> Result<bool, BlobError> {
        let mut collector = self.0.collector.lock().await;
        if !collector.lease().await? {
            return Ok(false);
        }
        let pace = Pace::new(self.0.options.rate);
        collector.set_pace(pace.clone());
        let progress = Progress::load(self.0.repositories.meta().as_ref()).await?;
        let observer = Some(Observer::new(&self.0.counted, &progress));
        let (repositories, ages) = (&self.0.repositories, self.0.options.ages);
        let mut cycle = Cycle::new(repositories, &mut collector, ages, pace, progress, observer);
        let walked = cycle.run().await;
        let progress = cycle.progress;
        if walked.is_ok() {
            self.finish(progress).await?;
        }
        collector.release().await;
        walked.map(|()| true)
    }

    /// Keeps that a walk came to its end.
    async fn finish(&self, progress: Progress) -> Result<(), BlobError> {
        let meta = self.0.repositories.meta();
        let tally = progress.tally.unwrap_or_default();
        let ended = meta.now().await?;
        let last = Some(Finished { began: progress.began, ended: ended.0, tally });
        Progress { last, ..Progress::default() }.save(meta.as_ref()).await?;
        let mut counted = self.0.counted.lock();
        counted.cycles += 1;
        counted.ended = Some(ended);
        if tally.removed() > 0 {
            tracing::info!(
                uploads = tally.uploads,
                manifests = tally.manifests,
                links = tally.links,
                images = tally.images,
                blobs = tally.blobs,
                emptied = tally.emptied,
                orphans = tally.orphans,
                repositories = tally.repositories,
                freed_bytes = tally.freed_bytes(),
                "freed what nobody needs"
            );
        }
        Ok(())
    }

    /// Walks now, until there is nothing more to free.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] where another process collects, with its address; what storage reports.
    pub async fn run_now(&self, ages: Ages, rate: Option<NonZeroU32>) -> Result<Report, BlobError> {
        self.0.asked.notify_waiters();
        let mut collector = self.0.collector.lock().await;
        let began = Instant::now();
        while !collector.lease().await? {
            if began.elapsed() > PATIENCE {
                // It gave the lease back just now, perhaps.
                let Some(other) = collector.leaseholder().await? else { continue };
                return Err(BlobError::Unavailable(self.refusal(&other)));
            }
            tokio::time::sleep(PATIENCE / 10).await;
        }
        let pace = Pace::new(rate);
        collector.set_pace(pace.clone());
        let mut done = Tally::default();
        let mut walked = Ok(());
        for _ in 0..MOST_CYCLES {
            match self.walk_anew(&mut collector, ages, &pace).await {
                Ok(tally) => {
                    done = done.then(&tally);
                    if tally.removed() == 0 {
                        break;
                    }
                }
                Err(error) => {
                    walked = Err(error);
                    break;
                }
            }
        }
        collector.release().await;
        walked?;
        Ok(self.report(false, ages, done, Items::default(), began))
    }

    /// Why there is no run while `other` has the lease.
    fn refusal(&self, other: &Leaseholder) -> String {
        let seconds = other.left.as_secs() + 1;
        if !other.place.is_empty() && other.place == self.0.place {
            return format!(
                "a process at this address, {}, was collecting when it was killed, or another one that calls itself so \
                 collects now; try again in {seconds} s, when a dead one's turn is over",
                other.place
            );
        }
        let at = if other.place.is_empty() { String::new() } else { format!(", at {}", other.place) };
        format!(
            "another process collects now{at}; ask that one, or, if it was killed, try again in {seconds} s, when its \
             turn is over"
        )
    }

    /// One walk from the beginning to the end.
    async fn walk_anew(
        &self,
        collector: &mut Collector,
        ages: Ages,
        pace: &Pace,
    ) -> Result<Tally, BlobError> {
        let repositories = &self.0.repositories;
        let kept = Progress::load(repositories.meta().as_ref()).await?;
        let progress = Progress { last: kept.last, ..Progress::default() };
        let observer = Some(Observer::new(&self.0.counted, &progress));
        let mut cycle = Cycle::new(repositories, collector, ages, pace.clone(), progress, observer);
        cycle.run().await?;
        let progress = cycle.progress;
        let tally = progress.tally.unwrap_or_default();
        self.finish(progress).await?;
        Ok(tally)
    }

    /// What [`run_now`](Self::run_now) would do: it is done, on metadata that changes for nobody else, and without
    /// deleting a chunk. Chunks of no blob are not looked for.
    ///
    /// # Errors
    /// What storage reports.
    pub async fn rehearse(&self, ages: Ages, rate: Option<NonZeroU32>) -> Result<Report, BlobError> {
        let began = Instant::now();
        let blobs = self.0.repositories.blobs();
        let overlay = Arc::new(Overlay::new(Arc::clone(blobs.meta())));
        let over = BlobStore::new(
            overlay,
            Arc::clone(blobs.fragments()),
            blobs.budget().clone(),
            blobs.options().clone(),
        );
        let pace = Pace::new(rate);
        let mut collector = Collector::new(over.clone()).rehearsing();
        collector.set_pace(pace.clone());
        let repositories = Repositories::new(over);
        let (mut done, mut items) = (Tally::default(), Items::default());
        // Others may be at work below; here the lease is this one's.
        collector.depose().await?;
        collector.lease().await?;
        for _ in 0..MOST_CYCLES {
            let progress = Progress::default();
            let mut cycle = Cycle::new(&repositories, &mut collector, ages, pace.clone(), progress, None);
            cycle.items = Some(std::mem::take(&mut items));
            cycle.run().await?;
            items = cycle.items.take().unwrap_or_default();
            let tally = cycle.progress.tally.unwrap_or_default();
            done = done.then(&tally);
            if tally.removed() == 0 {
                break;
            }
        }
        Ok(self.report(true, ages, done, items, began))
    }

    fn report(&self, dry_run: bool, ages: Ages, tally: Tally, items: Items, began: Instant) -> Report {
        Report {
            dry_run,
            policy: ages.into(),
            tally,
            items: items.list,
            more_items: items.more,
            milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The policy of this process.
    pub fn ages(&self) -> Ages {
        self.0.options.ages
    }

    /// Things that this process looks at in a second.
    pub fn rate(&self) -> Option<NonZeroU32> {
        self.0.options.rate
    }

    /// Where others ask it.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// What it has done since its process started.
    pub fn figures(&self) -> GcFigures {
        let counted = *self.0.counted.lock();
        GcFigures {
            total: counted.total,
            cycles: counted.cycles,
            failures: counted.failures,
            ended: counted.ended.map(|ended| ended.0),
        }
    }
}

/// How the collector of a blob store is, wherever it runs. `own` is the one of this process, if it has one.
///
/// # Errors
/// What the metadata store reports.
pub async fn status(blobs: &BlobStore, own: Option<&Gc>) -> Result<Status, BlobError> {
    let progress = Progress::load(blobs.meta().as_ref()).await?;
    let at = Collector::new(blobs.clone()).leaseholder().await?.map(|holder| holder.place);
    let is_idle = progress.phase() == Phase::Idle;
    Ok(Status {
        at,
        phase: (!is_idle).then(|| progress.phase().looks_at().to_owned()),
        current: progress.tally.filter(|_| !is_idle),
        began: (!is_idle).then_some(progress.began),
        last: progress.last,
        policy: own.map(|own| own.ages().into()),
    })
}

impl From<Ages> for Policy {
    fn from(ages: Ages) -> Self {
        let milliseconds = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { untagged: ages.untagged.map(milliseconds), unreferenced: ages.unreferenced.map(milliseconds) }
    }
}
