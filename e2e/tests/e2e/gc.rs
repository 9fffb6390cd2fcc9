//! What is deleted is stored no longer, and what is not is pulled as before. That compaction gives its room back to the
//! file system, once the volumes that hold it are full, is tested with the collector and the store.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedy_e2e::{Cluster, Deployment, Lab, Layout, Node, Registry, Single, run, same, speedy, wait_until};

/// Until when a command must be done, and the room must have come back.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a layer that does not compress.
const LAYER: usize = 8_000_000;

pub(crate) fn on_one(lab: &Lab, single: &mut Single) -> Result<()> {
    let registry = single.registry();
    let stores = [single.node.admin()];
    hurry(&mut single.node)?;
    registry.wait_ready()?;
    let admin = single.node.admin();
    room_comes_back(lab, &registry, admin, admin, &stores)
}

pub(crate) fn on_a_cluster(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry();
    let stores = cluster.chunks.each_ref().map(Node::admin);
    hurry(&mut cluster.image)?;
    registry.wait_ready()?;
    // How the collector is, and what repositories take, any registry tells; it collects nothing itself.
    let elsewhere = cluster.registry.admin();
    let refused = tool(elsewhere, &["gc", "run"]).err().context("a registry collects")?;
    ensure!(format!("{refused:#}").contains("an image node"), "{refused:#}");
    room_comes_back(lab, &registry, cluster.image.admin(), elsewhere, &stores)
}

/// Lets a node free the bytes of what is dead at once.
fn hurry(node: &mut Node) -> Result<()> {
    node.set("SPEEDY_GC_GRACE", "1s");
    node.set("SPEEDY_GC_INTERVAL", "off");
    node.terminate()?;
    node.start()
}

fn room_comes_back(
    lab: &Lab,
    registry: &Registry,
    collector: SocketAddr,
    teller: SocketAddr,
    stores: &[SocketAddr],
) -> Result<()> {
    let (directory, skopeo) = (lab.directory()?, lab.skopeo()?);
    let push = |made: &Layout, to: &str| {
        skopeo.copy_all(&made.reference(), &format!("docker://{}/{to}:1", registry.host()))
    };
    let kept = Layout::make(&directory.path().join("kept"), 1, LAYER)?;
    let gone = Layout::make(&directory.path().join("gone"), 1000, LAYER)?;
    push(&kept, "kept")?;
    // What a push left is not garbage: it was just now.
    let untouched = report(collector, &["gc", "run", "--json"])?;
    same("blobs that died", &Some(0), &untouched["tally"]["blobs"].as_u64())?;
    let before = chunk_bytes(stores)?;
    push(&gone, "gone")?;
    push(&kept, "gone/too")?;
    let full = chunk_bytes(stores)?;
    let layers = 3 * LAYER as u64 * stores.len() as u64;
    ensure!(full >= before + layers, "{before} bytes, {full} after a push of {layers}");
    let usage = report(teller, &["usage", "--json"])?;
    let of = |name: &str, what: &str| {
        let all = usage.as_array().into_iter().flatten();
        all.filter(|one| one["repository"] == name).find_map(|one| one[what].as_u64())
    };
    let size: u64 = kept.blobs()?.values().filter(|length| **length > 10_000).sum();
    ensure!(of("kept", "shared") >= Some(size) && of("kept", "unique") == Some(0), "{usage}");
    ensure!(of("gone", "unique") >= Some(size) && of("gone", "shared") == Some(0), "{usage}");

    registry.delete_manifest("gone", &gone.digest()?)?;
    registry.delete_manifest("gone/too", &kept.digest()?)?;
    let now = ["gc", "run", "--json", "--untagged", "0s", "--unreferenced", "0s"];
    let dry = report(collector, &[&now[..], &["--dry-run"]].concat())?;
    let done = report(collector, &now)?;
    for count in ["manifests", "links", "blobs", "blob_bytes", "repositories"] {
        same(count, &dry["tally"][count], &done["tally"][count])?;
    }
    ensure!(done["tally"]["blob_bytes"].as_u64() >= Some(3 * LAYER as u64), "{done}");
    let mut last = String::new();
    let waited = wait_until("the room to come back", LIMIT, || {
        report(collector, &now)?;
        let now = chunk_bytes(stores)?;
        last = format!("{before} bytes before, {full} with what is deleted, {now} now");
        Ok(now <= before)
    });
    waited.with_context(|| last)?;
    let told = tool(teller, &["gc", "status"])?;
    ensure!(told.contains("The last complete walk"), "{told}");

    let back = Layout::at(&directory.path().join("back"));
    skopeo.copy_all(&format!("docker://{}/kept:1", registry.host()), &back.reference())?;
    same("blobs of the image that was kept", &kept.blobs()?, &back.blobs()?)?;
    ensure!(!registry.has_manifest("gone", "1")?, "it was deleted");
    // It can be pushed again, from nothing.
    push(&gone, "gone")?;
    let back = Layout::at(&directory.path().join("again"));
    skopeo.copy_all(&format!("docker://{}/gone:1", registry.host()), &back.reference())?;
    same("blobs of the image that came again", &gone.blobs()?, &back.blobs()?)
}

/// What a command says that asks this admin address.
fn tool(admin: SocketAddr, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(speedy()?);
    command.args(arguments).args(["--admin", &admin.to_string()]);
    run(&mut command, LIMIT)
}

fn report(admin: SocketAddr, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&tool(admin, arguments)?)?)
}

/// Bytes of the chunks of these nodes in all.
fn chunk_bytes(stores: &[SocketAddr]) -> Result<u64> {
    let mut all = 0;
    for store in stores {
        let stats = report(*store, &["store", "stats", "--json"])?;
        all += stats["chunk_bytes"].as_u64().context("no chunk_bytes")?;
    }
    Ok(all)
}
