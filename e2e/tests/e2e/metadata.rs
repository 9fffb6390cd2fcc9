//! The metadata is lost, and comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use speedy_e2e::{Cluster, Deployment, Lab, Layout, Registry, Skopeo, run, same, speedy, wait_until};

/// Until when a backup or a restore of a few images must be done.
const LIMIT: Duration = Duration::from_secs(60);

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
    cluster.master.terminate()?;
    cluster.master.start()?;
    registry.wait_ready()?;

    let pushed = pushed.into_inner().map_err(|_| anyhow!("a pusher panicked"))?;
    for (number, image) in pushed.iter().take(before).enumerate() {
        pull(&skopeo, &registry, image, &directory.path().join(format!("back-{number}")))?;
    }
    let lost = pushed.last().context("nothing was pushed")?;
    ensure!(!registry.has_manifest(&lost.name, "1")?, "what was pushed after the backup can't be in it");
    skopeo.copy_all(&lost.made.reference(), &format!("docker://{}/{}:1", registry.host(), lost.name))?;
    pull(&skopeo, &registry, lost, &directory.path().join("again"))
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
