//! An index of images for several platforms.

use anyhow::{Result, ensure};
use speedy_e2e::{Deployment, Lab, Layout, same};

/// `skopeo copy --all` of a two-platform index to the registry and back: the same bytes under the same digests.
pub(crate) fn of_two_platforms<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let skopeo = lab.skopeo()?;
    let registry = deployment.registry();
    let made = Layout::make(&directory.path().join("made"), 1, 3_000_000)?;
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
