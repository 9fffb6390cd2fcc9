//! The metadata is lost, and comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use speedy_e2e::{Cluster, Deployment, Lab, Layout, Registry, Skopeo, Wire, run, same, speedy, wait_until};

/// Until when a backup or a restore of a few images must be done.
const LIMIT: Duration = Duration::from_secs(60);

/// What a client that has nothing to send may still send: requests, manifests, headers.
const TALK: u64 = 64 * 1024;

/// Bytes of a layer that does not compress.
const LAYER: usize = 400_000;

/// An image whose push was acknowledged.
struct Acknowledged {
    name: String,
    made: Layout,
}

/// A backup is taken while clients push; the meta node is killed and its directory lost. What was acknowledged before the
/// backup began is there after the restore, byte for byte, and pushes go on.
pub(crate) fn restored(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let directory = lab.directory()?;
    let (skopeo, registry) = (lab.skopeo()?, cluster.registry());
    let backup = directory.path().join("backup");
    let pushed = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let before = thread::scope(|scope| {
        let pushers = [1, 2].map(|pusher| {
            let pushes = Pushes { skopeo: &skopeo, registry: &registry, directory: directory.path(), pusher };
            let (pushed, stop) = (&pushed, &stop);
            scope.spawn(move || pushes.until(stop, pushed))
        });
        let before = enough(&pushed, 4).and_then(|before| {
            take_backup(cluster, &backup)?;
            // So that there is something that the backup does not have.
            enough(&pushed, before + 3)?;
            Ok(before)
        });
        stop.store(true, Ordering::Relaxed);
        for pusher in pushers {
            pusher.join().map_err(|_| anyhow!("a pusher panicked"))??;
        }
        before
    })?;

    cluster.meta.kill()?;
    fs::remove_dir_all(&cluster.meta_data)?;
    let mut restore = Command::new(speedy()?);
    restore.args(["meta", "restore"]).arg(&backup).arg("--data-dir").arg(&cluster.meta_data);
    let said = run(&mut restore, LIMIT)?;
    ensure!(said.contains("verified"), "{said}");
    cluster.meta.start()?;
    restart(cluster)?;

    let pushed = pushed.into_inner().map_err(|_| anyhow!("a pusher panicked"))?;
    for (number, image) in pushed.iter().take(before).enumerate() {
        pull(&skopeo, &registry, image, &directory.path().join(format!("back-{number}")))?;
    }
    let later = rebuild(cluster, &[])?;
    ensure!(later["rebuilt"].as_u64() >= Some(3), "what was stored after the backup is still there: {later}");
    let lost = pushed.last().context("nothing was pushed")?;
    ensure!(!registry.has_manifest(&lost.name, "1")?, "what was pushed after the backup can't be in it");
    skopeo.copy_all(&lost.made.reference(), &format!("docker://{}/{}:1", registry.host(), lost.name))?;
    pull(&skopeo, &registry, lost, &directory.path().join("again"))
}

/// All metadata is lost, and there is no backup. The blobs come back from the chunk nodes, so that a push of the same image
/// sends none of its layers.
pub(crate) fn rebuilt(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let directory = lab.directory()?;
    let (skopeo, wire) = (lab.skopeo()?, Wire::to(cluster.front())?);
    let registry = Registry::at(wire.address());
    // Layers of several fragments each.
    let made = Layout::make(&directory.path().join("made"), 5, 10_000_000)?;
    let image = Acknowledged { name: "team/app".into(), made };
    let push = || {
        let to = format!("docker://{}/{}:1", registry.host(), image.name);
        skopeo.copy_all(&image.made.reference(), &to)
    };
    push()?;
    cluster.meta.kill()?;
    fs::remove_dir_all(&cluster.meta_data)?;
    cluster.meta.start()?;
    restart(cluster)?;
    ensure!(!registry.has_manifest(&image.name, "1")?, "there is no metadata to know it from");

    let dry = rebuild(cluster, &["--dry-run"])?;
    let first = rebuild(cluster, &["--repository", &image.name])?;
    // Two configurations and three layers; what the tests write to see whether a registry is ready is one more.
    for report in [&dry, &first] {
        ensure!(report["rebuilt"].as_u64() >= Some(5) && report["complete"] == true, "{report}");
    }
    ensure!(first["linked"].as_u64() >= Some(5), "{first}");
    let again = rebuild(cluster, &[])?;
    same("blobs rebuilt by a second run", &Some(0), &again["rebuilt"].as_u64())?;

    let before = wire.sent();
    push()?;
    let sent = wire.sent() - before;
    ensure!(sent < TALK, "{sent} bytes were sent of an image whose blobs were rebuilt");
    pull(&skopeo, &registry, &image, &directory.path().join("back"))
}

/// Runs `speedy meta rebuild` on the cluster and answers its report.
fn rebuild(cluster: &Cluster, more: &[&str]) -> Result<Value> {
    let mut rebuild = Command::new(speedy()?);
    rebuild.args(["meta", "rebuild", "--json", "--master", &cluster.master.address().to_string()]);
    rebuild.args(["--meta", &cluster.meta.address().to_string()]).args(more);
    Ok(serde_json::from_str(&run(&mut rebuild, LIMIT)?)?)
}

/// Starts those again that remember more than the new metadata knows, as the documentation says, and waits until the
/// registry takes writes.
fn restart(cluster: &mut Cluster) -> Result<()> {
    for node in [&mut cluster.master, &mut cluster.image] {
        node.terminate()?;
        node.start()?;
    }
    cluster.registry().wait_ready()
}

/// Waits until so many images are pushed, and answers how many are.
fn enough(pushed: &Mutex<Vec<Acknowledged>>, wanted: usize) -> Result<usize> {
    let count = || pushed.lock().map(|pushed| pushed.len()).map_err(|_| anyhow!("a pusher panicked"));
    wait_until("a few images to be pushed", Duration::from_secs(120), || Ok(count()? >= wanted))?;
    count()
}

fn take_backup(cluster: &Cluster, file: &Path) -> Result<()> {
    let mut backup = Command::new(speedy()?);
    backup.args(["meta", "backup", "--admin", &cluster.meta.admin().to_string()]).arg(file);
    let said = run(&mut backup, LIMIT)?;
    ensure!(said.contains("complete and verified"), "{said}");
    Ok(())
}

/// A client that pushes one small image after the other.
struct Pushes<'a> {
    skopeo: &'a Skopeo,
    registry: &'a Registry,
    directory: &'a Path,
    pusher: u64,
}

impl Pushes<'_> {
    fn until(&self, stop: &AtomicBool, pushed: &Mutex<Vec<Acknowledged>>) -> Result<()> {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("pushed-{}-{number}", self.pusher);
            let path: PathBuf = self.directory.join(&name);
            let made = Layout::make(&path, self.pusher * 1_000_000 + number * 10, LAYER)?;
            self.skopeo
                .copy_all(&made.reference(), &format!("docker://{}/{name}:1", self.registry.host()))?;
            pushed
                .lock()
                .map_err(|_| anyhow!("the other pusher panicked"))?
                .push(Acknowledged { name, made });
        }
        Ok(())
    }
}

fn pull(skopeo: &Skopeo, registry: &Registry, image: &Acknowledged, into: &Path) -> Result<()> {
    let back = Layout::at(into);
    skopeo.copy_all(&format!("docker://{}/{}:1", registry.host(), image.name), &back.reference())?;
    same("digest of the index", &image.made.digest()?, &back.digest()?)?;
    same("blobs of the image", &image.made.blobs()?, &back.blobs()?)
}
