//! From directories to a store.

use std::io;

use super::claims::Claims;
use super::directory::{Directory, DirectoryInfo, DirectoryState};
use super::disk::Site;
use super::heal::Healing;
use super::interval::IntervalSync;
use super::membership::{self, Absent, Membership};
use super::unsettled::Unsettled;
use super::volumes::Volumes;
use super::{ChunkStore, Durability, OpenError, Shared, StoreOptions, now, recovery};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Opens the store in these directories.
pub(super) fn open(sites: Vec<Box<dyn Site>>, options: StoreOptions) -> Result<ChunkStore, OpenError> {
    options.validate()?;
    let Membership { store, node, present, absent } = membership::resolve(sites, &options)?;
    let directories: Vec<_> = present
        .into_iter()
        .enumerate()
        .map(|(slot, member)| Arc::new(Directory::new(slot, member, &options)))
        .collect();
    let (recovered, index, mut report) = recovery::recover(&directories, store, &options)?;
    let absent: Vec<DirectoryInfo> = absent.into_iter().map(info).collect();
    let failed = directories.iter().filter(|directory| directory.is_failed());
    report.absent = failed.map(|directory| directory.info(0)).chain(absent.iter().cloned()).collect();
    let unseen = describe(&report.absent);
    if let Some(unseen) = &unseen {
        tracing::error!(unseen, "the store opens without some of its chunks");
        // A directory that is not read may hold later records than any that is. The clock is later than they are.
        recovered.sequence.fetch_max(now() << 20, Ordering::Relaxed);
    }
    let (durability, is_read_only) = (options.durability, options.is_read_only());
    let volumes = Arc::new(Volumes::new(directories, store, options, recovered));
    let interval = match durability {
        Durability::Interval(interval) if !is_read_only => {
            Some(IntervalSync::start(&volumes, interval).map_err(no_thread)?)
        }
        _ => None,
    };
    let shared = Shared {
        interval,
        id: store,
        node,
        is_read_only,
        volumes,
        index,
        claims: Claims::default(),
        unsettled: Unsettled::default(),
        recovery: report,
        absent,
        unseen: unseen.map(Arc::from),
        damages: Arc::default(),
        healing: Healing::default(),
        compacting: AtomicBool::new(false),
        scrubbing: AtomicBool::new(false),
        scrub: Mutex::default(),
    };
    Ok(ChunkStore { shared: Arc::new(shared) })
}

fn no_thread(error: io::Error) -> OpenError {
    OpenError::Option(format!(
        "durability is an interval, and the thread that syncs can't be started: {error}"
    ))
}

fn info(absent: Absent) -> DirectoryInfo {
    let Absent { path, id, reason } = absent;
    let state = reason.map_or(DirectoryState::Missing, |reason| DirectoryState::Failed { reason });
    DirectoryInfo { path, id, state, volumes: 0, failed_syncs: 0, free: 0, total: 0 }
}

/// Which directories are not read, and why; `None` if all are.
fn describe(absent: &[DirectoryInfo]) -> Option<String> {
    let texts: Vec<_> = absent.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
