//! What a run of the tests must not leave on the machine.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::LazyLock;

use anyhow::Result;
use tempfile::{Builder, TempDir};

/// A directory with a short path, because sockets in it must have at most 107 bytes. Its name says which run of the tests it
/// belongs to.
///
/// # Errors
/// When it can't be made.
pub(crate) fn state_directory() -> io::Result<TempDir> {
    Builder::new().prefix(&own_prefix()).tempdir()
}

/// A process id would not do: runs beside each other may have the same, each in a namespace of its own.
fn own_prefix() -> String {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    format!("speedy-e2e-{:08x}-", *RUN >> 32)
}

/// Processes that this run started and that still run, what it has mounted, and its directories: one line each, none when all is
/// gone. `directory` is where it had its data.
///
/// # Errors
/// When `/proc` can't be read.
pub fn leftovers(directory: &Path) -> Result<Vec<String>> {
    let state = std::env::temp_dir().join(own_prefix()).display().to_string();
    let marks = [directory.display().to_string(), state];
    let ours = |text: &str| marks.iter().any(|mark| text.contains(mark.as_str()));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
        // One that ends while we look is not left.
        let Ok(command) = fs::read(path.join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if let Some(id) = id.filter(|&id| id != process::id() && ours(&command)) {
            found.push(format!("process {id}: {command}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    found.extend(mounts.lines().filter(|mount| ours(mount)).map(|mount| format!("mount: {mount}")));
    let temporary = fs::read_dir(std::env::temp_dir())?.flatten().map(|entry| entry.path());
    let kept = temporary.chain([PathBuf::from(directory)]).filter(|path| path.exists());
    let kept = kept.map(|path| path.display().to_string()).filter(|path| ours(path));
    found.extend(kept.map(|path| format!("directory: {path}")));
    Ok(found)
}
