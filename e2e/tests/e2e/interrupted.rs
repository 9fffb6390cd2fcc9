//! Pulls and pushes that stop in the middle: they go on where they stood or begin again, and leave nothing in anyone's way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedy_e2e::{
    Containerd, Deployment, Lab, Layout, Podman, Process, Registry, Way, Wire, run, same, speedy, wait_until,
};

/// Bytes of a layer that does not compress, and of one platform's image: two of them.
const LAYER: usize = 12_000_000;
const IMAGE: u64 = 2 * LAYER as u64;

/// After how many bytes it stops: neither layer is all there, or the first is and half of the second.
const MIDDLE: u64 = 17_000_000;

/// How much more than the image may come: heads and manifests, and what was under way when the connection broke off or lay in the
/// buffers of a client that was killed. Less than what comes again where a client begins anew.
const SLACK: u64 = 5_000_000;

/// Until when a command must be done, or a client must have taken what was sent to it.
const LIMIT: Duration = Duration::from_secs(60);

/// For how long nothing has come when nothing more is under way.
const CALM: Duration = Duration::from_millis(500);

/// What a client that was killed leaves to do at the registry is done by then.
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// A connection breaks off in the middle of a layer: Docker and containerd ask for the rest, podman begins again. So does a pull that
/// was ended, but for containerd's, which asks for the rest then, too.
pub(crate) fn pulls<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let wire = Wire::to(deployment.front())?;
    let registry = Registry::at(wire.address());
    let name = format!("{}/team/app:1", registry.host());
    let made = Layout::make(&directory.path().join("made"), 41, LAYER)?;
    lab.skopeo()?.copy_all(&made.reference(), &format!("docker://{name}"))?;

    docker_pulls(lab, directory.path(), &wire, &name, &made.digest()?).context("Docker")?;
    let ctr = Containerd::start(directory.path())?;
    let outcome = containerd_pulls(&ctr, directory.path(), &wire, &name).context("containerd");
    outcome.map_err(|error| error.context(ctr.log_tail()))?;

    let podman = Podman::new(&directory.path().join("podman"))?;
    // Debian 12's gives up, later ones ask for the rest.
    cut(&wire, || podman.pull(&name).or(Ok(()))).context("podman")?;
    podman.pull(&name).context("podman, after a connection that broke off")?;
    same("layers that podman has", &2, &podman.inspect(&name)?.layers.len())?;
    podman.remove_everything()?;
    end_in_the_middle(&wire, Way::Back, "podman", &mut podman.pull_command(&name), directory.path())?;
    wire.release();
    podman.pull(&name).context("podman, after a pull that was ended")?;
    same("layers that podman has", &2, &podman.inspect(&name)?.layers.len())
}

fn docker_pulls(lab: &Lab, directory: &Path, wire: &Wire, name: &str, digest: &str) -> Result<()> {
    let docker = lab.docker()?;
    docker.remove_everything()?;
    let received = cut(wire, || docker.pull(name).map(drop))?;
    ensure!(received < IMAGE + SLACK, "{received} bytes came of an image of {IMAGE}");
    same("layers", &2, &docker.inspect(name)?.layers.len())?;
    docker.remove_everything()?;
    end_in_the_middle(wire, Way::Back, "docker", &mut docker.command(&["pull", name]), directory)?;
    wire.release();
    same("digest of a pull after one that was ended", &digest.to_owned(), &docker.pull(name)?)
}

fn containerd_pulls(ctr: &Containerd, directory: &Path, wire: &Wire, name: &str) -> Result<()> {
    const PLATFORM: &str = "linux/amd64";
    let received = cut(wire, || ctr.pull_for(PLATFORM, name))?;
    ensure!(received < IMAGE + SLACK, "{received} bytes came of an image of {IMAGE}");
    ctr.remove(name)?;

    let before = wire.received();
    wire.hold_after(Way::Back, MIDDLE);
    let mut pull = ctr.pull_command(PLATFORM, name);
    let mut pull = Process::start("ctr", &mut pull, directory)?;
    wire.wait_held(Way::Back)?;
    // All that has passed arrives.
    let (mut last, mut since) = (Vec::new(), Instant::now());
    wait_until("containerd to take what it has been sent", LIMIT, || {
        let active = ctr.active()?;
        if active != last {
            (last, since) = (active, Instant::now());
        }
        Ok(since.elapsed() > CALM && !last.is_empty())
    })?;
    pull.kill()?;
    wire.release();
    ctr.pull_for(PLATFORM, name).context("after a pull that was ended")?;
    let received = wire.received() - before;
    ensure!(received < IMAGE + SLACK, "{received} bytes came of an image of {IMAGE}, whose pull was ended");
    let files: Vec<_> = ctr.files(PLATFORM, name)?.into_keys().collect();
    same("files", &vec!["amd64".to_owned(), "shared".to_owned()], &files)
}

/// Pushes that are ended in the middle leave no manifest; operators see what they left and end it, and the next push goes through.
pub(crate) fn pushes<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let wire = Wire::to(deployment.front())?;
    let registry = Registry::at(wire.address());
    let name = |repository: &str| format!("{}/{repository}:1", registry.host());
    let made = Layout::make(&directory.path().join("made"), 42, LAYER)?;
    let skopeo = lab.skopeo()?;

    let remote = format!("docker://{}", name("by/skopeo"));
    let mut push = skopeo.copy_all_command(&made.reference(), &remote);
    end_in_the_middle(&wire, Way::Out, "skopeo", &mut push, directory.path())?;
    wire.release();
    no_manifest(&registry, "by/skopeo")?;
    let admin = deployment.admin().to_string();
    let tool = |arguments: &[&str]| -> Result<Value> {
        let mut command = Command::new(speedy()?);
        command.arg("uploads").args(arguments);
        command.args(["--repository", "by/skopeo", "--admin", &admin, "--json"]);
        Ok(serde_json::from_str(&run(&mut command, LIMIT)?)?)
    };
    let listed = tool(&["list"])?;
    ensure!(listed.as_array().is_some_and(|uploads| !uploads.is_empty()), "no upload is listed: {listed}");
    // The request that the client did not finish may hold its upload for a moment.
    wait_until("all uploads to be given up", QUIET_LIMIT, || {
        tool(&["abort"])?;
        Ok(tool(&["list"])?.as_array().is_some_and(Vec::is_empty))
    })?;
    skopeo.copy_all(&made.reference(), &remote).context("skopeo, after a push that was ended")?;
    same("digest of the index", &made.digest()?, &registry.stored("by/skopeo", "1")?.digest)?;

    let (docker, docked) = (lab.docker()?, name("by/docker"));
    // Layers that the registry does not have.
    let other = Layout::make(&directory.path().join("other"), 52, LAYER)?;
    let archive = directory.path().join("other.tar");
    skopeo.copy(&other.reference(), &format!("docker-archive:{}:{docked}", archive.display()))?;
    docker.load(&archive)?;
    end_in_the_middle(&wire, Way::Out, "docker", &mut docker.command(&["push", &docked]), directory.path())?;
    wire.release();
    no_manifest(&registry, "by/docker")?;
    let pushed = docker.push(&docked).context("Docker, after a push that was ended")?;
    let stored = registry.manifest("by/docker", "1")?;
    same("digest that Docker reports", &stored.digest, &pushed.digest)?;
    registry.verify_blobs("by/docker", &stored)
}

/// Runs a pull on a connection that breaks off once, and gives how much came.
fn cut(wire: &Wire, pull: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = wire.received();
    wire.cut_after(Way::Back, MIDDLE);
    pull()?;
    ensure!(wire.is_cut(Way::Back), "the connection did not break off");
    Ok(wire.received() - before)
}

/// Starts a command and kills it when so much has passed that it is in the middle.
fn end_in_the_middle(wire: &Wire, way: Way, name: &str, command: &mut Command, logs: &Path) -> Result<()> {
    wire.hold_after(way, MIDDLE);
    let mut process = Process::start(name, command, logs)?;
    wire.wait_held(way).with_context(|| process.log_tail())?;
    process.kill()
}

fn no_manifest(registry: &Registry, repository: &str) -> Result<()> {
    ensure!(!registry.has_manifest(repository, "1")?, "{repository} has a manifest of a push that was ended");
    Ok(())
}
