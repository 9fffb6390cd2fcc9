//! What the core counts, as metrics.

use std::fmt::{Debug, Error, Formatter};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use speedy_core::budget::Budget;
use speedy_core::replicate::{Repair, ReplicationMetrics};
use speedy_core::store::{ChunkStore, DirectoryInfo, DirectoryState, Maintenance, Progress};

use crate::admin::Metrics;
use crate::registry::gc::Gc;

/// One figure: its name without `speedy_`, what it means, and its value.
type Figure = (&'static str, &'static str, u64);

/// Figures that are looked up at each scrape: those that only rise, and those that also fall.
struct Figures<C, G> {
    counters: C,
    gauges: G,
}

impl<C, G> Debug for Figures<C, G> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Figures")
    }
}

impl<C, G> Collector for Figures<C, G>
where
    C: Fn() -> Vec<Figure> + Send + Sync + 'static,
    G: Fn() -> Vec<Figure> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for (name, help, value) in (self.counters)() {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        for (name, help, value) in (self.gauges)() {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

fn register(
    metrics: &Metrics,
    counters: impl Fn() -> Vec<Figure> + Send + Sync + 'static,
    gauges: impl Fn() -> Vec<Figure> + Send + Sync + 'static,
) {
    metrics.register(|registry| registry.register_collector(Box::new(Figures { counters, gauges })));
}

/// What a replication client has done.
pub(super) fn of_replication(metrics: &Metrics, replication: Arc<ReplicationMetrics>) {
    let counters = move || {
        let now = replication.snapshot();
        vec![
            ("replication_chunks_written", "Chunks that every replica confirmed", now.chunks_written),
            ("replication_bytes_written", "Bytes of those chunks, counted once", now.bytes_written),
            ("replication_bytes_read", "Bytes given to readers, verified", now.bytes_read),
            ("replication_write_retries", "Times a node was asked again for one chunk", now.write_retries),
            ("replication_write_failovers", "Times a chunk went to another group", now.write_failovers),
            ("replication_chains_broken", "Times a chain of replicas broke", now.chains_broken),
            ("replication_read_failovers", "Times a read went to another replica", now.read_failovers),
            ("replication_reads_hedged", "Times a second replica was asked for a slow one", now.reads_hedged),
            ("replication_checksum_mismatches", "Blocks that arrived damaged", now.checksum_mismatches),
            ("replication_id_conflicts", "Fresh ids that were taken, each a fault", now.id_conflicts),
        ]
    };
    register(metrics, counters, Vec::new);
}

/// What a node has fetched from the others of its group, and has yet to.
pub(super) fn of_repair(metrics: &Metrics, repair: Repair) {
    let counted = repair.clone();
    let counters = move || {
        let now = counted.snapshot();
        vec![
            ("repair_comparisons", "Comparisons with another member of the group", now.comparisons),
            ("repair_failures", "Comparisons that could not be carried through", now.failures),
            ("repair_chunks_fetched", "Chunks that were missing here and were fetched", now.chunks_fetched),
            ("repair_bytes_fetched", "Bytes of those chunks", now.bytes_fetched),
            ("repair_deletes_taken", "Deletes that were missed here and were taken over", now.deletes_taken),
            ("repair_chunks_healed", "Damaged chunks that were replaced", now.healed),
        ]
    };
    let gauges = move || {
        let backlog = repair.backlog();
        vec![
            ("repair_backlog_chunks", "Chunks and deletes still to be fetched", backlog.chunks),
            ("repair_backlog_bytes", "Bytes of those chunks", backlog.bytes),
            ("repair_bytes_per_second", "At which they come", backlog.bytes_per_second),
        ]
    };
    register(metrics, counters, gauges);
}

/// What a chunk store holds.
pub(super) fn of_store(metrics: &Metrics, store: Arc<ChunkStore>) {
    let counted = Arc::clone(&store);
    let counters = move || {
        let failed = counted.directories().iter().map(|info| info.failed_syncs).sum();
        vec![("store_failed_syncs", "Syncs that failed: look for disk errors in the system's log", failed)]
    };
    let gauges = move || {
        // Where the file system does not tell, nothing is shown rather than a wrong number.
        let Ok(usage) = store.usage() else { return Vec::new() };
        let directories = store.directories();
        let is_healthy = |info: &&DirectoryInfo| info.state == DirectoryState::Healthy;
        let healthy = directories.iter().filter(is_healthy).count() as u64;
        let lost = directories.len() as u64 - healthy;
        vec![
            ("store_chunks", "Chunks that can be read", usage.chunks),
            ("store_bytes", "Bytes of those chunks", usage.bytes),
            ("store_tombstones", "Chunk ids that are spent", usage.tombstones),
            ("store_volumes", "Volumes", usage.volumes as u64),
            ("store_free_bytes", "Bytes that the disk can still take", usage.free),
            ("store_disk_bytes", "Bytes of the disk in all", usage.total),
            ("store_damaged_chunks", "Chunks found damaged and not healed", store.damaged().len() as u64),
            ("store_scrub_completed_seconds", "End of the last complete scrub, Unix time", scrubbed(&store)),
            ("store_directories_healthy", "Directories that take reads and writes", healthy),
            ("store_directories_lost", "Directories that are missing or whose disk failed", lost),
        ]
    };
    register(metrics, counters, gauges);
}

/// What is done in the background to keep a store.
pub(super) fn of_maintenance(metrics: &Metrics, maintenance: Arc<Maintenance>) {
    let counted = Arc::clone(&maintenance);
    let counters = move || {
        let status = counted.status();
        vec![
            ("store_compaction_volumes_removed", "Volumes that compaction removed", status.volumes_removed),
            ("store_compaction_freed_bytes", "Bytes of those volumes", status.bytes_freed),
            ("store_compaction_copied_bytes", "Bytes copied out of them", status.bytes_copied),
            (
                "store_compactions_failed",
                "Compactions that ended early; the log says why",
                status.compactions_failed,
            ),
        ]
    };
    let gauges = move || {
        let status = maintenance.status();
        let of = |progress: Option<Progress>| progress.map_or((0, 0), |now| (now.bytes_done, now.bytes));
        let ((compacted, compaction), (scrubbed, scrub)) = (of(status.compaction), of(status.scrub));
        vec![
            ("store_compaction_done_bytes", "Bytes copied by the compaction that runs", compacted),
            ("store_compaction_bytes", "Bytes that it has to copy; 0 when none runs", compaction),
            ("store_scrub_done_bytes", "Bytes verified by the scrub that runs", scrubbed),
            ("store_scrub_bytes", "Bytes that it has to verify; 0 when none runs", scrub),
        ]
    };
    register(metrics, counters, gauges);
}

/// When all bytes of a store were last verified; 0 if never.
fn scrubbed(store: &ChunkStore) -> u64 {
    let since = store.last_scrub().and_then(|pass| pass.completed.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// How much of the memory budget is taken.
pub(super) fn of_budget(metrics: &Metrics, budget: Budget) {
    let gauges = move || {
        vec![
            ("memory_budget_bytes", "Bytes that requests may hold", budget.total()),
            ("memory_held_bytes", "Bytes that requests hold now", budget.total() - budget.available()),
        ]
    };
    register(metrics, Vec::new, gauges);
}

/// What the collector of this process has done.
pub(super) fn of_gc(metrics: &Metrics, gc: Gc) {
    let counted = gc.clone();
    let counters = move || {
        let now = counted.figures();
        let total = now.total;
        vec![
            ("gc_cycles", "Walks of the collector that came to their end", now.cycles),
            ("gc_failures", "Walks that could not go on, and were taken up again", now.failures),
            ("gc_examined", "Things that the collector looked at", total.examined),
            ("gc_uploads_expired", "Upload sessions given up", total.uploads),
            ("gc_manifests_removed", "Manifests without a tag removed", total.manifests),
            ("gc_links_removed", "Blobs taken out of a repository that does not need them", total.links),
            ("gc_images_removed", "Images of v1 that no tag reaches removed", total.images),
            ("gc_blobs_killed", "Blobs that no repository has and that died", total.blobs),
            ("gc_blobs_emptied", "Dead blobs and uploads whose chunks were deleted", total.emptied),
            ("gc_orphans_deleted", "Chunks of no blob deleted", total.orphans),
            ("gc_repositories_removed", "Empty repositories taken out of the catalog", total.repositories),
            (
                "gc_references_removed",
                "References removed that a broken push or delete left",
                total.references,
            ),
            ("gc_unreadable", "Entries that could not be read, and were passed over", total.unreadable),
            ("gc_freed_bytes", "Bytes of chunks that were deleted, counted once", total.freed_bytes()),
        ]
    };
    let gauges = move || {
        let now = gc.figures();
        let total = now.total;
        vec![
            (
                "gc_waiting_manifests",
                "Manifests without a tag that are not old enough",
                total.waiting_manifests,
            ),
            (
                "gc_waiting_links",
                "Blobs that their repository does not need, not old enough",
                total.waiting_links,
            ),
            ("gc_waiting_bytes", "Bytes of those blobs", total.waiting_link_bytes),
            ("gc_waiting_images", "Images of v1 that no tag reaches, not old enough", total.waiting_images),
            (
                "gc_spared_manifests",
                "Manifests without a tag, spared for uploads under way",
                total.spared_manifests,
            ),
            (
                "gc_spared_links",
                "Blobs that their repository does not need, spared for uploads under way",
                total.spared_links,
            ),
            ("gc_spared_bytes", "Bytes of those blobs", total.spared_link_bytes),
            ("gc_unknown_chunks", "Chunks of blobs that the metadata does not know, kept", total.unknown),
            (
                "gc_ended_seconds",
                "End of the last walk, Unix time; 0 before the first",
                now.ended.unwrap_or(0) / 1000,
            ),
        ]
    };
    register(metrics, counters, gauges);
}
