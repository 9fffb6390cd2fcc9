//! A disk that is only looked at: whatever would change it is refused, or is left out where that does no harm.

use std::io;
use std::path::Path;

use super::{Disk, DiskFile, Mapping, Space};

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

/// A directory of which nothing is changed, whatever the inner one could do.
#[derive(Debug)]
pub(in crate::store) struct ReadOnlyDisk(Box<dyn Disk>);

impl ReadOnlyDisk {
    pub(in crate::store) fn boxed(disk: Box<dyn Disk>) -> Box<dyn Disk> {
        Box::new(Self(disk))
    }
}

impl Disk for ReadOnlyDisk {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile(self.0.open(name)?)))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    /// Nothing that is decided here is written down, so it need not outlive a power cut.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
}

#[derive(Debug)]
struct ReadOnlyFile(Box<dyn DiskFile>);

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_cached(buf, offset)
    }

    fn read_into(&self, buf: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
        self.0.read_into(buf, len, offset)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.0.map()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn write_direct(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
        refused()
    }

    fn write_cached(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
        refused()
    }

    /// As [`ReadOnlyDisk::sync`].
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<bool> {
        refused()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn release(&self, _: u64, _: u64) {}

    fn forget_cached(&self, offset: u64) {
        self.0.forget_cached(offset);
    }
}
