//! What the log says of how a store was found.

use speedy_core::store::ChunkStore;

/// Tells of what was in a store's directories and is not served.
pub(super) fn tell(store: &ChunkStore) {
    let report = store.recovery();
    tracing::debug!(?report, "opened the store");
    for lost in &report.lost {
        tracing::error!(
            volume = %lost.path.display(),
            chunks = lost.chunks,
            tombstones = lost.tombstones,
            "a volume is gone or cut off, and what was in it is nowhere else that can be read: if the file was moved stop this \
             process and put it back where it was, never over one of that name. Other members of the group give it back its chunks by themselves; \
             where there are none, pulls that need them fail"
        );
    }
    if report.torn + report.damaged_regions > 0 {
        tracing::warn!(
            torn = report.torn,
            damaged_regions = report.damaged_regions,
            "the store holds records that are not whole: writes that a power cut tore, or bytes that the disk has changed. \
             They are not served, and kept for inspection; what was acknowledged of them is in the other members of the \
             group. If no power was cut look at the disk's health, and at speedy store check"
        );
    }
}
