//! The files of an unpacked image.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::bytes::digest_stream;

/// The regular files under a directory: path below it, digest and length of each.
///
/// # Errors
/// When one can't be read.
pub fn files_in(directory: &Path) -> Result<BTreeMap<String, (String, u64)>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).with_context(|| format!("listing {}", at.display()))? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(directory)?.display().to_string();
                found.insert(name, digest_stream(File::open(&path)?)?);
            }
        }
    }
    Ok(found)
}
