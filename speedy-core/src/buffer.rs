//! Memory for the bytes that pass through a process: on whole pages, and used again.
//!
//! A byte on its way between a socket and a disk is in memory for some milliseconds. Fresh memory for each of them costs more
//! than the copy into it: the kernel clears every page first, one fault at a time. So buffers of two sizes are kept while
//! they are in use again and again, and go back to the system, from a thread of their own, [`REST`] after the last use.
//!
//! They begin on a page, so direct I/O carries them as they are; as [`Bytes`] they are shared, and come back when the last
//! clone is dropped. This is not where memory is bounded: whoever takes a buffer has reserved its bytes in the
//! [`Budget`](crate::budget::Budget), or holds a fixed number of them.

use std::fmt;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;

/// The bytes of a page; a multiple of what every disk demands of direct I/O.
pub(crate) const PAGE: usize = 4096;

/// How long a buffer lies unused before the system gets its memory back, and twice that at most.
const REST: Duration = Duration::from_millis(500);

/// How large a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// 64 KiB: for what comes slowly, or from many.
    Small,
    /// 256 KiB: as much as is read from a volume at once, and still in a processor's cache when it is sent.
    Large,
}

impl Size {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Small => 64 << 10,
            Self::Large => 256 << 10,
        }
    }
}

/// Bytes that begin on a page.
pub(crate) struct Buffer {
    /// `None` only while this is dropped.
    memory: Option<MmapMut>,
    len: usize,
    size: Size,
}

impl Buffer {
    /// An empty buffer.
    pub(crate) fn new(size: Size) -> Self {
        let memory = pool(size).lock().take().unwrap_or_else(|| fresh(size));
        Self { memory: Some(memory), len: 0, size }
    }

    /// Bytes that it still has room for.
    pub(crate) fn room(&self) -> usize {
        self.size.bytes() - self.len
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.all()[..self.len]
    }

    /// Appends as many of `bytes` as there is room for; answers the others.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(self.room()));
        let end = self.len + taken.len();
        let from = self.len;
        self.all_mut()[from..end].copy_from_slice(taken);
        self.len = end;
        rest
    }

    /// Appends up to `len` bytes that `read` puts into what it is given; it answers how many there were.
    pub(crate) fn read<E>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let end = self.len + len.min(self.room());
        let from = self.len;
        let read = read(&mut self.all_mut()[from..end])?;
        self.len = end.min(from + read);
        Ok(())
    }

    /// Appends zeros up to a multiple of `alignment`, which divides the size.
    pub(crate) fn pad(&mut self, alignment: usize) {
        let end = self.len.next_multiple_of(alignment);
        let from = self.len;
        self.all_mut()[from..end].fill(0);
        self.len = end;
    }

    /// The content as bytes that are shared; the memory comes back with the last of them.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn all(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }

    fn all_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.content()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("size", &self.size).finish()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            give_back(self.size, memory);
        }
    }
}

/// Whether memory begins on a page.
pub(crate) fn is_on_page(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE)
}

fn fresh(size: Size) -> MmapMut {
    // As with every other memory: where there is none left, the process ends.
    MmapMut::map_anon(size.bytes()).unwrap_or_else(|error| panic!("no memory for a buffer: {error}"))
}

/// The buffers of a size that nobody uses.
struct Pool {
    free: Vec<MmapMut>,
    /// The fewest that lay here since somebody last looked. The first ones of `free`: the last are taken first.
    unused: usize,
    /// Whether the thread that looks is there.
    is_watched: bool,
}

impl Pool {
    const fn new() -> Self {
        Self { free: Vec::new(), unused: 0, is_watched: false }
    }

    fn take(&mut self) -> Option<MmapMut> {
        let memory = self.free.pop();
        self.unused = self.unused.min(self.free.len());
        memory
    }

    /// What nobody needed since the last look, to be given to the system.
    fn look(&mut self) -> Vec<MmapMut> {
        let unneeded = self.free.drain(..self.unused).collect();
        self.unused = self.free.len();
        self.is_watched = !self.free.is_empty();
        unneeded
    }
}

static SMALL: Mutex<Pool> = Mutex::new(Pool::new());
static LARGE: Mutex<Pool> = Mutex::new(Pool::new());

fn pool(size: Size) -> &'static Mutex<Pool> {
    match size {
        Size::Small => &SMALL,
        Size::Large => &LARGE,
    }
}

fn give_back(size: Size, memory: MmapMut) {
    let pool = pool(size);
    let mut locked = pool.lock();
    if !locked.is_watched {
        let watch = move || {
            loop {
                thread::sleep(REST);
                let mut locked = pool.lock();
                let (unneeded, is_watched) = (locked.look(), locked.is_watched);
                drop(locked);
                drop(unneeded);
                if !is_watched {
                    return;
                }
            }
        };
        // Without a thread that looks, nothing may be kept.
        if thread::Builder::new().name("speedy-buffers".into()).spawn(watch).is_err() {
            return;
        }
        locked.is_watched = true;
    }
    locked.free.push(memory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_what_was_put_in_and_lies_on_a_page() {
        for size in [Size::Small, Size::Large] {
            let mut buffer = Buffer::new(size);
            assert_eq!(buffer.fill(b"header"), b"");
            buffer.pad(PAGE);
            assert_eq!((buffer.len(), &buffer.content()[..8]), (PAGE, &b"header\0\0"[..]));
            let long = vec![7; size.bytes()];
            assert_eq!(buffer.fill(&long).len(), PAGE);
            assert_eq!((buffer.room(), buffer.len()), (0, size.bytes()));
            assert!(is_on_page(buffer.content()));
            let bytes = buffer.freeze();
            assert!(is_on_page(&bytes));
            assert_eq!((bytes.len(), bytes[PAGE], bytes[PAGE - 1]), (size.bytes(), 7, 0));
        }
    }

    #[test]
    fn a_used_buffer_begins_empty_and_pads_with_zeros() {
        for _ in 0..50 {
            let mut buffer = Buffer::new(Size::Small);
            assert_eq!(buffer.len(), 0);
            buffer.fill(&[1; 3]);
            buffer.pad(PAGE);
            assert_eq!(buffer.content()[3..], [0; PAGE - 3]);
            buffer.fill(&[1; 2 * PAGE]);
        }
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let mut buffer = Buffer::new(Size::Small);
        buffer.fill(&[1; 10]);
        let read = |into: &mut [u8]| {
            into.fill(2);
            Ok::<_, ()>(into.len())
        };
        buffer.read(5, read).unwrap();
        assert_eq!(buffer.content(), [[1; 10].as_slice(), &[2; 5]].concat());
        buffer.read(1 << 20, read).unwrap();
        assert_eq!(buffer.room(), 0);
        let mut short = Buffer::new(Size::Small);
        short.read(100, |_| Ok::<_, ()>(7)).unwrap();
        assert_eq!(short.len(), 7);
        assert_eq!(short.read(100, |_| Err("disk")), Err("disk"));
        assert_eq!(short.len(), 7);
    }

    #[test]
    fn what_lay_unused_goes_and_what_was_needed_stays() {
        let mut pool = Pool::new();
        pool.free.extend((0..4).map(|_| fresh(Size::Small)));
        assert_eq!(pool.look().len(), 0);
        assert!(pool.is_watched);
        let taken: Vec<_> = (0..3).filter_map(|_| pool.take()).collect();
        pool.free.extend(taken);
        // One of the four was needed by nobody.
        assert_eq!((pool.look().len(), pool.free.len()), (1, 3));
        assert_eq!((pool.look().len(), pool.free.len()), (3, 0));
        assert!(!pool.is_watched);
        assert!(pool.take().is_none());
    }

    #[test]
    fn memory_goes_back_to_the_system_after_a_rest() {
        let buffers: Vec<_> = (0..20).map(|_| Buffer::new(Size::Large)).collect();
        drop(buffers);
        // Other tests use the pool meanwhile, so not all of it has to go.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while LARGE.lock().free.len() >= 20 {
            assert!(std::time::Instant::now() < deadline, "unused buffers are never given back");
            thread::sleep(REST / 5);
        }
    }
}
