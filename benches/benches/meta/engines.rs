//! The two candidates behind one small trait, each set up as the metadata store would set it up: 32 MiB of cache,
//! one table, one writer.

use std::path::Path;
use std::sync::Arc;

use fjall::{KeyspaceCreateOptions, PersistMode, Readable};
use redb::{Database, ReadableDatabase, TableDefinition};

/// Bytes of cache that each engine may use.
pub(crate) const CACHE: u64 = 32 << 20;

/// Keys and values to set.
pub(crate) type Writes = Vec<(Vec<u8>, Vec<u8>)>;

/// What the metadata store asks of an engine.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Applies a batch in one commit; on stable storage on return if `durable`.
    fn commit(&self, batch: &[Writes], durable: bool);
    /// Length of the value of a key, copied out.
    fn get(&self, key: &[u8]) -> Option<usize>;
    /// Bytes in up to `limit` entries from a key on, copied out.
    fn scan(&self, from: &[u8], limit: usize) -> usize;
}

/// Opens an engine in a directory.
pub(crate) type Open = fn(&Path) -> Arc<dyn Engine>;

/// The candidates by name. `redb-quick` saves its free list with each commit, so that it need not read the whole
/// file after a crash, and pays a second fsync for that.
pub(crate) const CANDIDATES: [(&str, Open); 3] =
    [("redb", |path| redb(path, false)), ("redb-quick", |path| redb(path, true)), ("fjall", fjall)];

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

struct Redb {
    database: Database,
    quick: bool,
}

fn redb(directory: &Path, quick: bool) -> Arc<dyn Engine> {
    let database =
        Database::builder().set_cache_size(CACHE as usize).create(directory.join("meta.redb")).unwrap();
    Arc::new(Redb { database, quick })
}

impl Engine for Redb {
    fn commit(&self, batch: &[Writes], durable: bool) {
        let mut transaction = self.database.begin_write().unwrap();
        if !durable {
            transaction.set_durability(redb::Durability::None).unwrap();
        }
        transaction.set_quick_repair(self.quick && durable);
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for (key, value) in batch.iter().flatten() {
                table.insert(&key[..], &value[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        let table = self.database.begin_read().unwrap().open_table(TABLE).unwrap();
        let value = table.get(key).unwrap()?;
        Some(value.value().to_vec().len())
    }

    fn scan(&self, from: &[u8], limit: usize) -> usize {
        let table = self.database.begin_read().unwrap().open_table(TABLE).unwrap();
        let entries = table.range(from..).unwrap().take(limit).map(Result::unwrap);
        entries.map(|(key, value)| key.value().to_vec().len() + value.value().to_vec().len()).sum()
    }
}

struct Fjall {
    database: fjall::Database,
    entries: fjall::Keyspace,
}

fn fjall(directory: &Path) -> Arc<dyn Engine> {
    // Memtables live beside the cache and should share its budget: half for the cache, a quarter for the one that
    // fills and a quarter for the one that is flushed. The crate has no working limit on how many wait.
    let database = fjall::Database::builder(directory)
        .cache_size(CACHE / 2)
        .worker_threads(1)
        .manual_journal_persist(true)
        .open()
        .unwrap();
    let options = || KeyspaceCreateOptions::default().max_memtable_size(CACHE / 4);
    let entries = database.keyspace("entries", options).unwrap();
    Arc::new(Fjall { database, entries })
}

impl Engine for Fjall {
    fn commit(&self, batch: &[Writes], durable: bool) {
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut writes = self.database.batch().durability(Some(mode));
        for (key, value) in batch.iter().flatten() {
            writes.insert(&self.entries, &key[..], &value[..]);
        }
        writes.commit().unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<usize> {
        Some(self.database.snapshot().get(&self.entries, key).unwrap()?.to_vec().len())
    }

    fn scan(&self, from: &[u8], limit: usize) -> usize {
        let entries = self.database.snapshot().range(&self.entries, from..).take(limit);
        let entries = entries.map(|entry| entry.into_inner().unwrap());
        entries.map(|(key, value)| key.to_vec().len() + value.to_vec().len()).sum()
    }
}
