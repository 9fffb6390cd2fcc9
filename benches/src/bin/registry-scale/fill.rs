//! Fills a metadata store, in the order of its keys: in any other, most of the time would go into reading pages again.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use speedy_core::blob::bulk as blob_rows;
use speedy_core::digest::Digest;
use speedy_core::meta::{
    EmbeddedMeta, EmbeddedOptions, MAX_TRANSACTION_OPERATIONS, MetaStore, Timestamp, Transaction, Write,
};
use speedy_services::registry::bulk as rows;
use speedy_services::registry::manifest::OCI_MANIFEST;
use speedy_services::registry::names::RepositoryName;
use tokio::sync::mpsc;

use crate::content::{Content, MORE_TAGS};

/// Memory for pages while the store is filled.
const CACHE: usize = 1 << 30;
/// Transactions under way.
const UNDER_WAY: usize = 512;
/// Rows that are put in two passes, seven of ten first. Pages that only ever grow at their end are left half empty; the
/// second pass fills them to about 70%, which is what keys in random order leave. Rows by the ids of blobs, which rise
/// with time, do come in their order, and leave half empty pages.
const WINDOW: usize = 100_000;

/// Puts all of it into the metadata store in `directory`, which nobody has open, and gives the number of rows.
pub(crate) async fn fill(directory: &Path, content: Content) -> Result<u64> {
    let options = EmbeddedOptions::default().cache_bytes(CACHE);
    let meta = Arc::new(EmbeddedMeta::open(directory, options).context("opening the metadata store")?);
    let (sender, mut receiver) = mpsc::channel(UNDER_WAY);
    let making = tokio::task::spawn_blocking(move || {
        let mut sink = Sink { sender, window: Vec::with_capacity(WINDOW), rising: false, rows: 0 };
        make(content, &mut sink)?;
        sink.flush()?;
        anyhow::Ok(sink.rows)
    });
    let transactions = stream::poll_fn(|context| receiver.poll_recv(context));
    let done = transactions.map(|transaction| meta.transact(transaction)).buffer_unordered(UNDER_WAY);
    let written = done.map_err(anyhow::Error::from);
    written
        .try_for_each(async |outcome| {
            ensure!(outcome.is_committed(), "a transaction without checks met a conflict");
            Ok(())
        })
        .await?;
    making.await?
}

/// Where rows go, in the order of their keys.
struct Sink {
    sender: mpsc::Sender<Transaction>,
    window: Vec<Write>,
    /// Whether rows come in the order of their keys in a store at work too.
    rising: bool,
    rows: u64,
}

impl Sink {
    /// What is put from now on rises in a store at work too, or does not.
    fn rising(&mut self, rising: bool) -> Result<()> {
        self.flush()?;
        self.rising = rising;
        Ok(())
    }

    fn put(&mut self, row: Write) -> Result<()> {
        self.window.push(row);
        self.rows += 1;
        if self.rows.is_multiple_of(5_000_000) {
            eprintln!("{} million rows", self.rows / 1_000_000);
        }
        if self.window.len() == WINDOW { self.flush() } else { Ok(()) }
    }

    fn put_sorted(&mut self, mut rows: Vec<Write>) -> Result<()> {
        rows.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        rows.into_iter().try_for_each(|row| self.put(row))
    }

    fn flush(&mut self) -> Result<()> {
        let (mut first, mut second) = (Vec::with_capacity(WINDOW), Vec::new());
        for (number, row) in self.window.drain(..).enumerate() {
            if self.rising || number % 10 < 7 { first.push(row) } else { second.push(row) }
        }
        first.append(&mut second);
        let mut rows = first.into_iter().peekable();
        while rows.peek().is_some() {
            let batch = rows.by_ref().take(MAX_TRANSACTION_OPERATIONS);
            let transaction = batch.fold(Transaction::new().relaxed(), Transaction::write);
            self.sender.blocking_send(transaction).context("the store takes no more")?;
        }
        Ok(())
    }
}

/// All rows in the order of their keys: those of the repositories (`R/`), then those of the blobs.
fn make(content: Content, sink: &mut Sink) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let now = Timestamp(u64::try_from(now)?);
    let names: Vec<RepositoryName> = (0..content.repositories).map(|number| content.name(number)).collect();
    let images: Vec<Digest> =
        (0..content.tags).map(|image| Digest::sha256(&content.manifest(image))).collect();
    let by_id = sorted(content.blobs, |blob| first_bytes(content.blob(blob).id.as_bytes()));
    let (images_each, blobs_each) = (content.images_each(), content.blobs_each());
    let image_of = |blob: u64| blob / blobs_each;
    let name_of = |image: u64| &names[(image / images_each) as usize];

    for (repository, name) in (0..).zip(&names) {
        let blobs = repository * images_each * blobs_each..(repository + 1) * images_each * blobs_each;
        sink.put_sorted(blobs.map(|blob| rows::link(name, &content.blob(blob))).collect())?;
    }
    sink.rising(true)?;
    for &blob in &by_id {
        sink.put(rows::holder(name_of(image_of(blob)), &content.blob(blob)))?;
    }
    sink.rising(false)?;
    for (repository, name) in (0..).zip(&names) {
        let manifest =
            |image: u64| rows::manifest(name, &images[image as usize], OCI_MANIFEST, content.manifest(image));
        sink.put_sorted(images_of(content, repository).map(manifest).collect())?;
    }
    for name in &names {
        sink.put(rows::repository(name, now))?;
    }
    // A tag, then the same seen from its manifest.
    for row in [rows::tag, rows::tag_of] {
        for (repository, name) in (0..).zip(&names) {
            let first = repository * images_each;
            let tags = images_each + if repository == 0 { MORE_TAGS } else { 0 };
            let tag = |number: u64| {
                row(name, &content.tag(number), &images[(first + number % images_each) as usize])
            };
            sink.put_sorted((0..tags).map(tag).collect())?;
        }
    }

    sink.rising(true)?;
    for &blob in &by_id {
        sink.put(blob_rows::record(&content.blob(blob), now))?;
    }
    sink.rising(false)?;
    for blob in sorted(content.blobs, |blob| first_bytes(content.blob(blob).digest.as_bytes())) {
        sink.put(blob_rows::pointer(&content.blob(blob)))?;
    }
    sink.rising(true)?;
    for &blob in &by_id {
        let image = image_of(blob);
        sink.put(rows::reference(name_of(image), &images[image as usize], content.blob(blob).id))?;
    }
    for &blob in &by_id {
        sink.put(blob_rows::layout_row(content.blob(blob).id, &[content.fragment(blob)]))?;
    }
    Ok(())
}

fn images_of(content: Content, repository: u64) -> std::ops::Range<u64> {
    repository * content.images_each()..(repository + 1) * content.images_each()
}

/// All blobs in the order of what `key` gives.
fn sorted(blobs: u64, key: impl Fn(u64) -> u64) -> Vec<u64> {
    let mut keyed: Vec<(u64, u64)> = (0..blobs).map(|blob| (key(blob), blob)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, blob)| blob).collect()
}

fn first_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |word, &byte| word << 8 | u64::from(byte))
}
