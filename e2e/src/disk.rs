//! Small file systems that a test can fill.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::process::run;
use crate::tools::{Tool, require_root};

/// Until when a mount must be made or undone.
const LIMIT: Duration = Duration::from_secs(30);

/// A file that takes up room until it is removed.
const BALLAST: &str = "ballast";

/// Room that is written page by page.
const COARSE: u64 = 8 << 20;

/// A file system of its own, mounted for one test and unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mounted: PathBuf,
    // Dropped after the unmount.
    _directory: TempDir,
}

impl SmallDisk {
    /// A file system in memory of this many bytes, mounted below `directory`.
    ///
    /// # Errors
    /// When the caller is not root or may not mount.
    pub fn tmpfs(directory: &Path, bytes: u64) -> Result<Self> {
        let options = format!("size={bytes},mode=0755");
        Self::mount(directory, |at| {
            let mut mount = Command::new(Tool::MOUNT.path()?);
            mount.args(["-t", "tmpfs", "-o", &options, "speedy-e2e"]).arg(at);
            Ok(mount)
        })
    }

    /// An ext4 file system of this many bytes in a file, mounted below `directory`. Nothing of it is kept for root.
    ///
    /// # Errors
    /// When the caller is not root, may not mount, or the system has no loop devices.
    pub fn ext4(directory: &Path, bytes: u64) -> Result<Self> {
        Self::mount(directory, |at| {
            let image = at.with_file_name("image");
            File::create(&image)?.set_len(bytes)?;
            run(Command::new(Tool::MKFS_EXT4.path()?).args(["-q", "-m", "0"]).arg(&image), LIMIT)?;
            let mut mount = Command::new(Tool::MOUNT.path()?);
            mount.args(["-o", "loop"]).arg(image).arg(at);
            Ok(mount)
        })
    }

    fn mount(parent: &Path, command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        require_root()?;
        let directory = tempfile::tempdir_in(parent)?;
        let mounted = directory.path().join("disk");
        fs::create_dir(&mounted)?;
        run(&mut command(&mounted)?, LIMIT).context(
            "a full disk can't be tested without mounting one: run the tests where root may mount",
        )?;
        Ok(Self { mounted, _directory: directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn free(&self) -> Result<u64> {
        let stats = rustix::fs::statvfs(&self.mounted)?;
        Ok(stats.f_bavail * stats.f_frsize)
    }

    /// Takes all room but this many bytes.
    ///
    /// # Errors
    /// When it can't be taken.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.mounted.join(BALLAST))?;
        // Most of it without writing it: a file system may be larger than what it stands on.
        while let room @ COARSE.. = self.free()?.saturating_sub(leave) {
            fallocate(&ballast, FallocateFlags::empty(), ballast.metadata()?.len(), room / 2)?;
        }
        let page = [0x5a; 4096];
        while self.free()? > leave {
            match ballast.write_all(&page) {
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                written => written?,
            }
        }
        match ballast.sync_all() {
            Err(error) if error.kind() != std::io::ErrorKind::StorageFull => return Err(error.into()),
            _ => {}
        }
        ensure!(self.free()? <= leave.max(16 << 10), "{} bytes are still free", self.free()?);
        Ok(())
    }

    /// Gives the room back that [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn relieve(&self) -> Result<()> {
        fs::remove_file(self.mounted.join(BALLAST)).context("removing the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left a process with files open there, which ends after this.
        let unmounted = Tool::UMOUNT
            .path()
            .and_then(|umount| run(Command::new(umount).arg("--lazy").arg(&self.mounted), LIMIT));
        if let Err(error) = unmounted {
            eprintln!("{} stays mounted: {error:#}", self.mounted.display());
        }
    }
}
