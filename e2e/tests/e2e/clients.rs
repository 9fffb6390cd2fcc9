//! Several clients at once.

use std::thread;

use anyhow::{Result, anyhow};
use speedy_e2e::{Deployment, Lab, Layout, same};

use crate::roundtrip;

/// Bytes of a layer that does not compress.
const LAYER: usize = 24_000_000;

/// Three clients push three images at once and pull them at once; then two clients push one image to one repository
/// while a third reads it.
pub(crate) fn three_at_once<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let path = |name: &str| directory.path().join(name);
    let (docker, image, skopeo) = (lab.docker()?, lab.image()?, lab.skopeo()?);
    let registry = deployment.registry();
    let remote = |name: &str| format!("docker://{}/{name}", registry.host());
    let one = Layout::make(&path("one"), 100, LAYER)?;
    let two = Layout::make(&path("two"), 200, LAYER)?;

    at_once([
        &|| roundtrip::push(docker, image, &registry, "real"),
        &|| skopeo.copy_all(&one.reference(), &remote("one:1")),
        &|| skopeo.copy_all(&two.reference(), &remote("two:1")),
    ])?;
    let back = ["one", "two"].map(|name| Layout::at(&path(&format!("{name}-back"))));
    at_once([
        &|| roundtrip::pull(docker, image, &registry, "real"),
        &|| skopeo.copy_all(&remote("one:1"), &back[0].reference()),
        &|| skopeo.copy_all(&remote("two:1"), &back[1].reference()),
    ])?;
    same("blobs of the first index", &one.blobs()?, &back[0].blobs()?)?;
    same("blobs of the second index", &two.blobs()?, &back[1].blobs()?)?;

    let shared = Layout::at(&path("shared-back"));
    at_once([
        &|| skopeo.copy_all(&one.reference(), &remote("shared:1")),
        &|| skopeo.copy_all(&one.reference(), &remote("shared:2")),
        &|| skopeo.copy_all(&remote("one:1"), &shared.reference()),
    ])?;
    same("blobs of the index that was read meanwhile", &one.blobs()?, &shared.blobs()?)?;
    for tag in ["shared:1", "shared:2"] {
        let back = Layout::at(&path(&format!("{tag}-back").replace(':', "-")));
        skopeo.copy_all(&remote(tag), &back.reference())?;
        same("blobs of the index that two clients pushed at once", &one.blobs()?, &back.blobs()?)?;
    }
    Ok(())
}

/// Runs all and waits for all; the first failure counts.
fn at_once(clients: [&(dyn Fn() -> Result<()> + Sync); 3]) -> Result<()> {
    thread::scope(|scope| {
        let running = clients.map(|client| scope.spawn(client));
        let ended = running.map(|client| client.join().unwrap_or_else(|_| Err(anyhow!("a client panicked"))));
        ended.into_iter().collect()
    })
}
