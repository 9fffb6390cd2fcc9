//! A disk that can be filled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::process::run;

const LIMIT: Duration = Duration::from_secs(30);

/// Large enough that only [`SmallDisk::fill`] fills it; on the disk beneath it takes what is written to it.
const SIZE: u64 = 16 << 30;

/// What takes up all the room.
const FILLER: &str = "filler";

/// A file system in a file, mounted as long as this lives. Needs root.
#[derive(Debug)]
pub(super) struct SmallDisk {
    /// What is offered.
    directory: PathBuf,
    mount: PathBuf,
}

impl SmallDisk {
    /// Makes a file system in a file in `parent` and offers a directory of it at `directory`.
    pub(super) fn new(parent: &Path, directory: &Path) -> Result<Self> {
        let (image, mount) = (parent.join("disk.ext4"), parent.join("disk"));
        let file = File::create(&image).with_context(|| format!("making {}", image.display()))?;
        file.set_len(SIZE)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image), LIMIT)
            .context("a file system needs mkfs.ext4, of the Debian package e2fsprogs")?;
        std::fs::create_dir(&mount)?;
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &mount]), LIMIT)
            .context("mounting a file system needs root, and the Debian package mount")?;
        let disk = Self { directory: mount.join("data"), mount };
        std::fs::create_dir(&disk.directory)?;
        std::os::unix::fs::symlink(&disk.directory, directory)?;
        Ok(disk)
    }

    /// Leaves no byte free.
    pub(super) fn fill(&self) -> Result<()> {
        let filler = File::create(self.mount.join(FILLER))?;
        // The file system needs some blocks to keep note of those that it gives: less each time, then none is left.
        let mut length = 0;
        loop {
            let free = statvfs(&self.mount)?;
            let room = free.f_bavail * free.f_frsize;
            if room == 0 {
                return Ok(());
            }
            let most = [room, room / 2, room / 16, free.f_frsize];
            let took = most
                .into_iter()
                .find(|&room| room > 0 && fallocate(&filler, FallocateFlags::empty(), length, room).is_ok());
            match took {
                Some(took) => length += took,
                None => return Ok(()),
            }
        }
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.mount.join(FILLER)).context("freeing the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.mount), LIMIT) {
            eprintln!("{} stays mounted: {error:#}", self.mount.display());
        }
    }
}
