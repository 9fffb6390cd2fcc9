//! containerd, which is what Kubernetes pulls with.

use anyhow::{Result, ensure};
use speedy_e2e::{Containerd, Deployment, Lab, Layout, Registry, Wire, same};

/// Bytes of a layer that does not compress.
const LAYER: usize = 3_000_000;

/// What a push may send of which the registry has all blobs: requests, and manifests.
const TALK: u64 = 64 * 1024;

/// `ctr` pushes an index of two platforms; pulls one of them, and both; pushes what it pulled to another repository without
/// its blobs; and pulls by digest, and through a mirror.
pub(crate) fn ctr<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let path = |name: &str| directory.path().join(name);
    let ctr = Containerd::start(directory.path())?;
    let outcome = with(&ctr, lab, deployment, &path);
    // Its log is in a directory that goes with this test.
    outcome.map_err(|error| error.context(ctr.log_tail()))
}

fn with<D: Deployment>(
    ctr: &Containerd,
    lab: &Lab,
    deployment: &mut D,
    path: &dyn Fn(&str) -> std::path::PathBuf,
) -> Result<()> {
    let wire = Wire::to(deployment.front())?;
    let registry = Registry::at(wire.address());
    let name = |image: &str| format!("{}/{image}", registry.host());
    let made = Layout::make(&path("made"), 7, LAYER)?;
    let all: Vec<String> = made.blobs()?.into_keys().collect();
    made.pack(&path("made.tar"))?;

    ctr.import(&path("made.tar"), &name("node/app"))?;
    let image = name("node/app:both");
    ctr.push(&image)?;
    same("digest of the index", &made.digest()?, &registry.stored("node/app", "both")?.digest)?;
    ctr.remove(&image)?;
    same("what is left after its removal", &Vec::<String>::new(), &ctr.content()?)?;

    for architecture in ["amd64", "arm64"] {
        let platform = format!("linux/{architecture}");
        ctr.pull_for(&platform, &image)?;
        // The index, a manifest, a configuration, two layers.
        same("blobs of one platform", &5, &ctr.content()?.len())?;
        let files: Vec<_> = ctr.files(&platform, &image)?.into_keys().collect();
        same("files of one platform", &vec![architecture.to_owned(), "shared".to_owned()], &files)?;
        ctr.remove(&image)?;
    }

    ctr.pull_all(&image)?;
    same("blobs of both platforms", &all, &ctr.content()?)?;
    ctr.export(&image, &path("back.tar"))?;
    let back = Layout::unpack(&path("back.tar"), &path("back"))?;
    same("digest of the index that came back", &made.digest()?, &back.digest()?)?;
    same("digests and lengths of all blobs", &made.blobs()?, &back.blobs()?)?;

    let other = name("other/app:both");
    ctr.tag(&image, &other)?;
    let before = wire.sent();
    ctr.push(&other)?;
    let sent = wire.sent() - before;
    same("digest of the index elsewhere", &made.digest()?, &registry.stored("other/app", "both")?.digest)?;
    ensure!(sent < TALK, "containerd sent {sent} bytes of an image that it could have mounted");
    let copy = Layout::at(&path("copy"));
    lab.skopeo()?.copy_all(&format!("docker://{other}"), &copy.reference())?;
    same("digests and lengths of what was mounted", &made.blobs()?, &copy.blobs()?)?;
    ctr.remove(&other)?;
    ctr.remove(&image)?;

    let by_digest = name(&format!("other/app@{}", made.digest()?));
    ctr.pull_all(&by_digest)?;
    same("blobs pulled by digest", &all, &ctr.content()?)?;
    ctr.remove(&by_digest)?;

    // It asks the mirror for the image of another registry, and names that one: `?ns=images.example.com`.
    let mirrored = "images.example.com/node/app:both";
    ctr.pull_mirrored(mirrored, &registry.host())?;
    same("blobs pulled through a mirror", &all, &ctr.content()?)
}
