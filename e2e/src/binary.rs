//! The binary under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// The `speedy` binary: the one that `SPEEDY_BIN` names, or else one that cargo builds now, in the profile of the tests.
///
/// # Errors
/// When it is not there or does not compile.
pub fn speedy() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}"))).clone().map_err(|text| anyhow!(text))
}

fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SPEEDY_BIN") {
        let path = PathBuf::from(named);
        ensure!(path.is_file(), "SPEEDY_BIN names {}, which is not a file", path.display());
        return Ok(path);
    }
    // Tests run from target/PROFILE/deps and programs from target/PROFILE; the binary that belongs to them is in the
    // latter. Cargo decides whether it is up to date.
    let caller = std::env::current_exe()?;
    let directory = caller
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .context("this program is in no target directory")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => return Err(anyhow!("no profile in {}", directory.display())),
    };
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "speedy-services", "--bin", "speedy", "--profile", profile])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("starting cargo to build the speedy binary; or name one in SPEEDY_BIN")?;
    ensure!(status.success(), "the speedy binary does not build: {status}");
    let path = directory.join("speedy");
    ensure!(path.is_file(), "cargo built no {}", path.display());
    Ok(path)
}
