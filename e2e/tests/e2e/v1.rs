//! Docker Registry v1: a push and a pull as Docker 1.5 made them, and the search of today's Docker.

use std::time::Duration;

use anyhow::{Result, ensure};
use speedy_e2e::{
    Deployment, Fleet, Lab, Podman, V1Image, delete_v1, noise, pull_v1, push_v1, same, wait_until,
};

use crate::roundtrip;

/// Bytes of a layer that does not compress: several fragments.
const LAYER: usize = 9_000_000;

/// Until when a search must know what was pushed: names may be five seconds old.
const SEARCH_LIMIT: Duration = Duration::from_secs(20);

fn images(seed: u64, number: u64) -> Vec<V1Image> {
    let mut images: Vec<V1Image> = Vec::new();
    for step in 0..number {
        images.push(V1Image::new(noise(seed + step, LAYER), images.last()));
    }
    images
}

/// Three layers go out and come back, are not sent twice, and go when nothing holds them; `docker search` finds what was
/// pushed through either interface.
pub(crate) fn pushed_pulled_and_found<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let registry = deployment.registry();
    let fronts = [registry.clone()];
    let images = images(100, 3);
    same("layers sent", &3, &push_v1(&fronts, "haystack/old-needle", "1.0", &images)?)?;
    same("layers sent again", &0, &push_v1(&fronts, "needle", "latest", &images[..2])?)?;
    pull_v1(&registry, "haystack/old-needle", "1.0", &images)?;
    pull_v1(&registry, "needle", "latest", &images[..2])?;

    let (docker, image) = (lab.docker()?, lab.image()?);
    roundtrip::push(docker, image, &registry, "haystack/new-needle")?;
    let expected = ["haystack/new-needle", "haystack/old-needle", "library/needle"];
    let mut last = Vec::new();
    let found = wait_until("docker search", SEARCH_LIMIT, || {
        last = docker.search(&format!("{}/needle", registry.host()))?;
        // All have as many stars, and Docker sorts by those.
        last.sort();
        std::thread::sleep(Duration::from_millis(200));
        Ok(last == expected)
    });
    ensure!(found.is_ok(), "docker search finds {last:?}");
    let directory = lab.directory()?;
    let podman = Podman::new(&directory.path().join("podman"))?;
    let mut found = podman.search(&format!("{}/needle", registry.host()))?;
    found.sort();
    same("what podman finds", &expected.map(str::to_owned).to_vec(), &found)?;
    // All that there is: it then asks for v2's catalog, which has no images of v1.
    let all = podman.search(&format!("{}/", registry.host()))?;
    same("what podman finds without a word", &vec!["haystack/new-needle".to_owned()], &all)?;

    delete_v1(&registry, "haystack/old-needle")?;
    ensure!(pull_v1(&registry, "haystack/old-needle", "1.0", &images).is_err(), "it is still there");
    pull_v1(&registry, "needle", "latest", &images[..2])
}

/// One push, every call of which goes to the other of two registries.
pub(crate) fn through_two_registries(_lab: &Lab, fleet: &mut Fleet) -> Result<()> {
    let fronts = fleet.fronts();
    ensure!(fronts.len() > 1, "there is one registry only");
    let images = images(200, 3);
    same("layers sent", &3, &push_v1(&fronts, "both/ways", "1", &images)?)?;
    for front in &fronts {
        pull_v1(front, "both/ways", "1", &images)?;
    }
    same("layers sent again", &0, &push_v1(&fronts, "both/ways", "2", &images)?)
}
