use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Which operations of the disk fail now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) full: AtomicBool,
    writes: AtomicBool,
    sync_once: AtomicBool,
    /// One sync fails after so many: 0 for none.
    pub(super) sync_in: AtomicU64,
    reads: AtomicBool,
    free: AtomicU64,
}

#[derive(Debug)]
struct Faulty {
    file: Box<dyn StorageBackend>,
    plan: StdArc<Plan>,
}

fn fail_if(flag: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
    if flag.load(Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        fail_if(&self.plan.reads, io::ErrorKind::Other)?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.plan.sync_once.swap(false, Ordering::SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        let left = self.plan.sync_in.load(Ordering::SeqCst);
        self.plan.sync_in.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 1 {
            return Err(io::ErrorKind::Other.into());
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fail_if(&self.plan.full, io::ErrorKind::StorageFull)?;
        fail_if(&self.plan.writes, io::ErrorKind::Other)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

pub(super) fn faulty(directory: &Path, options: EmbeddedOptions) -> (EmbeddedMeta, StdArc<Plan>) {
    let plan = StdArc::new(Plan { free: AtomicU64::new(1 << 40), ..Plan::default() });
    let (disk, space) = (StdArc::clone(&plan), StdArc::clone(&plan));
    let sources = Sources {
        file: Box::new(move |directory| {
            Ok(Box::new(Faulty { file: directory.file()?, plan: StdArc::clone(&disk) }))
        }),
        free: Box::new(move |_| Ok(space.free.load(Ordering::SeqCst))),
    };
    (EmbeddedMeta::open_from(directory, options, sources).unwrap(), plan)
}

#[tokio::test]
async fn after_a_failed_write_no_more_is_written_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
    commit(&store, put("k", "1")).await;
    plan.writes.store(true, Ordering::SeqCst);
    let error = store.transact(put("k", "2")).await.unwrap_err();
    assert!(matches!(&error, MetaError::Failed(reason) if reason.contains("restart")), "{error}");
    plan.writes.store(false, Ordering::SeqCst);
    assert!(matches!(store.transact(put("l", "2")).await, Err(MetaError::Failed(_))));
    drop(store);
    let store = open(directory.path());
    assert_eq!(get(&store, "k").await.unwrap().value, "1");
    assert_eq!(get(&store, "l").await, None);
    commit(&store, put("k", "3")).await;
}

#[tokio::test]
async fn a_failed_sync_is_final_and_its_batch_is_answered_from_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
    commit(&store, put("k", "1")).await;
    plan.sync_once.store(true, Ordering::SeqCst);
    let answer = store.transact(put("k", "2")).await;
    let value = get(&store, "k").await.unwrap().value;
    match answer {
        Ok(outcome) => assert!(outcome.is_committed() && value == "2"),
        Err(error) => assert!(matches!(error, MetaError::Failed(_)) && value == "1", "{error}"),
    }
    assert!(matches!(store.transact(put("k", "3")).await, Err(MetaError::Failed(_))));
    drop(store);
    assert_eq!(get(&open(directory.path()), "k").await.unwrap().value, value, "and it stays at that");
}

#[tokio::test]
async fn where_the_engine_can_not_be_opened_anew_reads_fail_too() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
    commit(&store, put("k", "1")).await;
    plan.writes.store(true, Ordering::SeqCst);
    plan.reads.store(true, Ordering::SeqCst);
    assert!(matches!(store.transact(put("k", "2")).await, Err(MetaError::Failed(_))));
    plan.writes.store(false, Ordering::SeqCst);
    plan.reads.store(false, Ordering::SeqCst);
    assert!(matches!(store.get("k".into()).await, Err(MetaError::Failed(_))));
    drop(store);
    assert_eq!(get(&open(directory.path()), "k").await.unwrap().value, "1");
}

#[tokio::test]
async fn writes_resume_when_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
    let before = commit(&store, put("k", "1")).await;
    plan.full.store(true, Ordering::SeqCst);
    let refused = put("k", "2");
    let answer = store.transact(refused.clone()).await;
    assert!(matches!(answer, Err(MetaError::Full(_))), "{answer:?}");
    // This disk does not even take what overwrites, so the engine can't be opened: reads have to wait.
    assert!(matches!(store.get("k".into()).await, Err(MetaError::Unavailable(_))));
    assert!(matches!(store.transact(refused.clone()).await, Err(MetaError::Full(_))));
    plan.full.store(false, Ordering::SeqCst);
    while matches!(store.get("k".into()).await, Err(MetaError::Unavailable(reason)) if reason.contains("is full"))
    {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(get(&store, "k").await.unwrap().value, "1");
    assert!(commit(&store, refused).await > before);
    assert_eq!(get(&store, "k").await.unwrap().value, "2");
}

#[tokio::test]
async fn a_failed_read_is_an_error_and_the_store_says_so_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default().cache_bytes(0));
    for number in 0..100 {
        commit(&store, put(format!("k{number}"), vec![1; 4096])).await;
    }
    plan.reads.store(true, Ordering::SeqCst);
    assert!(store.get("k50".into()).await.is_err());
    plan.reads.store(false, Ordering::SeqCst);
    // The writer opens the engine anew, and reads go on.
    let mut tries = 0;
    while store.get("k50".into()).await.is_err() {
        tries += 1;
        assert!(tries < 1000, "reads come back once the disk does");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(matches!(store.transact(put("k", "")).await, Err(MetaError::Failed(_))));
}

#[tokio::test]
async fn the_reserve_is_left_to_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default().reserve_bytes(100 << 20));
    commit(&store, put("k", "1")).await;
    plan.free.store(99 << 20, Ordering::SeqCst);
    let error = store.transact(put("l", "1")).await.unwrap_err();
    assert!(matches!(&error, MetaError::Full(reason) if reason.contains("99 MiB free")), "{error}");
    assert!(get(&store, "k").await.is_some());
    commit(&store, Transaction::new().write(Write::Delete("k".into()))).await;
    assert_eq!(get(&store, "k").await, None);
    // What leads to deletions is taken while half of it is left.
    plan.free.store(50 << 20, Ordering::SeqCst);
    commit(&store, put("mark", "1").makes_room()).await;
    plan.free.store(49 << 20, Ordering::SeqCst);
    let mark = put("mark", "2").makes_room();
    assert!(matches!(store.transact(mark).await, Err(MetaError::Full(_))));
    commit(&store, Transaction::new().write(Write::Delete("mark".into())).makes_room()).await;
    plan.free.store(24 << 20, Ordering::SeqCst);
    let delete = Transaction::new().write(Write::Delete("k".into()));
    assert!(matches!(store.transact(delete).await, Err(MetaError::Full(_))));
    assert!(store.now().await.is_ok(), "the time can still be told");
    plan.free.store(100 << 20, Ordering::SeqCst);
    commit(&store, put("l", "1")).await;
}
