//! What clients show to their users when the registry refuses.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use speedy_e2e::{Containerd, Deployment, Finished, Lab, Layout, Podman, run, same, speedy};

/// Until when a command must have ended; some clients try again a few times.
const LIMIT: Duration = Duration::from_secs(60);

const REASON: &str = "disks are replaced until noon";

/// What is not there, and pushes while the registry is read-only: clients say which it is, in the words of the registry where
/// they show any, and pulls go on.
pub(crate) fn shown<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let (docker, skopeo, oras) = (lab.docker()?, lab.skopeo()?, lab.oras()?);
    let podman = Podman::new(&directory.path().join("podman"))?;
    let ctr = Containerd::start(directory.path())?;
    let registry = deployment.registry();
    let name = |image: &str| format!("{}/{image}", registry.host());
    let url = |image: &str| format!("docker://{}", name(image));
    let made = Layout::make(&directory.path().join("made"), 61, 500_000)?;
    skopeo.copy_all(&made.reference(), &url("there:1"))?;

    let missing = "manifest unknown: the manifest is not in this repository";
    for image in ["there:2", "nowhere:1"] {
        let back = Layout::at(&directory.path().join("back"));
        says(&mut docker.command(&["pull", &name(image)]), &[missing])?;
        says(&mut podman.pull_command(&name(image)), &[missing])?;
        says(&mut skopeo.copy_all_command(&url(image), &back.reference()), &[missing])?;
        says(&mut ctr.pull_command("linux/amd64", &name(image)), &["not found"])?;
        let pulled = oras.pull(&name(image), directory.path()).err().context("oras found it")?;
        ensure!(format!("{pulled:#}").contains("Not Found"), "{pulled:#}");
    }

    docker.pull(&name("there:1"))?;
    docker.tag(&name("there:1"), &name("new:1"))?;
    podman.pull(&name("there:1"))?;
    ctr.pull_all(&name("there:1"))?;
    ctr.tag(&name("there:1"), &name("new:1"))?;
    let file = directory.path().join("file");
    fs::write(&file, "a file")?;
    let artifact = format!("{}:text/plain", file.display());

    let admin = deployment.admin().to_string();
    let switch = |arguments: &[&str]| {
        let mut command = Command::new(speedy()?);
        run(command.arg("read-only").args(arguments).args(["--admin", &admin]), LIMIT).map(drop)
    };
    switch(&["on", "--reason", REASON])?;
    let said = format!("the registry is read-only at the moment: {REASON}");
    says(&mut docker.command(&["push", &name("new:1")]), &[&said])?;
    says(&mut podman.push_command(&name("there:1"), &name("new:1")), &[&said])?;
    says(&mut skopeo.copy_all_command(&made.reference(), &url("new:1")), &[&said])?;
    let pushed = ctr.push(&name("new:1")).err().context("containerd pushed")?;
    ensure!(format!("{pushed:#}").contains("405 Method Not Allowed"), "{pushed:#}");
    let pushed = oras.push(&name("new:1"), &[&artifact], &speedy_e2e::Extras::default());
    let pushed = pushed.err().context("oras pushed")?;
    ensure!(format!("{pushed:#}").contains(&said), "{pushed:#}");
    for deleted in [skopeo.delete(&url("there:1")), oras.delete(&name("there:1")).map(drop)] {
        let deleted = deleted.err().context("it was deleted")?;
        ensure!(format!("{deleted:#}").contains(&said), "{deleted:#}");
    }
    let back = Layout::at(&directory.path().join("back"));
    skopeo.copy_all(&url("there:1"), &back.reference()).context("a pull while it is read-only")?;
    same("blobs", &made.blobs()?, &back.blobs()?)?;
    ensure!(!registry.has_manifest("new", "1")?, "a push got through");

    switch(&["off"])?;
    docker.push(&name("new:1")).map(drop)
}

/// It fails and says so.
fn says(command: &mut Command, words: &[&str]) -> Result<()> {
    let finished = Finished::of(command, LIMIT)?;
    ensure!(!finished.status.success(), "it did not fail: {command:?}");
    let text = format!("{}{}", finished.output, finished.errors);
    for word in words {
        ensure!(text.contains(word), "{command:?} does not say \"{word}\":\n{text}");
    }
    Ok(())
}
