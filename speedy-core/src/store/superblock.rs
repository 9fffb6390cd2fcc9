//! The file that says who a store is.

use super::OpenError;
use super::disk::Disk;
use super::format::{FIRST_RECORD, FORMAT_VERSION, Head, HeadError, Superblock};
use super::{now, volumes};
use crate::id::{NodeId, StoreId};

const FILE: &str = "STORE";
const ASIDE: &str = "STORE.new";

/// Reads the superblock of a directory; makes one where the directory holds no store yet.
pub(super) fn open(disk: &dyn Disk) -> Result<Superblock, OpenError> {
    let path = disk.path().join(FILE);
    let names = disk.names().map_err(|e| OpenError::io(disk.path().to_path_buf(), e))?;
    let has_volumes = names.iter().any(|name| volumes::number_of(name).is_some());
    if !names.iter().any(|name| name == FILE) {
        if has_volumes {
            return Err(OpenError::Identity { path, reason: "it is missing" });
        }
        return create(disk);
    }
    let mut bytes = Vec::new();
    let file = disk.open(FILE).map_err(|e| OpenError::from_write(path.clone(), e))?;
    file.read_into(&mut bytes, FIRST_RECORD as usize, 0).map_err(|e| OpenError::io(path.clone(), e))?;
    match Superblock::decode(&bytes) {
        Ok(superblock) => Ok(superblock),
        Err(HeadError::OtherVersion(found)) => {
            Err(OpenError::NewerFormat { path, found, supported: FORMAT_VERSION })
        }
        Err(HeadError::Damaged | HeadError::Unfinished) => {
            Err(OpenError::Identity { path, reason: "it is damaged" })
        }
    }
}

fn create(disk: &dyn Disk) -> Result<Superblock, OpenError> {
    let superblock = Superblock { store: StoreId::random(), node: NodeId::random(), created: now() };
    let write = || {
        // One left by a start that was cut off is replaced.
        let _ = disk.remove(ASIDE);
        let file = disk.create(ASIDE)?;
        file.write_at(&superblock.encode(), 0)?;
        file.sync_data()?;
        disk.rename(ASIDE, FILE)?;
        disk.sync()
    };
    write().map_err(|e| OpenError::from_write(disk.path().join(FILE), e))?;
    Ok(superblock)
}
