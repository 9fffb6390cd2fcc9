use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep};

use super::records::{LayoutRow, decode, encode};
use super::{BlobError, BlobStore, Fragment, keys, trust};
use crate::id::{BlobId, FileId, GroupId, Owner};
use crate::meta::{Check, Entry, KeyRange, Transaction, Write};
use crate::payload::Payload;
use crate::sync::Mutex;

/// Entries looked at in one page.
const PAGE: usize = 256;
/// Reasons of failures that are kept.
const MOST_REASONS: usize = 10;

/// What a transfer takes where to, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TransferOptions {
    to: Option<GroupId>,
    most_bytes: u64,
    bytes_per_second: Option<u64>,
    concurrency: usize,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { to: None, most_bytes: u64::MAX, bytes_per_second: None, concurrency: 4 }
    }
}

impl TransferOptions {
    /// The group to which chunks go. By default each goes where the ring puts a new one; a group of weight 0 gets none.
    #[must_use]
    pub fn to(self, group: GroupId) -> Self {
        Self { to: Some(group), ..self }
    }

    /// Bytes after which the transfer ends; by default it ends when nothing is left.
    #[must_use]
    pub fn most_bytes(self, bytes: u64) -> Self {
        Self { most_bytes: bytes, ..self }
    }

    /// Bytes a second that are moved at most; by default as fast as it goes.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub fn bytes_per_second(self, rate: Option<u64>) -> Self {
        assert!(rate != Some(0), "a transfer of 0 bytes a second never ends");
        Self { bytes_per_second: rate, ..self }
    }
}

/// Moves the fragments of blobs from one group to others, while they are read and written.
///
/// # How
/// A fragment is read, compared with its checksum in the layout, written elsewhere under a fresh id for the same owner, and put
/// into its row of the layout by compare-and-set. Whoever had loaded the row before still finds the old chunk: it stays
/// until the [`Collector`](super::Collector) has seen twice, [`orphan_grace`](super::BlobOptions::orphan_grace) apart,
/// that no layout names it. A reader that comes later still finds it gone, and loads the row again, once.
///
/// # Cancellation and crashes
/// It can be stopped at any point, and begun again: rows that were changed name other groups by then. What was written and
/// not put into a row is an orphan too.
#[derive(Debug)]
pub struct Transfer {
    store: BlobStore,
    from: GroupId,
    options: TransferOptions,
    moved: AtomicU64,
    switched: AtomicU64,
    pace: Mutex<Option<Instant>>,
    reasons: Mutex<Vec<String>>,
}

/// What of the layouts is in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InGroup {
    /// Fragments.
    pub fragments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a pass of a transfer did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Transferred {
    /// Fragments that are elsewhere now.
    pub fragments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that were changed by somebody else meanwhile, or are of a blob that died: the next pass looks at them again.
    pub conflicts: u64,
    /// Fragments that could not be read or written; each was logged, and [`Transfer::reasons`] says why.
    pub failures: u64,
}

impl Transfer {
    /// A transfer out of a group. To empty the group, give it weight 0 first, or new chunks come in meanwhile.
    pub fn new(store: BlobStore, from: GroupId, options: TransferOptions) -> Self {
        let (pace, reasons) = (Mutex::new(None), Mutex::new(Vec::new()));
        let (moved, switched) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { store, from, options, moved, switched, pace, reasons }
    }

    /// Bytes moved so far, for showing progress.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Of these, the bytes that layouts name elsewhere by now: those that stay moved when the transfer is stopped.
    pub fn switched_bytes(&self) -> u64 {
        self.switched.load(Ordering::Relaxed)
    }

    /// Why fragments could not be moved in the latest pass: each reason once, and of many the first ten.
    pub fn reasons(&self) -> Vec<String> {
        self.reasons.lock().clone()
    }

    /// What is in the group now. It reads all layouts, and no chunk.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn measure(&self) -> Result<InGroup, BlobError> {
        Ok(self.store.in_groups().await?.remove(&self.from).unwrap_or_default())
    }

    /// Goes through all layouts once and moves what is in the group.
    ///
    /// # Errors
    /// Those of the metadata store. Fragments that can't be moved are counted.
    pub async fn pass(&self) -> Result<Transferred, BlobError> {
        self.reasons.lock().clear();
        let mut done = Transferred::default();
        let mut rest = Some(KeyRange::prefix(keys::LAYOUTS));
        while let Some(range) = rest {
            let page = self.store.meta().scan(range, PAGE).await?;
            for entry in &page.entries {
                if self.moved_bytes() >= self.options.most_bytes {
                    return Ok(done);
                }
                if fragments_of(entry).any(|fragment| fragment.file.group == self.from) {
                    self.move_row(entry, &mut done).await?;
                }
            }
            rest = page.next;
        }
        Ok(done)
    }

    async fn move_row(&self, entry: &Entry, done: &mut Transferred) -> Result<(), BlobError> {
        let (Some(blob), Ok(row)) = (keys::blob_of_layout(&entry.key), decode::<LayoutRow>(entry)) else {
            return Ok(());
        };
        let moves = row.fragments().map(|fragment| async move {
            if fragment.file.group != self.from {
                return (fragment, None);
            }
            match self.copy(blob, fragment).await {
                Ok(file) => (Fragment { file, ..fragment }, Some(true)),
                Err(error) => {
                    tracing::warn!(chunk = %fragment.file, %blob, %error, "a fragment could not be moved");
                    self.note_failure(error.to_string());
                    (fragment, Some(false))
                }
            }
        });
        let moved: Vec<(Fragment, Option<bool>)> =
            stream::iter(moves).buffered(self.options.concurrency).collect().await;
        done.failures += moved.iter().filter(|(_, moved)| *moved == Some(false)).count() as u64;
        let new: Vec<Fragment> =
            moved.iter().filter(|(_, moved)| *moved == Some(true)).map(|(fragment, _)| *fragment).collect();
        if new.is_empty() {
            return Ok(());
        }
        let fragments: Vec<Fragment> = moved.into_iter().map(|(fragment, _)| fragment).collect();
        let switch = Transaction::new()
            .check(Check::Version(entry.key.clone(), entry.version))
            .write(Write::Put(entry.key.clone(), encode(&LayoutRow::new(&fragments))));
        if self.store.meta().transact(switch).await?.is_committed() {
            done.fragments += new.len() as u64;
            let bytes = new.iter().map(|fragment| fragment.length).sum::<u64>();
            done.bytes += bytes;
            self.switched.fetch_add(bytes, Ordering::Relaxed);
            return Ok(());
        }
        done.conflicts += 1;
        for fragment in new {
            // Nobody will ever ask for it; if it stays it is an orphan.
            let _ = self.store.fragments().delete(fragment.file).await;
        }
        Ok(())
    }

    /// Copies a fragment elsewhere, verified.
    async fn copy(&self, blob: BlobId, fragment: Fragment) -> Result<FileId, BlobError> {
        self.wait_for_turn(fragment.length).await;
        let _reserved = self.store.budget().reserve(fragment.length).await;
        let fragments = self.store.fragments();
        let failed = |error| BlobError::of_fragment(blob, error);
        let runs = fragments.read(fragment.file, 0..fragment.length).await.map_err(failed)?;
        let runs: Vec<_> = runs.try_collect().await.map_err(failed)?;
        let damaged = |reason: String| BlobError::Damaged { blob, reason };
        let bytes: Result<Vec<_>, _> = runs.into_iter().map(|run| run.into_bytes()).collect();
        let payload = Payload::new(bytes.map_err(|error| damaged(error.to_string()))?);
        if payload.len() != fragment.length || payload.checksum() != fragment.checksum {
            return Err(damaged(format!("chunk {} is not what its layout says", fragment.file)));
        }
        let owner = Owner { blob, offset: fragment.offset };
        let written = match self.options.to {
            Some(group) => fragments.write_in(group, owner, payload).await,
            None => fragments.write(owner, payload).await,
        };
        let file = written.map_err(failed)?;
        trust::note(&self.store, file).await;
        self.moved.fetch_add(fragment.length, Ordering::Relaxed);
        Ok(file)
    }

    fn note_failure(&self, reason: String) {
        let mut reasons = self.reasons.lock();
        if reasons.len() < MOST_REASONS && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    async fn wait_for_turn(&self, bytes: u64) {
        let Some(rate) = self.options.bytes_per_second else { return };
        let now = Instant::now();
        let begin = {
            let mut pace = self.pace.lock();
            let begin = pace.map_or(now, |free| free.max(now));
            *pace = Some(begin + Duration::from_secs_f64(bytes as f64 / rate as f64));
            begin
        };
        sleep(begin - now).await;
    }
}

impl BlobStore {
    /// What of the layouts is in each group: what stays once the collector has freed what was moved. It reads all layouts,
    /// and no chunk.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn in_groups(&self) -> Result<BTreeMap<GroupId, InGroup>, BlobError> {
        let mut found = BTreeMap::<GroupId, InGroup>::new();
        let mut rest = Some(KeyRange::prefix(keys::LAYOUTS));
        while let Some(range) = rest {
            let page = self.meta().scan(range, PAGE).await?;
            for fragment in page.entries.iter().flat_map(fragments_of) {
                let group = found.entry(fragment.file.group).or_default();
                group.fragments += 1;
                group.bytes = group.bytes.saturating_add(fragment.length);
            }
            rest = page.next;
        }
        Ok(found)
    }
}

/// The fragments of a row. One that can't be read has none for us.
fn fragments_of(entry: &Entry) -> impl Iterator<Item = Fragment> + use<> {
    let row: LayoutRow = decode(entry).unwrap_or_default();
    let fragments: Vec<Fragment> = row.fragments().collect();
    fragments.into_iter()
}

#[cfg(test)]
mod tests;
