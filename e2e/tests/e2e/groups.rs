//! Groups that are emptied, members that are exchanged, and a directory that becomes a cluster's.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use speedy_e2e::{
    Cluster, Deployment, Finished, Lab, Node, Registry, Single, free_addresses, groups_of, noise, sha256,
    speedy, wait_until, with_retries,
};

const REPOSITORY: &str = "groups";
/// Bytes of a blob: two fragments.
const BLOB: usize = 5_000_000;
/// How long a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// All chunks of a group go to another while blobs are pushed and pulled; then its nodes are gone, and nobody misses them.
pub(crate) fn drained_under_traffic(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let front = Registry::at(cluster.registry.address());
    let directory = lab.directory()?;
    let mut digests = Vec::new();
    for seed in 0..10 {
        digests.push(push(&front, seed)?);
    }
    let mut others = (1..=3)
        .map(|number| chunk_node(&format!("other-{number}"), &cluster.master, 2, directory.path()))
        .collect::<Result<Vec<_>>>()?;
    for node in &mut others {
        node.start()?;
    }
    complete(cluster.master.address(), 2)?;
    let over = AtomicBool::new(false);
    let (pushed, report) = thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let mut pushed = Vec::new();
            for seed in 100.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                pushed.push(push(&front, seed)?);
                for digest in digests.iter().chain(&pushed) {
                    front.verify_blob(REPOSITORY, digest, BLOB as u64)?;
                }
            }
            Ok::<_, anyhow::Error>(pushed)
        });
        let report = cluster_tool(cluster, &["drain", "1", "--json"], true);
        over.store(true, Ordering::Relaxed);
        let pushed = pusher.join().unwrap_or_else(|_| Err(anyhow!("the pusher panicked")));
        Ok::<_, anyhow::Error>((pushed?, report?))
    })?;
    ensure!(report["complete"] == true && report["left_bytes"] == 0, "the group was not emptied: {report}");
    ensure!(report["bytes"].as_u64() >= Some(10 * BLOB as u64), "so little was moved: {report}");
    for node in &mut cluster.chunks {
        node.kill()?;
    }
    for digest in digests.iter().chain(&pushed) {
        front.verify_blob(REPOSITORY, digest, BLOB as u64)?;
    }
    push(&front, 1000).map(drop)
}

/// A member is exchanged for another while blobs are pushed.
pub(crate) fn member_replaced(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let front = Registry::at(cluster.registry.address());
    let directory = lab.directory()?;
    let mut digests = (0..6).map(|seed| push(&front, seed)).collect::<Result<Vec<_>>>()?;
    let status = cluster_tool(cluster, &["status", "--json"], false)?;
    let address = cluster.chunks[1].address().to_string();
    let members = status["groups"][0]["members"].as_array().context("no members")?;
    let member =
        members.iter().find(|member| member["address"] == address.as_str()).context("no such member")?;
    let old = member["node"].as_str().context("no node")?.to_owned();
    let mut newcomer = chunk_node("newcomer", &cluster.master, 1, directory.path())?;
    newcomer.start()?;
    thread::sleep(Duration::from_secs(2));
    ensure!(
        newcomer.log()?.contains("speedy cluster replace"),
        "nothing says how to take it in: {}",
        newcomer.log()?
    );
    cluster_tool(cluster, &["replace", &old], false)?;
    let mut seed = 100;
    wait_until("the new member to be in sync in its place", LIMIT, || {
        digests.push(push(&front, seed)?);
        seed += 1;
        let status = cluster_tool(cluster, &["status", "--json"], false)?;
        let members = status["groups"][0]["members"].as_array().context("no members")?;
        Ok(members.len() == 3 && members.iter().all(|member| member["node"] != old.as_str()))
    })?;
    // What is read now comes from the newcomer.
    for node in &mut cluster.chunks {
        node.kill()?;
    }
    for digest in &digests {
        front.verify_blob(REPOSITORY, digest, BLOB as u64)?;
    }
    Ok(())
}

pub(crate) fn adopted_test(lab: &Arc<Lab>) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test("adopted", move || adopted(&lab).map_err(|error| Failed::from(format!("{error:#}"))))
}

/// The directory of `speedy serve` becomes the first member of a group of three.
fn adopted(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let mut single = Single::start(directory.path())?;
    let front = single.registry();
    let digests = (0..4).map(|seed| push(&front, seed)).collect::<Result<Vec<_>>>()?;
    single.node.terminate()?;
    let data = directory.path().join("data");
    let mut adopt = Command::new(speedy()?);
    let done = Finished::of(adopt.args(["cluster", "adopt", "--data-dir"]).arg(&data), LIMIT)?;
    ensure!(done.status.success() && done.output.contains("speedy chunk"), "{}{}", done.output, done.errors);
    let mut serve = Command::new(speedy()?);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--data-dir"]).arg(&data);
    let refused = Finished::of(&mut serve, LIMIT)?;
    ensure!(
        !refused.status.success() && refused.errors.contains("cluster"),
        "serve took it: {}",
        refused.errors
    );
    let part = |name: &str| data.join(name).display().to_string();
    let mut meta = role("meta", "meta", &["--data-dir", &part("meta")], directory.path())?;
    let meta_at = meta.address().to_string();
    let mut master = role("master", "master", &["--meta", &meta_at], directory.path())?;
    let at = master.address().to_string();
    let mut image = role("image", "image", &["--master", &at, "--meta", &meta_at], directory.path())?;
    let image_at = image.address().to_string();
    let mut registry =
        role("registry", "registry", &["--image", &image_at, "--meta", &meta_at], directory.path())?;
    let chunks = part("chunks");
    let mut first =
        role("first", "chunk", &["--data-dir", &chunks, "--master", &at, "--group", "1"], directory.path())?;
    for node in [&mut meta, &mut master, &mut first, &mut image, &mut registry] {
        node.start()?;
    }
    let front = Registry::at(registry.address());
    // Its readiness asks for more than pulls.
    with_retries(std::slice::from_ref(&front), |front| {
        front.verify_blob(REPOSITORY, &digests[0], BLOB as u64)
    })?;
    let mut others = Vec::new();
    for number in 2..=3 {
        let mut node = chunk_node(&format!("member-{number}"), &master, 1, directory.path())?;
        node.start()?;
        others.push(node);
    }
    complete(master.address(), 1)?;
    first.kill()?;
    let later = push(&front, 50)?;
    for digest in digests.iter().chain([&later]) {
        front.verify_blob(REPOSITORY, digest, BLOB as u64)?;
    }
    Ok(())
}

fn push(front: &Registry, seed: u64) -> Result<String> {
    let blob = noise(seed, BLOB);
    with_retries(std::slice::from_ref(front), |front| front.push_blob(REPOSITORY, &blob))?;
    Ok(sha256(&blob))
}

fn role(name: &str, role: &str, arguments: &[&str], directory: &Path) -> Result<Node> {
    let [listen, admin] = free_addresses()?;
    Ok(Node::new(name, role, listen, admin, arguments, directory))
}

fn chunk_node(name: &str, master: &Node, group: u32, directory: &Path) -> Result<Node> {
    let data = directory.join(name).display().to_string();
    let (master, group) = (master.address().to_string(), group.to_string());
    role(name, "chunk", &["--data-dir", &data, "--master", &master, "--group", &group], directory)
}

fn complete(master: SocketAddr, group: u32) -> Result<()> {
    wait_until("a group to be complete", LIMIT, || {
        Ok(groups_of(master)?.iter().any(|found| found.id == group && found.complete))
    })
}

/// Runs `speedy cluster` against the master, and the meta node for what moves chunks, and answers what it printed, where
/// that is JSON.
fn cluster_tool(cluster: &Cluster, arguments: &[&str], needs_meta: bool) -> Result<Value> {
    let mut command = Command::new(speedy()?);
    command.arg("cluster").args(arguments).args(["--master", &cluster.master.address().to_string()]);
    if needs_meta {
        command.args(["--meta", &cluster.meta.address().to_string()]);
    }
    let Finished { status, output, errors } = Finished::of(&mut command, LIMIT)?;
    match arguments.contains(&"--json") {
        true => {
            serde_json::from_str(&output).with_context(|| format!("{arguments:?} printed {output}{errors}"))
        }
        false => {
            ensure!(status.success(), "{arguments:?} failed: {errors}");
            Ok(Value::Null)
        }
    }
}
