//! The metadata's disk is full: reads go on, writes are refused and say where and what to do, and they go on by
//! themselves once there is room. On real file systems, since each fails in its own way.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions, MetaError, MetaStore, Transaction, Write};
use speedy_e2e::{Cluster, Deployment, Lab, Layout, SmallDisk, logs_in, same};

type Make = fn(&Path, u64) -> Result<SmallDisk>;

/// Bytes of the disk under the engine alone: a few times what an empty store takes.
const ENGINE_DISK: u64 = 16 << 20;

pub(crate) fn tests(lab: &Arc<Lab>) -> Vec<Trial> {
    let disks: [(&str, Make); 2] = [("tmpfs", SmallDisk::tmpfs), ("ext4", SmallDisk::ext4)];
    disks
        .into_iter()
        .map(|(name, make)| {
            let lab = Arc::clone(lab);
            Trial::test(format!("full::engine_on_{name}"), move || {
                engine(&lab, make).map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// The engine meets the end of the disk in the middle of its commits: no reserve keeps it from that.
fn engine(lab: &Lab, make: Make) -> Result<()> {
    let directory = lab.directory()?;
    let disk = make(directory.path(), ENGINE_DISK)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let path = disk.path().join("meta");
        let options = EmbeddedOptions::default().cache_bytes(1 << 20).reserve_bytes(0);
        let mut store = EmbeddedMeta::open(&path, options)?;
        let mut written = 0;
        for round in 0..3 {
            put(&store, written).await.with_context(|| format!("round {round}: there is room"))?;
            written += 1;
            disk.fill(if round == 0 { 3 << 20 } else { 256 << 10 })?;
            let error = loop {
                match put(&store, written).await {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                }
                ensure!(written < 10_000, "the disk does not get full");
            };
            refused(&error, &path)?;
            for _ in 0..10 {
                refused(&put(&store, written).await.err().context("there is no room")?, &path)?;
                readable(&store, written).await.with_context(|| format!("round {round}, full"))?;
            }
            // Whoever starts it again meanwhile can read too.
            store.close();
            store = EmbeddedMeta::open(&path, options).context("opening it on the full disk")?;
            readable(&store, written).await.with_context(|| format!("round {round}, full, opened again"))?;
            disk.relieve()?;
        }
        put(&store, written).await.context("there is room again")?;
        readable(&store, written + 1).await?;
        store.close();
        readable(&EmbeddedMeta::open(&path, options)?, written + 1).await
    })
}

/// Bytes of the disk under a meta node, which keeps 64 MiB in reserve.
const NODE_DISK: u64 = 96 << 20;

/// A cluster whose meta node runs out of room.
pub(crate) fn cluster_test(lab: &Arc<Lab>) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test("cluster::metadata_full", move || {
        let directory = lab.directory()?;
        let outcome = cluster(&lab, directory.path());
        outcome.map_err(|error| Failed::from(format!("{error:#}\n{}", logs_in(directory.path()))))
    })
}

/// Pulls go on, pushes are answered 507 and go on once there is room; nothing is restarted but a meta node that is
/// killed while its disk is full.
fn cluster(lab: &Lab, directory: &Path) -> Result<()> {
    let disk = SmallDisk::ext4(directory, NODE_DISK)?;
    // Where the cluster has the meta node's data.
    std::os::unix::fs::symlink(disk.path(), directory.join("meta"))?;
    let mut cluster = Cluster::start(directory)?;
    let (skopeo, registry) = (lab.skopeo()?, cluster.registry());
    let made = Layout::make(&directory.join("made"), 7, 1_000_000)?;
    let remote = |name: &str| format!("docker://{}/{name}:1", registry.host());
    skopeo.copy_all(&made.reference(), &remote("before"))?;
    let pull = |name: &str, into: &str| -> Result<()> {
        let back = Layout::at(&directory.join(into));
        skopeo.copy_all(&remote(name), &back.reference())?;
        same("blobs of the image", &made.blobs()?, &back.blobs()?)
    };

    // Below the reserve, then down to nothing.
    for (left, into) in [(20 << 20, "low"), (0, "none")] {
        disk.fill(left)?;
        let (status, text) = registry.begin_push("before")?;
        same("status of a push", &507, &status)?;
        ensure!(text.contains("storage is full; pulls go on"), "{text}");
        pull("before", into).with_context(|| format!("{left} bytes are left"))?;
    }
    let log = cluster.registry.log()?;
    let named = log.contains(&format!("the file system of {}", cluster.meta_data.display()));
    ensure!(
        named && log.contains("make room there"),
        "the registry's log does not say where and what to do:\n{log}"
    );

    cluster.meta.kill()?;
    cluster.meta.start().context("starting the meta node on its full disk")?;
    pull("before", "restarted")?;
    same("status of a push", &507, &registry.begin_push("before")?.0)?;

    disk.relieve()?;
    skopeo.copy_all(&made.reference(), &remote("after"))?;
    pull("after", "after")?;
    let log = cluster.meta.log()?;
    ensure!(!log.contains("panicked"), "the meta node panicked:\n{log}");
    // Before the disk is unmounted.
    cluster.meta.terminate().map(drop)
}

/// It is the error of a full disk, and names the directory and the remedy.
fn refused(error: &MetaError, directory: &Path) -> Result<()> {
    let MetaError::Full(reason) = error else { anyhow::bail!("not the error of a full disk: {error}") };
    let named = reason.contains(&directory.display().to_string()) && reason.contains("make room");
    ensure!(named, "it does not say where and what to do: {reason}");
    Ok(())
}

async fn put(store: &EmbeddedMeta, number: u32) -> Result<(), MetaError> {
    let write = Write::Put(format!("key {number:06}").into(), vec![number as u8; 20_000].into());
    store.transact(Transaction::new().write(write)).await.map(|_| ())
}

/// Everything that was acknowledged is there, and nothing more.
async fn readable(store: &EmbeddedMeta, written: u32) -> Result<()> {
    for number in 0..written {
        let entry = store.get(format!("key {number:06}").into()).await?;
        let value = entry.with_context(|| format!("key {number} is gone"))?.value;
        ensure!(value == vec![number as u8; 20_000], "key {number} has another value");
    }
    same("what was refused", &None, &store.get(format!("key {written:06}").into()).await?)
}
