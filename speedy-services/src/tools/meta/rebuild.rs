use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use indicatif::BinaryBytes;
use serde::Serialize;
use speedy_core::blob::{BlobError, BlobInfo, BlobStore, RebuildObserver, RebuildOptions, Rebuilt};
use speedy_core::embedded::{Embedded, EmbeddedOptions};
use speedy_core::placement::{Master, Topology};

use super::ToolError;
use crate::address::AddressList;
use crate::cli::Rebuild;
use crate::master::MasterClient;
use crate::registry::Repositories;
use crate::registry::names::RepositoryName;
use crate::tools::NOT_SOUND;
use crate::tools::bar::Bar;
use crate::tools::blobs;
use crate::tools::print::print;

/// How long the masters have to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Links that fit into one transaction, with some to spare.
const MOST_REPOSITORIES: usize = 50;
/// Blobs that a person gets named.
const NAMED: usize = 20;

/// What is printed with `--json`.
#[derive(Serialize, Debug)]
struct Report {
    dry_run: bool,
    /// Whether every blob that chunks were found of is known by now, or would be.
    complete: bool,
    groups: Vec<u32>,
    chunks: u64,
    chunk_bytes: u64,
    /// Blobs that the metadata knew.
    known: u64,
    uploading: u64,
    /// Fragments of known blobs that were moved to another group, and are named there by now.
    moved_fragments: u64,
    rebuilt: u64,
    rebuilt_bytes: u64,
    /// Blobs of which the same content is live under another id.
    duplicates: u64,
    /// Blobs that were made readable in the repositories that were named.
    linked: u64,
    failed: u64,
    not_rebuilt: Vec<NotRebuilt>,
    /// Chunks that are part of no blob.
    left_chunks: u64,
    /// Whether those will be freed.
    released: bool,
}

#[derive(Serialize, Debug)]
struct NotRebuilt {
    blob: String,
    bytes: u64,
    reason: String,
}

pub(super) fn run(options: &Rebuild) -> Result<ExitCode, ToolError> {
    if options.repository.len() > MOST_REPOSITORIES {
        let text = format!(
            "--repository can be given {MOST_REPOSITORIES} times at most: a blob is linked in one step"
        );
        return Err(ToolError::Refused(text));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let report = runtime.map_err(ToolError::Start)?.block_on(rebuild(options))?;
    print(options.json, &report, text).map_err(ToolError::Print)?;
    Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

async fn rebuild(options: &Rebuild) -> Result<Report, ToolError> {
    match (&options.data_dir, &options.master, &options.meta) {
        (Some(directory), ..) => {
            let rebuilding = EmbeddedOptions::default().rebuilds(true);
            let embedded = Embedded::open(existing(directory)?, rebuilding).await?;
            let report = rebuild_in(embedded.blobs(), options).await?;
            if !options.dry_run {
                let done = embedded.rebuilt().await;
                done.map_err(|error| ToolError::Rebuild(error.into()))?;
            }
            Ok(report)
        }
        (None, Some(masters), Some(meta)) => {
            let blobs = cluster(masters, meta).await?;
            rebuild_in(&blobs, options).await
        }
        _ => unreachable!("the command line demands --data-dir, or --master and --meta"),
    }
}

/// A mistyped name must not become a new store.
fn existing(directory: &Path) -> Result<&Path, ToolError> {
    if directory.join("chunks").is_dir() {
        return Ok(directory);
    }
    let directory = directory.display();
    Err(ToolError::Refused(format!(
        "{directory} is no directory of speedy serve: it has no chunks in it; name it with --data-dir"
    )))
}

/// The blobs of a cluster, as an image node has them.
async fn cluster(masters: &AddressList, meta: &AddressList) -> Result<BlobStore, ToolError> {
    let master = MasterClient::new(masters);
    let failed = |reason: String| ToolError::Master { masters: masters.clone(), reason };
    let topology = match tokio::time::timeout(PATIENCE, master.topology()).await {
        Ok(topology) => topology.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("nothing came within {} s", PATIENCE.as_secs()))),
    };
    can_be_listed(&topology)?;
    let blobs = blobs::of_cluster(masters, meta, PATIENCE).await;
    blobs.ok_or_else(|| failed("it names no groups any more".into()))
}

/// A group that is not complete for the first time looks empty, whatever its nodes hold: the master that lost its state
/// has to meet all of them first.
fn can_be_listed(topology: &Topology) -> Result<(), ToolError> {
    if topology.groups.is_empty() {
        let text = "the master knows no group: start the chunk nodes, with the --group that they had";
        return Err(ToolError::Refused(text.into()));
    }
    match topology.groups.iter().find(|group| group.holders().next().is_none()) {
        None => Ok(()),
        Some(group) => Err(ToolError::Refused(format!(
            "group {} has {} of {} members, so that nobody can say what it holds: start the others (see speedy cluster \
             status)",
            group.id,
            group.members.len(),
            group.replicas
        ))),
    }
}

async fn rebuild_in(blobs: &BlobStore, options: &Rebuild) -> Result<Report, ToolError> {
    let bar = Bar::new("rebuilding");
    let following = Following {
        bar: &bar,
        repositories: Repositories::new(blobs.clone()),
        names: &options.repository,
        linked: AtomicU64::new(0),
    };
    let mut settings = RebuildOptions::default();
    settings.dry_run = options.dry_run;
    settings.release = options.release;
    let rebuilt = blobs.rebuild(settings, &following).await;
    let linked = following.linked.load(Ordering::Relaxed);
    bar.end();
    Ok(Report::new(rebuilt.map_err(ToolError::Rebuild)?, options, linked))
}

struct Following<'a> {
    bar: &'a Bar,
    repositories: Repositories,
    names: &'a [RepositoryName],
    linked: AtomicU64,
}

#[async_trait]
impl RebuildObserver for Following<'_> {
    fn progress(&self, done: u64, of: u64) {
        self.bar.advance(done, of);
    }

    async fn live(&self, blob: &BlobInfo) -> Result<(), BlobError> {
        if !self.names.is_empty() && self.repositories.adopt(self.names, &blob.digest).await? {
            self.linked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Report {
    fn new(rebuilt: Rebuilt, options: &Rebuild, linked: u64) -> Self {
        let not_rebuilt = rebuilt.not_rebuilt.into_iter().map(|blob| NotRebuilt {
            blob: blob.blob.to_string(),
            bytes: blob.bytes,
            reason: blob.reason,
        });
        Self {
            dry_run: options.dry_run,
            complete: rebuilt.failed == 0,
            groups: rebuilt.groups.iter().map(|group| group.get()).collect(),
            chunks: rebuilt.chunks,
            chunk_bytes: rebuilt.bytes,
            known: rebuilt.known,
            uploading: rebuilt.uploading,
            moved_fragments: rebuilt.moved,
            rebuilt: rebuilt.rebuilt,
            rebuilt_bytes: rebuilt.rebuilt_bytes,
            duplicates: rebuilt.duplicates,
            linked,
            failed: rebuilt.failed,
            not_rebuilt: not_rebuilt.collect(),
            left_chunks: rebuilt.left,
            released: options.release,
        }
    }
}

fn text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let groups = match report.groups.len() {
        1 => "1 group".to_owned(),
        groups => format!("{groups} groups"),
    };
    let bytes = BinaryBytes;
    writeln!(out, "chunks      {}, {} in {groups}", report.chunks, bytes(report.chunk_bytes))?;
    writeln!(out, "known       {} blobs, and {} that are uploading", report.known, report.uploading)?;
    let rebuilt = if report.dry_run { "to rebuild" } else { "rebuilt   " };
    writeln!(out, "{rebuilt}  {} blobs, {} read and verified", report.rebuilt, bytes(report.rebuilt_bytes))?;
    if report.moved_fragments > 0 {
        writeln!(
            out,
            "moved       {} fragments of known blobs, named where they are",
            report.moved_fragments
        )?;
    }
    if report.duplicates > 0 {
        writeln!(out, "duplicates  {} blobs of content that another has", report.duplicates)?;
    }
    if report.linked > 0 {
        writeln!(out, "linked      {} blobs that were in no repository", report.linked)?;
    }
    if report.failed > 0 {
        writeln!(out, "NOT WHOLE   {} blobs", report.failed)?;
        for blob in report.not_rebuilt.iter().take(NAMED) {
            writeln!(out, "  {}  {}  {}", blob.blob, bytes(blob.bytes), blob.reason)?;
        }
        if report.failed > NAMED as u64 {
            writeln!(out, "  and others; --json names up to a thousand")?;
        }
    }
    if report.left_chunks > 0 {
        let fate = match report.released {
            true => "the collector frees them within hours",
            false => "they are kept; --release lets them be freed",
        };
        writeln!(out, "left        {} chunks that are part of no blob: {fate}", report.left_chunks)?;
    }
    if report.dry_run {
        return writeln!(out, "\nNothing was changed: this was a dry run.");
    }
    writeln!(
        out,
        "\nTags, repositories and manifests are not in chunks: push the images again. A push to a repository that was named \
         with --repository sends no layer that is here."
    )
}

#[cfg(test)]
mod tests {
    use speedy_core::id::{GroupId, GroupVersion};
    use speedy_core::placement::Group;

    use super::*;

    #[test]
    fn a_group_that_can_not_say_what_it_holds_is_not_taken_for_empty() {
        let group = Group {
            id: GroupId::new(7),
            version: GroupVersion::INITIAL,
            replicas: 3,
            weight: 1,
            members: vec![],
        };
        let refused = |groups| can_be_listed(&Topology { revision: 1, groups }).unwrap_err().to_string();
        assert!(refused(vec![]).contains("the master knows no group"));
        assert!(refused(vec![group]).contains("group 7 has 0 of 3 members"));
    }

    #[test]
    fn a_person_is_told_what_is_there_and_what_is_not() {
        let report = Report {
            dry_run: false,
            complete: false,
            groups: vec![1],
            chunks: 9,
            chunk_bytes: 5 << 20,
            known: 1,
            uploading: 0,
            moved_fragments: 4,
            rebuilt: 2,
            rebuilt_bytes: 4 << 20,
            duplicates: 0,
            linked: 2,
            failed: 1,
            not_rebuilt: vec![NotRebuilt { blob: "ab".into(), bytes: 1 << 20, reason: "a gap".into() }],
            left_chunks: 3,
            released: false,
        };
        let mut out = Vec::new();
        text(&mut out, &report).unwrap();
        let out = String::from_utf8(out).unwrap();
        for part in [
            "chunks      9, 5.00 MiB in 1 group",
            "rebuilt     2 blobs, 4.00 MiB",
            "moved       4 fragments",
            "NOT WHOLE   1 blobs",
            "ab  1.00 MiB  a gap",
            "left        3 chunks",
            "--release",
            "push the images again",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
    }
}
