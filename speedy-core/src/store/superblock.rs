//! The file that says who a store is, and which of its directories this one.

use std::io;

use super::OpenError;
use super::disk::Disk;
use super::format::{FIRST_RECORD, FORMAT_VERSION, Head, HeadError, Siblings, Superblock};
use super::volumes;

const FILE: &str = "STORE";
const ASIDE: &str = "STORE.new";

/// Whether a directory with files of these names belongs to a store. Whatever else is in it is not the engine's.
pub(super) fn is_taken(names: &[String]) -> bool {
    names.iter().any(|name| name == FILE || volumes::number_of(name).is_some())
}

/// What a directory says of itself.
pub(super) struct Found {
    pub(super) superblock: Superblock,
    /// `None` where the list is damaged.
    pub(super) siblings: Option<Siblings>,
    pub(super) has_volumes: bool,
}

/// Reads the superblock of a directory; `None` where it belongs to no store yet.
pub(super) fn read(disk: &dyn Disk) -> Result<Option<Found>, OpenError> {
    let path = disk.path().join(FILE);
    let names = disk.names().map_err(|e| OpenError::io(disk.path().to_path_buf(), e))?;
    if !is_taken(&names) {
        return Ok(None);
    }
    if !names.iter().any(|name| name == FILE) {
        return Err(OpenError::Identity { path, reason: "it is missing" });
    }
    let mut bytes = Vec::new();
    let file = disk.open(FILE).map_err(|e| OpenError::from_write(path.clone(), e))?;
    file.read_into(&mut bytes, FIRST_RECORD as usize, 0).map_err(|e| OpenError::io(path.clone(), e))?;
    match Superblock::decode(&bytes) {
        Ok(superblock) => {
            let has_volumes = names.iter().any(|name| volumes::number_of(name).is_some());
            Ok(Some(Found { superblock, siblings: Siblings::decode(&bytes), has_volumes }))
        }
        Err(HeadError::OtherVersion(found)) => {
            Err(OpenError::NewerFormat { path, found, supported: FORMAT_VERSION })
        }
        Err(HeadError::Damaged | HeadError::Unfinished) => {
            Err(OpenError::Identity { path, reason: "it is damaged" })
        }
    }
}

/// Makes or replaces the superblock of a directory, in one step: a crash leaves the old one or the new one.
pub(super) fn write(disk: &dyn Disk, superblock: &Superblock, siblings: &Siblings) -> Result<(), OpenError> {
    let write = || -> io::Result<()> {
        // One left by a start that was cut off is replaced.
        let _ = disk.remove(ASIDE);
        let file = disk.create(ASIDE)?;
        file.write_at(&siblings.encode_behind(superblock), 0)?;
        file.sync_data()?;
        disk.rename(ASIDE, FILE)?;
        disk.sync()
    };
    write().map_err(|e| OpenError::from_write(disk.path().join(FILE), e))
}
