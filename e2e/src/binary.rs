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
    // The tests run from target/PROFILE/deps; the binary that belongs to them is one directory up. Cargo decides
    // whether it is up to date.
    let tests = std::env::current_exe()?;
    let directory = tests.ancestors().nth(2).context("the test's executable is not in a target directory")?;
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
