//! Processes that die while clients work.

use std::time::Duration;

use anyhow::{Result, ensure};
use speedy_e2e::{Cluster, Deployment, Lab, Process, Registry, Single, Wire, wait_until};

use crate::{copies, roundtrip};

/// How much of the image has arrived when the server is killed: past the first fragments of several layers, far from
/// the end.
const MIDDLE: u64 = 40_000_000;

/// `speedy serve` dies in the middle of a push; started again, it has nothing of the image that can be read, and takes
/// and gives it whole.
pub(crate) fn killed_in_the_middle_of_a_push(lab: &Lab, single: &mut Single) -> Result<()> {
    let (docker, image) = (lab.docker()?, lab.image()?);
    let directory = lab.directory()?;
    let wire = Wire::to(single.front())?;
    let registry = Registry::at(wire.address());
    let name = format!("{}/real:1", registry.host());
    image.give(docker, &name)?;

    let mut push = Process::start("docker-push", &mut docker.command(&["push", &name]), directory.path())?;
    wait_until("the middle of the push", Duration::from_secs(120), || {
        if let Some(status) = push.ended()? {
            anyhow::bail!("the push ended before its middle: {status}\n{}", push.log_tail());
        }
        Ok(wire.sent() >= MIDDLE)
    })?;
    single.node.kill()?;
    push.kill()?;
    single.node.start()?;
    ensure!(!registry.has_manifest("real", "1")?, "half an image can be read");
    roundtrip::push(docker, image, &registry, "real")?;
    roundtrip::pull(docker, image, &registry, "real")
}

/// All three chunk nodes have the image; one dies between push and pull: the pull reads from the two others.
pub(crate) fn chunk_node_killed_before_the_pull(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let (docker, image) = (lab.docker()?, lab.image()?);
    let registry = cluster.registry();
    roundtrip::push(docker, image, &registry, "real")?;
    copies::held_by_all(cluster)?;
    cluster.chunks[1].kill()?;
    roundtrip::pull(docker, image, &registry, "real")
}

/// The master dies: push and pull go on.
pub(crate) fn master_killed(lab: &Lab, cluster: &mut Cluster) -> Result<()> {
    let (docker, image) = (lab.docker()?, lab.image()?);
    let registry = cluster.registry();
    cluster.master.kill()?;
    roundtrip::push(docker, image, &registry, "real")?;
    roundtrip::pull(docker, image, &registry, "real")
}
