//! The reverse proxy of the README, with TLS: every client goes through it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use speedy_e2e::{
    Buildah, Containerd, Deployment, Extras, Lab, Layout, Podman, Proxy, Referrer, Registry, Single, logs_in,
    noise, same,
};

/// More than nginx takes in a body unless told otherwise.
const LAYER: usize = 8_000_000;

const ARTIFACT: &str = "application/vnd.example.notes.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

type Body = fn(&Lab, &Path, &Proxy, &Registry) -> Result<()>;

pub(crate) fn tests(lab: &Arc<Lab>) -> Vec<Trial> {
    let bodies: [(&str, Body); 2] =
        [("nginx_as_the_readme_says", nginx_as_the_readme_says), ("all_clients", all_clients)];
    bodies.into_iter().map(|(name, body)| test(lab, name, body)).collect()
}

/// A test of `speedy serve` behind nginx with the README's own lines as its configuration.
fn test(lab: &Arc<Lab>, name: &str, body: Body) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test(format!("proxy::{name}"), move || {
        let directory = lab.directory()?;
        let outcome = Single::start(directory.path()).and_then(|single| {
            let proxy = Proxy::start(directory.path(), single.front())?;
            body(&lab, directory.path(), &proxy, &single.registry())
        });
        outcome.map_err(|error| {
            Failed::from(format!("{error:#}\n{}\n{}", logs_in(directory.path()), logs_in(lab.logs())))
        })
    })
}

/// An image goes through nginx and back.
fn nginx_as_the_readme_says(lab: &Lab, directory: &Path, proxy: &Proxy, _: &Registry) -> Result<()> {
    let made = Layout::make(&directory.join("made"), 7, LAYER)?;
    let back = Layout::at(&directory.join("back"));
    let remote = format!("docker://{}/proxied:1", proxy.address());
    let skopeo = lab.skopeo()?;
    skopeo.copy_all(&made.reference(), &remote)?;
    skopeo.copy_all(&remote, &back.reference())?;
    same("blobs that went through the proxy and back", &made.blobs()?, &back.blobs()?)
}

/// Each client pushes and pulls through the proxy; all but Docker, which looks at no certificate of this machine, know it by
/// its certificate.
fn all_clients(lab: &Lab, directory: &Path, proxy: &Proxy, registry: &Registry) -> Result<()> {
    let name = |image: &str| format!("{}/{image}", proxy.address());
    let url = |image: &str| format!("docker://{}", name(image));
    let made = Layout::make(&directory.join("made"), 7, LAYER)?;
    let digest = made.digest()?;

    let skopeo = lab.skopeo()?.trusting(proxy.authority());
    skopeo.copy_all(&made.reference(), &url("by/skopeo:1"))?;
    same("tags", &vec!["1".to_owned()], &skopeo.tags(&url("by/skopeo"))?)?;

    let podman = Podman::new(&directory.join("podman"))?.trusting(proxy.authority());
    podman.pull(&name("by/skopeo:1"))?;
    let pushed = podman.push(&name("by/skopeo:1"), &name("by/podman:1"))?;
    let stored = registry.manifest("by/podman", "1")?;
    same("digest that podman reports", &stored.digest, &pushed)?;
    registry.verify_blobs("by/podman", &stored)?;

    let buildah = Buildah::new(&directory.join("buildah"))?.trusting(proxy.authority());
    let file = directory.join("on-top");
    fs::write(&file, noise(9, LAYER))?;
    buildah.put_on_top(&name("by/podman:1"), &file, "higher")?;
    let pushed = buildah.push("higher", "oci", &name("by/buildah:1"))?;
    let stored = registry.manifest("by/buildah", "1")?;
    same("digest that buildah reports", &stored.digest, &pushed)?;
    same("layers with the one on top", &3, &stored.layers.len())?;
    registry.verify_blobs("by/buildah", &stored)?;

    let docker = lab.docker()?;
    docker.pull(&name("by/buildah:1"))?;
    docker.tag(&name("by/buildah:1"), &name("by/docker:1"))?;
    let pushed = docker.push(&name("by/docker:1"))?;
    let stored = registry.manifest("by/docker", "1")?;
    same("digest that Docker reports", &stored.digest, &pushed.digest)?;
    registry.verify_blobs("by/docker", &stored)?;

    let mut ctr = Containerd::start(directory)?;
    ctr.trust(&proxy.address().to_string(), proxy.authority())?;
    ctr.pull_all(&name("by/skopeo:1"))?;
    ctr.tag(&name("by/skopeo:1"), &name("by/ctr:1"))?;
    ctr.push(&name("by/ctr:1"))?;
    same("digest of what containerd pushed", &digest, &registry.stored("by/ctr", "1")?.digest)?;

    let oras = lab.oras()?.trusting(proxy.authority());
    let notes = directory.join("notes.json");
    let bytes = noise(11, 3_000_000);
    fs::write(&notes, &bytes)?;
    let config = format!("/dev/null:{ARTIFACT}");
    let subject = Some((INDEX, digest.as_str(), usize::try_from(made.blobs()?[&digest])?));
    let extras = Extras { config: Some(&config), subject, chunk: Some(1_000_000), ..Extras::default() };
    let file = format!("{}:application/json", notes.display());
    let artifact = oras.push(&name("by/skopeo:notes"), &[&file], &extras)?;
    let found = oras.referrers(&name(&format!("by/skopeo@{digest}")), Some(ARTIFACT))?;
    same("referrers", &vec![Referrer { digest: artifact, kind: ARTIFACT.to_owned() }], &found)?;
    oras.pull(&name("by/skopeo:notes"), &directory.join("notes-back"))?;
    ensure!(fs::read(directory.join("notes-back/notes.json"))? == bytes, "the artifact came back otherwise");
    ensure!(oras.delete(&name("by/skopeo:notes"))?, "there was nothing to delete");
    skopeo.delete(&url("by/skopeo:1"))?;
    ensure!(!registry.has_manifest("by/skopeo", &digest)?, "the index is still there after its delete");
    Ok(())
}
