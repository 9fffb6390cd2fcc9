use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Disk, DiskFile, Site, Space};
use crate::store::OpenError;

const LOCK: &str = "LOCK";

/// The path of a directory of the operating system.
#[derive(Debug)]
pub(in crate::store) struct RealSite(pub(in crate::store) PathBuf);

impl Site for RealSite {
    fn path(&self) -> &Path {
        &self.0
    }

    fn is_same(&self, other: &Path) -> bool {
        let identity = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        // What does not exist is nowhere twice, unless it is written the same way.
        self.0 == other || matches!((identity(&self.0), identity(other)), (Ok(a), Ok(b)) if a == b)
    }

    fn look(&self) -> io::Result<Vec<String>> {
        match names_in(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    fn take(&self) -> Result<Box<dyn Disk>, OpenError> {
        Ok(Box::new(RealDisk::open(&self.0)?))
    }
}

fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// A directory of the operating system, locked against every other process while this exists.
#[derive(Debug)]
struct RealDisk {
    path: PathBuf,
    directory: File,
    // The lock goes when this file is closed, also when the process is killed.
    _lock: File,
}

impl RealDisk {
    /// Opens and locks a directory; makes it where there is none.
    fn open(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_path_buf();
        match std::fs::metadata(&path) {
            Ok(meta) if !meta.is_dir() => return Err(OpenError::NotADirectory { path }),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_directory(&path)?,
            Err(source) => return Err(OpenError::from_write(path, source)),
        }
        let lock = take_lock(&path)?;
        let directory = File::open(&path).map_err(|source| OpenError::io(path.clone(), source))?;
        Ok(Self { path, directory, _lock: lock })
    }
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(path).map_err(|source| OpenError::from_write(path.to_path_buf(), source))?;
    // The directory itself must survive a power cut as well as what will be in it.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| OpenError::io(parent.to_path_buf(), e))
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::from_write(path.to_path_buf(), source);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Whoever holds the lock may not have written its number yet: then it is just not named.
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { path: path.to_path_buf(), holder: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

impl Disk for RealDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        Ok(Space { file_system: self.directory.metadata()?.dev(), free, total })
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn read_into(&self, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
        buf.clear();
        buf.reserve_exact(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            // May read past `len` where the buffer is larger; what is too much is cut off below.
            match rustix::io::pread(self.0.as_fd(), rustix::buffer::spare_capacity(buf), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        buf.truncate(len);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn preallocate(&self, start: u64, end: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), start, end - start) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn release(&self, offset: u64, len: u64) {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A file system that can't keeps the room until the volume is compacted.
        let _ = rustix::fs::fallocate(&self.0, mode, offset, len);
    }

    #[cfg(target_os = "linux")]
    #[allow(unsafe_code, reason = "no safe wrapper of sync_file_range exists")]
    fn start_writeback(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
        // SAFETY: the call takes a descriptor, which `self` keeps open, and numbers; it touches no memory of ours.
        // Its answer is not looked at: a failed writeback is reported by the sync that follows.
        unsafe {
            libc::sync_file_range(self.0.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn forget_cached(&self, offset: u64) {
        let _ = rustix::fs::fadvise(&self.0, offset, None, rustix::fs::Advice::DontNeed);
    }
}
