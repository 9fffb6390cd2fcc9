//! The places for chunks behind one small trait.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fjall::{KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use redb::{Database, ReadableDatabase, TableDefinition};
use speedy_core::checksum::{BLOCK_SIZE, crc32c};
use speedy_core::id::{BlobId, ChunkId, GroupVersion, Owner};
use speedy_core::store::{ChunkStore, NewChunk, StoreOptions};

use crate::measure::Operation;

/// Where `O_DIRECT` wants buffers and offsets.
const PAGE: usize = 4096;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Store,
    Buffered,
    Direct,
    Files,
    Redb,
    Fjall,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Store, Self::Buffered, Self::Direct, Self::Files, Self::Redb, Self::Fjall];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store => "speedy",
            Self::Buffered => "pwrite or pread",
            Self::Direct => "direct pwrite",
            Self::Files => "a file each",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
        }
    }

    /// A direct read does not come from the page cache.
    pub(crate) fn takes_part(self, operation: Operation) -> bool {
        operation == Operation::Write || self != Self::Direct
    }

    /// An empty place in `directory` for `count` chunks of `size` bytes.
    pub(crate) fn open(
        self,
        operation: Operation,
        directory: &Path,
        size: usize,
        count: usize,
    ) -> Box<dyn Engine> {
        match self {
            Self::Store => {
                Box::new(ChunkStore::open(directory, StoreOptions::default()).expect("a new store opens"))
            }
            // For reads filled as the store fills its volumes, past the page cache: a cache that writes have filled
            // holds the bytes in larger pieces, and is read faster than one that reads have filled.
            Self::Buffered => Box::new(Raw::open(directory, size, count, operation == Operation::Read)),
            Self::Direct => Box::new(Raw::open(directory, size, count, true)),
            Self::Files => Box::new(Files(directory.to_owned())),
            Self::Redb => Box::new(
                Database::builder().create(directory.join("chunks.redb")).expect("a new database opens"),
            ),
            Self::Fjall => Box::new(Fjall::open(directory)),
        }
    }
}

/// Keeps chunks under the numbers from 0.
pub(crate) trait Engine: Sync {
    /// On stable storage on return. `bytes` begin on a page.
    fn put(&self, number: u64, bytes: &[u8]);
    /// Reads all of a chunk, verified where the engine does that.
    fn get(&self, number: u64, size: usize);
}

impl Engine for ChunkStore {
    fn put(&self, number: u64, bytes: &[u8]) {
        let owner = Owner { blob: BlobId::from_bytes([1; 16]), offset: 0 };
        let chunk = NewChunk::new(ChunkId::new(number), owner, bytes.len() as u64, GroupVersion::INITIAL);
        Self::put(self, chunk, bytes).expect("the disk works and has room");
    }

    fn get(&self, number: u64, size: usize) {
        let mut reader = self.read(ChunkId::new(number), 0..size as u64).expect("the chunk is there");
        while let Some(run) = reader.next_run().expect("the chunk is whole") {
            black_box(&run.data);
        }
    }
}

/// One preallocated file: a pwrite and an fdatasync for each, a pread into a fresh buffer and one pass of CRC-32C.
struct Raw {
    file: File,
    /// The same file, always through the page cache.
    cached: File,
}

impl Raw {
    fn open(directory: &Path, size: usize, count: usize, direct: bool) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        if direct {
            options.custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed());
        }
        let path = directory.join("raw");
        let file = options.open(&path).expect("the directory is writable");
        let length = (size * count) as u64;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)
            .expect("the file system preallocates");
        file.sync_all().expect("the disk works");
        let cached = File::open(path).expect("it was just made");
        Self { file, cached }
    }
}

impl Engine for Raw {
    fn put(&self, number: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, number * bytes.len() as u64).expect("the disk has room");
        self.file.sync_data().expect("the disk works");
    }

    fn get(&self, number: u64, size: usize) {
        let mut buffer = vec![0; size];
        self.cached
            .read_exact_at(&mut buffer, number * size as u64)
            .expect("it is as long as it was written");
        for block in buffer.chunks(BLOCK_SIZE) {
            black_box(crc32c(block));
        }
        black_box(buffer);
    }
}

/// A file for each chunk: written aside, synced, renamed, its directory synced.
struct Files(PathBuf);

impl Engine for Files {
    fn put(&self, number: u64, bytes: &[u8]) {
        let (aside, path) = (self.0.join(format!("{number}.new")), self.0.join(number.to_string()));
        let mut file = File::create(&aside).expect("the directory is writable");
        file.write_all(bytes).expect("the disk has room");
        file.sync_data().expect("the disk works");
        std::fs::rename(aside, path).expect("both names are in one directory");
        File::open(&self.0).and_then(|directory| directory.sync_all()).expect("the disk works");
    }

    fn get(&self, number: u64, _: usize) {
        black_box(std::fs::read(self.0.join(number.to_string())).expect("the file is there"));
    }
}

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("chunks");

impl Engine for Database {
    fn put(&self, number: u64, bytes: &[u8]) {
        let transaction = self.begin_write().expect("the database works");
        transaction
            .open_table(TABLE)
            .and_then(|mut table| Ok(table.insert(number, bytes).map(drop)?))
            .expect("the table takes chunks");
        transaction.commit().expect("the disk works");
    }

    fn get(&self, number: u64, _: usize) {
        let transaction = self.begin_read().expect("the database works");
        let table = transaction.open_table(TABLE).expect("the table is there");
        black_box(table.get(number).expect("the disk works").expect("the chunk is there").value().to_vec());
    }
}

/// Large values in files of their own, as its manual advises for blobs.
struct Fjall {
    database: fjall::Database,
    chunks: fjall::Keyspace,
}

impl Fjall {
    fn open(directory: &Path) -> Self {
        let database = fjall::Database::builder(directory).open().expect("a new database opens");
        let options =
            || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        let chunks = database.keyspace("chunks", options).expect("a new keyspace opens");
        Self { database, chunks }
    }
}

impl Engine for Fjall {
    fn put(&self, number: u64, bytes: &[u8]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.chunks, number.to_be_bytes(), bytes);
        batch.commit().expect("the disk works");
    }

    fn get(&self, number: u64, _: usize) {
        black_box(
            self.chunks.get(number.to_be_bytes()).expect("the disk works").expect("the chunk is there"),
        );
    }
}

/// Bytes that don't compress, beginning on a page.
pub(crate) struct Content {
    buffer: Vec<u8>,
    start: usize,
    size: usize,
}

impl Content {
    pub(crate) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut buffer = Vec::with_capacity(size + PAGE + 8);
        while buffer.len() < size + PAGE {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            buffer.extend_from_slice(&state.to_le_bytes());
        }
        let start = buffer.as_ptr().align_offset(PAGE);
        Self { buffer, start, size }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.size]
    }
}
