//! How the binary starts, refuses to start, and ends.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use speedy_e2e::{Deployment, Finished, Lab, Node, Registry, Single, free_addresses, run, same, speedy};

/// Until when a refusal must have come.
const LIMIT: Duration = Duration::from_secs(20);

/// The roles of the command line.
const ROLES: [&str; 6] = ["serve", "master", "meta", "chunk", "image", "registry"];

type Body = fn(&Lab) -> Result<()>;

pub(crate) fn tests(lab: &Arc<Lab>) -> Vec<Trial> {
    let tests: [(&str, Body); 10] = [
        ("help", help),
        ("port_taken", port_taken),
        ("directory_locked", directory_locked),
        ("directory_not_writable", directory_not_writable),
        ("directory_named_twice", directory_named_twice),
        ("bad_option", bad_option),
        ("next_steps", next_steps),
        ("output_nowhere", output_nowhere),
        ("sigterm", sigterm),
        ("master_with_a_directory", master_with_a_directory),
    ];
    let trial = |(name, body): (&str, Body)| {
        let lab = Arc::clone(lab);
        Trial::test(format!("start::{name}"), move || {
            body(&lab).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    tests.into_iter().map(trial).collect()
}

/// `speedy --help` names every role, and each role's own help its options.
fn help(_: &Lab) -> Result<()> {
    let text = run(Command::new(speedy()?).arg("--help"), LIMIT)?;
    for role in ROLES {
        ensure!(text.contains(role), "speedy --help does not name {role}:\n{text}");
        let own = run(Command::new(speedy()?).args([role, "--help"]), LIMIT)?;
        for option in ["--listen", "--advertise", "--admin", "--config", "--log-format"] {
            ensure!(own.contains(option), "speedy {role} --help does not name {option}:\n{own}");
        }
    }
    Ok(())
}

fn port_taken(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    refused(&serve(&directory.path().join("data"), taken)?, &[&taken.to_string(), "in use", "--listen"])
}

fn directory_locked(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let _holder = Single::start(directory.path())?;
    let data = directory.path().join("data");
    let [listen] = free_addresses()?;
    refused(&serve(&data, listen)?, &[&data.display().to_string(), "another process"])
}

fn directory_not_writable(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    // Root may write anywhere, but nobody can make a directory below a file.
    fs::write(directory.path().join("file"), "in the way")?;
    let data = directory.path().join("file/data");
    let [listen] = free_addresses()?;
    refused(&serve(&data, listen)?, &[&data.display().to_string(), "--data-dir"])
}

/// A chunk node keeps one store over several directories, each of them once.
fn directory_named_twice(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let [listen, admin, master] = free_addresses()?;
    let mut command = Command::new(speedy()?);
    command.args(["chunk", "--listen", &listen.to_string(), "--admin", &admin.to_string()]);
    command.args(["--master", &master.to_string(), "--group", "1"]);
    for name in ["a", "b", "a/../a"] {
        fs::create_dir_all(directory.path().join(name))?;
        command.arg("--data-dir").arg(directory.path().join(name));
    }
    let same = Finished::of(&mut command, LIMIT)?;
    refused(&same, &["a/../a are the same directory", "--data-dir"])
}

fn bad_option(_: &Lab) -> Result<()> {
    let unknown = Finished::of(Command::new(speedy()?).args(["serve", "--data-dri", "x"]), LIMIT)?;
    same("exit code of an unknown option", &Some(2), &unknown.status.code())?;
    refused(&unknown, &["--data-dri", "--data-dir"])?;
    let address = Finished::of(Command::new(speedy()?).args(["serve", "--listen", "nowhere"]), LIMIT)?;
    refused(&address, &["nowhere", "--listen"])?;
    let missing = Finished::of(Command::new(speedy()?).args(["chunk", "--group", "1"]), LIMIT)?;
    refused(&missing, &["--master"])
}

/// `speedy serve` prints the commands that a newcomer types next.
fn next_steps(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let mut single = Single::start(directory.path())?;
    let (log, front) = (single.node.log()?, single.front());
    for command in [format!("docker push {front}/"), format!("docker pull {front}/")] {
        ensure!(log.contains(&command), "no `{command}…` in what speedy serve prints:\n{log}");
    }
    Ok(())
}

/// It serves although what it prints can't be written, as after `speedy serve | head -1`.
fn output_nowhere(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let [listen, admin] = free_addresses()?;
    let mut command = Command::new(speedy()?);
    command.args(["serve", "--listen", &listen.to_string(), "--admin", &admin.to_string(), "--data-dir"]);
    command.arg(directory.path().join("data"));
    let errors = fs::File::create(directory.path().join("errors"))?;
    let mut child =
        command.stdout(fs::File::options().write(true).open("/dev/full")?).stderr(errors).spawn()?;
    let ready = Registry::at(listen).wait_ready();
    child.kill()?;
    child.wait()?;
    let errors = fs::read_to_string(directory.path().join("errors"))?;
    ready.with_context(|| errors.clone())?;
    ensure!(!errors.contains("panicked"), "it panicked:\n{errors}");
    Ok(())
}

/// SIGTERM drains and exits 0, and leaves a directory that starts again.
fn sigterm(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let mut single = Single::start(directory.path())?;
    same("exit code after SIGTERM", &Some(0), &single.node.terminate()?.code())?;
    single.node.start()?;
    single.registry().wait_ready()
}

/// A master that keeps its state in a directory needs nobody to start; the clusters of the other tests keep it on the
/// meta node.
fn master_with_a_directory(lab: &Lab) -> Result<()> {
    let directory = lab.directory()?;
    let [listen, admin] = free_addresses()?;
    let data = directory.path().join("master").display().to_string();
    let mut master = Node::new("master", "master", listen, admin, &["--data-dir", &data], directory.path());
    master.start()?;
    same("exit code after SIGTERM", &Some(0), &master.terminate()?.code())
}

fn serve(data: &std::path::Path, listen: SocketAddr) -> Result<Finished> {
    let [admin] = free_addresses()?;
    let mut command = Command::new(speedy()?);
    command.arg("serve").arg("--data-dir").arg(data);
    command.args(["--listen", &listen.to_string(), "--admin", &admin.to_string()]);
    Finished::of(&mut command, LIMIT)
}

/// It ended with a code that says failure, named the thing and the remedy, and did not panic.
fn refused(finished: &Finished, words: &[&str]) -> Result<()> {
    let Finished { status, output, errors } = finished;
    ensure!(status.code().is_some_and(|code| code != 0), "it should have failed: {status}\n{output}{errors}");
    ensure!(!errors.contains("panicked"), "it panicked:\n{errors}");
    for word in words {
        ensure!(errors.contains(word) || output.contains(word), "nothing says `{word}`:\n{output}{errors}");
    }
    Ok(())
}
