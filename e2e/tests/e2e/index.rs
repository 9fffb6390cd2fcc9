//! An index of images for several platforms.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedy_e2e::{Containerd, Deployment, Docker, Lab, Layout, Registry, same};

/// Bytes of a layer that does not compress.
const LAYER: usize = 3_000_000;

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// `skopeo copy --all` of a two-platform index to the registry and back: the same bytes under the same digests.
pub(crate) fn of_two_platforms<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let skopeo = lab.skopeo()?;
    let registry = deployment.registry();
    let made = Layout::make(&directory.path().join("made"), 1, LAYER)?;
    let remote = format!("docker://{}/platforms:both", registry.host());
    skopeo.copy_all(&made.reference(), &remote)?;
    ensure!(registry.has_manifest("platforms", &made.digest()?)?, "the index is not there by its digest");

    let back = Layout::at(&directory.path().join("back"));
    skopeo.copy_all(&remote, &back.reference())?;
    same("digest of the index", &made.digest()?, &back.digest()?)?;
    // The index, two manifests, two configurations, three layers.
    same("blobs", &8, &made.blobs()?.len())?;
    same("digests and lengths of all blobs", &made.blobs()?, &back.blobs()?)
}

/// Docker pulls each platform's image of an index, pushes both as they are, and makes a list of them, which it pulls by platform again.
pub(crate) fn by_docker<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let (docker, skopeo) = (lab.docker()?, lab.skopeo()?);
    let registry = deployment.registry();
    let name = |image: &str| format!("{}/{image}", registry.host());
    let made = Layout::make(&directory.path().join("made"), 4, LAYER)?;
    skopeo.copy_all(&made.reference(), &format!("docker://{}", name("platforms:both")))?;

    let mut layers = Vec::new();
    for architecture in ["amd64", "arm64"] {
        layers.push(pulled_for(docker, architecture, &name("platforms:both"))?);
        docker.tag(&name("platforms:both"), &name(&format!("list:{architecture}")))?;
        docker.push(&name(&format!("list:{architecture}")))?;
    }
    same("the layer that they share", &layers[0][0], &layers[1][0])?;
    ensure!(layers[0][1] != layers[1][1], "both platforms have the layer {}", layers[0][1]);

    let pushed = docker.push_list(&name("list:1"), &[&name("list:amd64"), &name("list:arm64")])?;
    let stored = registry.stored("list", "1")?;
    same("digest of the list that Docker reports", &stored.digest, &pushed)?;
    same("type of the list", &DOCKER_LIST, &stored.kind.as_str())?;
    for (architecture, expected) in ["amd64", "arm64"].iter().zip(&layers) {
        docker.remove_everything()?;
        same("layers", expected, &pulled_for(docker, architecture, &name("list:1"))?)?;
    }
    Ok(())
}

/// Pulls the image for one architecture and gives its layers.
fn pulled_for(docker: &Docker, architecture: &str, name: &str) -> Result<Vec<String>> {
    docker.pull_for(&format!("linux/{architecture}"), name)?;
    same("architecture", &architecture, &docker.architecture(name)?.as_str())?;
    let layers = docker.inspect(name)?.layers;
    same("number of layers", &2, &layers.len())?;
    Ok(layers)
}

/// What a mirror does that keeps one platform: the index as it is, of which one image is there. Whoever wants that one gets it, others
/// hear what is missing; then the rest comes, and the whole is copied on by skopeo, and deleted.
pub(crate) fn sparse<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let skopeo = lab.skopeo()?;
    let registry = deployment.registry();
    let name = |image: &str| format!("{}/{image}", registry.host());
    let url = |image: &str| format!("docker://{}", name(image));
    let made = Layout::make(&directory.path().join("made"), 5, LAYER)?;
    skopeo.copy_all(&made.reference(), &url("whole/app:1"))?;
    let index: Value = serde_json::from_str(&skopeo.raw(&url("whole/app:1"))?)?;
    let image = |at: usize| {
        let digest = index["manifests"][at]["digest"].as_str().context("an entry without a digest");
        digest.map(|digest| url(&format!("whole/app@{digest}")))
    };
    skopeo.copy_index_only(&url("whole/app:1"), &url("mirror/app:1"))?;
    same("digest of the index", &made.digest()?, &registry.stored("mirror/app", "1")?.digest)?;

    let ctr = Containerd::start(directory.path())?;
    ensure!(ctr.pull_for("linux/amd64", &name("mirror/app:1")).is_err(), "no image is there yet");
    skopeo.copy(&image(0)?, &url("mirror/app:amd64"))?;
    ctr.pull_for("linux/amd64", &name("mirror/app:1"))?;
    let files: Vec<_> = ctr.files("linux/amd64", &name("mirror/app:1"))?.into_keys().collect();
    same("files of the platform that is there", &vec!["amd64".to_owned(), "shared".to_owned()], &files)?;
    let missing =
        skopeo.copy_all(&url("mirror/app:1"), &Layout::at(&directory.path().join("half")).reference());
    let missing = missing.err().context("an image that is not there was copied")?;
    ensure!(format!("{missing:#}").contains("manifest unknown"), "{missing:#}");

    skopeo.copy(&image(1)?, &url("mirror/app:arm64"))?;
    ctr.pull_all(&name("mirror/app:1"))?;
    skopeo.sync(&name("mirror/app"), &name("synced"))?;
    let tags = ["1", "amd64", "arm64"].map(str::to_owned).to_vec();
    same("tags that skopeo sees", &tags, &skopeo.tags(&url("synced/app"))?)?;
    let back = Layout::at(&directory.path().join("back"));
    skopeo.copy_all(&url("synced/app:1"), &back.reference())?;
    same("digests and lengths of all blobs", &made.blobs()?, &back.blobs()?)?;

    skopeo.delete(&url("synced/app:1"))?;
    // The tags of the images stay with them.
    same("tags after the delete", &tags[1..].to_vec(), &skopeo.tags(&url("synced/app"))?)?;
    gone(&registry, "synced/app", &made.digest()?)?;
    ensure!(skopeo.delete(&url("synced/app:1")).is_err(), "what is gone was deleted again");
    ctr.pull_for("linux/arm64", &name("synced/app:arm64"))
}

fn gone(registry: &Registry, repository: &str, digest: &str) -> Result<()> {
    ensure!(
        !registry.has_manifest(repository, digest)?,
        "{digest} is still in {repository} after its delete"
    );
    Ok(())
}
