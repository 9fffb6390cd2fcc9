//! A cluster goes from one release to the next, process by process, and some of them back, while clients push and pull.
//!
//! `SPEEDY_PREVIOUS` is the binary of the previous release: `scripts/test upgrade` builds that of the commit before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use speedy_e2e::{Fleet, Lab, Node, Registry, groups_of, noise, sha256, wait_until, with_retries};

const REPOSITORY: &str = "upgrade";
/// Bytes of a blob: two fragments.
const BLOB: usize = 5_000_000;
/// How long a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The binary of the previous release, where there is one.
pub(crate) fn previous() -> Option<PathBuf> {
    std::env::var_os("SPEEDY_PREVIOUS").map(PathBuf::from)
}

pub(crate) fn one_by_one(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let previous = previous().ok_or_else(|| anyhow!("SPEEDY_PREVIOUS names no binary"))?;
    roll(fleet, Some(&previous))?;
    let fronts = fleet.fronts();
    let over = AtomicBool::new(false);
    let pushed = thread::scope(|scope| {
        let pusher = scope.spawn(|| push_and_pull(&fronts, &over));
        // To the new release; then half of the cluster back, as somebody does who does not like it.
        let rolled = roll(fleet, None).and_then(|()| {
            let Fleet { masters, chunks, images, registries, .. } = fleet;
            let half = [&mut masters[1], &mut chunks[1], &mut images[1], &mut registries[1]];
            half.into_iter().try_for_each(|node| exchange(node, Some(&previous)))?;
            complete(fleet)
        });
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        pusher
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the pusher panicked")))
            .and_then(|pushed| rolled.map(|()| pushed))
    })?;
    ensure!(pushed.len() > 10, "only {} blobs were pushed meanwhile", pushed.len());
    for front in &fronts {
        for digest in &pushed {
            front.verify_blob(REPOSITORY, digest, BLOB as u64)?;
        }
    }
    Ok(())
}

/// Exchanges every process for another release, one after the other.
fn roll(fleet: &mut Fleet, binary: Option<&Path>) -> Result<()> {
    exchange(&mut fleet.meta, binary)?;
    for master in &mut fleet.masters {
        exchange(master, binary)?;
    }
    for number in 0..fleet.chunks.len() {
        complete(fleet)?;
        exchange(&mut fleet.chunks[number], binary)?;
    }
    for node in fleet.images.iter_mut().chain(&mut fleet.registries) {
        exchange(node, binary)?;
    }
    complete(fleet)
}

fn exchange(node: &mut Node, binary: Option<&Path>) -> Result<()> {
    node.terminate()?;
    node.set_binary(binary);
    node.start()
}

fn complete(fleet: &Fleet) -> Result<()> {
    let master = fleet.masters[0].address();
    wait_until("the group to be complete", LIMIT, || {
        Ok(groups_of(master)
            .is_ok_and(|groups| groups.len() == 1 && groups.iter().all(|group| group.complete)))
    })
}

/// Pushes blobs, and pulls each back through the other registry, until told that it is over.
fn push_and_pull(fronts: &[Registry], over: &AtomicBool) -> Result<Vec<String>> {
    let mut pushed = Vec::new();
    for seed in 0.. {
        let blob = noise(seed, BLOB);
        with_retries(fronts, |front| front.push_blob(REPOSITORY, &blob))?;
        let digest = sha256(&blob);
        with_retries(fronts, |front| front.verify_blob(REPOSITORY, &digest, BLOB as u64))?;
        pushed.push(digest);
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(pushed)
}
