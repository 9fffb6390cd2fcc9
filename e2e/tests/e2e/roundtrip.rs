//! An image goes out and comes back the same.

use anyhow::{Result, ensure};
use speedy_e2e::{Deployment, Docker, Lab, RealImage, Registry, Wire, same};

/// What a client that has nothing to send may still send: requests, the manifest, a few headers.
const TALK: u64 = 64 * 1024;

/// Docker pushes a large image of real files, forgets it, pulls it, and pushes it again.
pub(crate) fn push_and_pull<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let (docker, image) = (lab.docker()?, lab.image()?);
    let wire = Wire::to(deployment.front())?;
    let registry = Registry::at(wire.address());
    push(docker, image, &registry, "real")?;
    pull(docker, image, &registry, "real")?;

    let name = format!("{}/real:1", registry.host());
    let before = wire.sent();
    let again = docker.push(&name)?;
    let sent = wire.sent() - before;
    same("layers that the registry had", &image.layers.len(), &again.existed)?;
    same("layers that Docker sent again", &0, &again.sent)?;
    ensure!(sent < TALK, "Docker sent {sent} bytes for an image that was there");
    Ok(())
}

/// Pushes the image to `repository` under tag 1, and compares what the registry then has with what Docker says of it.
pub(crate) fn push(docker: &Docker, image: &RealImage, registry: &Registry, repository: &str) -> Result<()> {
    let name = format!("{}/{repository}:1", registry.host());
    image.give(docker, &name)?;
    let pushed = docker.push(&name)?;
    let manifest = registry.manifest(repository, "1")?;
    same("digest of the manifest in the registry", &pushed.digest, &manifest.digest)?;
    same("layers in the manifest", &image.layers.len(), &manifest.layers.len())?;
    same("image id in the manifest", &image.id, &manifest.config.0)?;
    registry.verify_blobs(repository, &manifest)
}

/// Removes the image locally, pulls it, and compares it with what was pushed.
pub(crate) fn pull(docker: &Docker, image: &RealImage, registry: &Registry, repository: &str) -> Result<()> {
    let name = format!("{}/{repository}:1", registry.host());
    docker.remove_everything()?;
    let pulled = docker.pull(&name)?;
    let found = docker.inspect(&name)?;
    same("image id", &image.id, &found.id)?;
    same("digests of the unpacked layers", &image.layers, &found.layers)?;
    same("digest that the pull reports and that Docker keeps", &Some(pulled.clone()), &found.digest)?;
    same("digest of the manifest", &registry.manifest(repository, "1")?.digest, &pulled)
}
