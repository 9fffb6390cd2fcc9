use std::fs::{File, OpenOptions, TryLockError};
#[cfg(target_os = "linux")]
use std::io::IoSliceMut;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Disk, DiskFile, Mapping, ReadOnlyDisk, Site, Space};
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

    fn peek(&self) -> Result<Box<dyn Disk>, OpenError> {
        Ok(ReadOnlyDisk::boxed(Box::new(RealDisk::open_to_read(&self.0)?)))
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
    is_writable: bool,
    // The lock goes when this file is closed, also when the process is killed.
    _lock: Option<File>,
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
        Ok(Self { path, directory, is_writable: true, _lock: Some(lock) })
    }

    /// Opens a directory that is there, also on a file system that is mounted read-only. A shared lock keeps away
    /// whoever would write.
    fn open_to_read(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_path_buf();
        let failed = |source| OpenError::io(path.clone(), source);
        let directory = File::open(&path).map_err(failed)?;
        let lock = match File::open(path.join(LOCK)) {
            Ok(lock) => Some(lock),
            // It came here by a copy that left it out.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock_shared) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, lock)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { path, directory, is_writable: false, _lock: lock })
    }
}

/// That somebody else has the lock.
fn locked(path: PathBuf, lock: Option<File>) -> OpenError {
    let mut holder = String::new();
    if let Some(mut lock) = lock {
        // Whoever holds the lock may not have written its number yet: then it is just not named.
        let _ = lock.read_to_string(&mut holder);
    }
    let holder = holder.trim().parse().ok();
    // One that only reads writes no number; that of a process before it may be left.
    let is_there = |pid: &u32| !cfg!(target_os = "linux") || Path::new(&format!("/proc/{pid}")).exists();
    OpenError::Locked { path, holder: holder.filter(is_there) }
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
        Err(TryLockError::WouldBlock) => return Err(locked(path.to_path_buf(), Some(file))),
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
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(RealFile::boxed(file, path))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(self.is_writable).open(&path)?;
        Ok(RealFile::boxed(file, path))
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
struct RealFile {
    file: File,
    path: PathBuf,
    /// The same file opened for direct I/O, at the first use; `None` where the file system has none.
    direct: OnceLock<Option<File>>,
}

impl RealFile {
    fn boxed(file: File, path: PathBuf) -> Box<dyn DiskFile> {
        Box::new(Self { file, path, direct: OnceLock::new() })
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self) -> Option<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let opened = OpenOptions::new().write(true).custom_flags(flags).open(&self.path);
        opened
            .inspect_err(|error| tracing::info!(file = %self.path.display(), %error, "no direct I/O here"))
            .ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn open_direct(&self) -> Option<File> {
        None
    }
}

/// Writes all of `parts` at `offset`.
fn write_parts(file: &File, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match rustix::io::pwritev(file, left, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut left, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Lets the system begin to write what it has of a range, and does not wait for that. Where it can't, the sync that follows
/// takes longer; so a failure is nobody's business, and one of the disk is told by that sync.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "no library has a safe function for this call")]
fn begin_writeback(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (offset, len) = (offset.cast_signed(), len.cast_signed());
    // SAFETY: the descriptor is open as long as `file` is borrowed, the others are numbers; no memory of this process is touched.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
fn begin_writeback(_: &File, _: u64, _: u64) {}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    #[cfg(target_os = "linux")]
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        use rustix::io::ReadWriteFlags;
        let mut done = 0;
        while done < buf.len() {
            let mut rest = [IoSliceMut::new(&mut buf[done..])];
            match rustix::io::preadv2(&self.file, &mut rest, offset + done as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                // The last three: a file system or a kernel that can't say.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn read_into(&self, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
        buf.clear();
        buf.reserve_exact(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            // May read past `len` where the buffer is larger; what is too much is cut off below.
            match rustix::io::pread(self.file.as_fd(), rustix::buffer::spare_capacity(buf), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        buf.truncate(len);
        Ok(())
    }

    #[allow(unsafe_code, reason = "there is no safe way to map a file")]
    fn map(&self) -> io::Result<Mapping> {
        // Through a mapping a bad sector would be a signal that ends the process; here it is an error.
        let (mut piece, mut at) = (Vec::new(), 0);
        loop {
            self.read_into(&mut piece, 1 << 20, at)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
        }
        // SAFETY: the file was complete, synced and renamed before anybody could open it by this name, is written
        // by nobody afterwards, and lies in a directory that this process has locked. Whoever writes to it
        // all the same breaks what it holds, which its checksums show while they are compared, once, right after this.
        let mapping = unsafe { memmap2::MmapOptions::new().populate().map(&self.file) }?;
        Ok(Box::new(mapping))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_direct(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct.get_or_init(|| self.open_direct()) {
            match write_parts(direct, parts, offset) {
                // Some file systems take the flag and refuse the writes.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        write_parts(&self.file, parts, offset)
    }

    fn write_cached(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        write_parts(&self.file, parts, offset)?;
        begin_writeback(&self.file, offset, parts.iter().map(|part| part.len() as u64).sum());
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&self, start: u64, end: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), start, end - start) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn release(&self, offset: u64, len: u64) {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A file system that can't keeps the room until the volume is compacted.
        let _ = rustix::fs::fallocate(&self.file, mode, offset, len);
    }

    fn forget_cached(&self, offset: u64) {
        let _ = rustix::fs::fadvise(&self.file, offset, None, rustix::fs::Advice::DontNeed);
    }
}
