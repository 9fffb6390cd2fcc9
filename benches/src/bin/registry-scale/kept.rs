//! What is known of a store that a run leaves for the next one: how much was put into it, and how many manifests are gone.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::content::Content;

const FILE: &str = "content";

fn line(content: Content, deleted: u64) -> String {
    let Content { repositories, tags, blobs } = content;
    format!("{repositories} {tags} {blobs} {deleted}\n")
}

/// How many manifests were deleted from the store that is kept here; `None` where there is none.
pub(crate) fn deleted(place: &Path, content: Content) -> Result<Option<u64>> {
    let text = match fs::read_to_string(place.join(FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure!(
                !place.join("data").exists(),
                "{} has a store that is not complete: remove it",
                place.display()
            );
            return Ok(None);
        }
        text => text.with_context(|| format!("reading what is in {}", place.display()))?,
    };
    let deleted = text.split_whitespace().nth(3).and_then(|number| number.parse().ok());
    let deleted = deleted.with_context(|| format!("{}: {text:?}", place.join(FILE).display()))?;
    ensure!(text == line(content, deleted), "{} has a store of another size: {text}", place.display());
    Ok(Some(deleted))
}

/// Writes that down.
pub(crate) fn keep(place: &Path, content: Content, deleted: u64) -> Result<()> {
    fs::write(place.join(FILE), line(content, deleted)).context("writing what the store holds")
}
