//! Backups of a store at work, and stores made of them.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::faulty;
use super::*;
use crate::meta::{BackupError, BackupInfo, Check, RestoreError, TransactionId, check_backup};

fn back_up(store: &EmbeddedMeta, file: &Path) -> BackupInfo {
    let mut out = std::fs::File::create(file).unwrap();
    let info = store.backup(&mut out, &mut |_, _| {}).unwrap();
    assert_eq!(info.bytes, std::fs::metadata(file).unwrap().len());
    assert_eq!(check_backup(std::fs::File::open(file).unwrap(), &mut |_, _| {}).unwrap(), info);
    info
}

fn restore(file: &Path, directory: &Path) -> Result<BackupInfo, RestoreError> {
    EmbeddedMeta::restore(file, directory, EmbeddedOptions::default(), &mut |_, _| {})
}

async fn everything(store: &EmbeddedMeta) -> Vec<Entry> {
    let (mut entries, mut rest) = (Vec::new(), Some(KeyRange::prefix(Bytes::new())));
    while let Some(range) = rest {
        let page = store.scan(range, 1000).await.unwrap();
        entries.extend(page.entries);
        rest = page.next;
    }
    entries
}

/// Clients that each set two keys to the same rising number in one transaction, until they are told to stop. Answers
/// what each had got acknowledged last.
fn clients(store: &StdArc<EmbeddedMeta>, stop: &StdArc<AtomicBool>) -> Vec<tokio::task::JoinHandle<u64>> {
    let client = |client: u64| {
        let (store, stop) = (StdArc::clone(store), StdArc::clone(stop));
        tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let value = format!("{number:>010}").repeat(200);
                let pair = put(format!("a/{client}"), value.clone())
                    .write(Write::Put(format!("z/{client}").into(), value.into()));
                commit(&store, pair).await;
            }
            number
        })
    };
    (0..4).map(client).collect()
}

/// Keeps what is written, and how large the largest piece was.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    largest: usize,
}

impl std::io::Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.largest = self.largest.max(piece.len());
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_one_instant_of_a_store_at_work() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = StdArc::new(open(directory.path()));
    // More than a block, between the keys that change.
    for number in 0..200 {
        commit(&store, put(format!("m/{number:03}"), vec![1; 10_000])).await;
    }
    let stop = StdArc::new(AtomicBool::new(false));
    let clients = clients(&store, &stop);
    for round in 0..5 {
        let fresh = format!("m/fresh/{round}");
        commit(&store, put(fresh.clone(), "acknowledged before")).await;
        let taken = StdArc::clone(&store);
        let (pieces, during) = tokio::task::spawn_blocking(move || {
            let (mut pieces, mut during) = (Pieces::default(), 0);
            let runtime = tokio::runtime::Handle::current();
            let mut meanwhile = |done, of| {
                assert!(done <= of);
                // So that there is something that must not be in it, for sure and not only where the clients are quick.
                runtime.block_on(commit(&taken, put(format!("m/late/{round}/{during}"), "too late")));
                during += 1;
            };
            taken.backup(&mut pieces, &mut meanwhile).unwrap();
            (pieces, during)
        })
        .await
        .unwrap();
        assert!(during > 3 && pieces.largest < 1 << 20, "{during} blocks, the largest of {}", pieces.largest);
        let file = files.path().join(format!("{round}"));
        std::fs::write(&file, &pieces.bytes).unwrap();
        let restored = files.path().join(format!("store-{round}"));
        restore(&file, &restored).unwrap();
        let restored = open(&restored);
        assert!(get(&restored, fresh).await.is_some(), "what was acknowledged before it is in");
        for client in 0..4 {
            let first = get(&restored, format!("a/{client}")).await;
            let second = get(&restored, format!("z/{client}")).await;
            assert_eq!(
                first.map(|entry| (entry.value, entry.version)),
                second.map(|entry| (entry.value, entry.version)),
                "a transaction is in whole or not at all"
            );
        }
        let late = restored.scan(KeyRange::prefix(format!("m/late/{round}/")), 10).await.unwrap();
        assert_eq!(late.entries, [], "what came after its beginning is not in");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0, "transactions went on");
    }
}

#[tokio::test]
async fn after_a_restore_cached_versions_and_ids_still_tell_the_truth() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    let identity = store.identity();
    let kept = commit(&store, put("kept", "1")).await;
    let before = Transaction {
        id: TransactionId([1; 16]),
        ..put("before", "1").check(Check::Absent("before".into()))
    };
    let before_version = commit(&store, before.clone()).await;
    let deleted = commit(&store, put("deleted", "1")).await;
    let file = files.path().join("backup");
    let info = back_up(&store, &file);
    assert_eq!((info.entries, info.transactions, info.identity), (3, 3, identity));
    // What the backup does not know.
    let late =
        Transaction { id: TransactionId([2; 16]), ..put("late", "1").check(Check::Absent("late".into())) };
    let late_version = commit(&store, late.clone()).await;
    commit(&store, Transaction::new().write(Write::Delete("deleted".into()))).await;
    let changed = commit(&store, put("kept", "2")).await;
    let told = store.now().await.unwrap();
    store.close();

    let restored = files.path().join("store");
    restore(&file, &restored).unwrap();
    let store = open(&restored);
    assert_eq!(store.identity(), identity);
    assert!(store.now().await.unwrap() >= told, "the clock never goes back");
    // Versions of what is there are as they were, so that who cached them goes on.
    let entry = get(&store, "kept").await.unwrap();
    assert_eq!((&entry.value[..], entry.version), (&b"1"[..], kept));
    assert_eq!(get(&store, "deleted").await.unwrap().version, deleted);
    // Who cached what is lost is told so.
    let stale = put("kept", "3").check(Check::Version("kept".into(), changed));
    assert_eq!(store.transact(stale).await.unwrap(), Outcome::Conflict(0));
    // A transaction is remembered exactly if its writes are there.
    assert_eq!(commit(&store, before).await, before_version);
    let again = commit(&store, late).await;
    assert!(again > late_version && get(&store, "late").await.is_some());
    // No version is given to other content.
    for number in 0..50 {
        assert!(commit(&store, put("kept", number.to_string())).await > changed);
    }
    let right = put("deleted", "2").check(Check::Version("deleted".into(), deleted));
    assert!(store.transact(right).await.unwrap().is_committed());
}

#[tokio::test]
async fn two_restores_of_one_backup_share_no_new_version() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    commit(&store, put("k", "1")).await;
    let file = files.path().join("backup");
    back_up(&store, &file);
    store.close();
    let mut last = Version(0);
    for round in 0..3 {
        let path = files.path().join(format!("store-{round}"));
        restore(&file, &path).unwrap();
        let store = open(&path);
        for number in 0..10 {
            let version = commit(&store, put("k", format!("{round} {number}"))).await;
            assert!(version > last, "round {round}: {version:?} after {last:?}");
            last = version;
        }
        store.close();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // And a backup of a restored store restores as well.
    let store = open(&files.path().join("store-2"));
    let (file, path) = (files.path().join("again"), files.path().join("store-again"));
    back_up(&store, &file);
    store.close();
    restore(&file, &path).unwrap();
    assert!(commit(&open(&path), put("k", "9")).await > last);
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_refused_and_left_alone() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    commit(&store, put("k", "1")).await;
    let file = files.path().join("backup");
    back_up(&store, &file);
    let error = restore(&file, directory.path()).unwrap_err();
    assert!(
        matches!(&error, RestoreError::NotEmpty { found, .. } if *found == Path::new("meta.redb")),
        "{error}"
    );
    store.close();
    assert!(matches!(restore(&file, directory.path()), Err(RestoreError::NotEmpty { .. })));
    assert_eq!(get(&open(directory.path()), "k").await.unwrap().value, "1");

    // The root of a fresh file system has this.
    let fresh = files.path().join("fresh");
    std::fs::create_dir_all(fresh.join("lost+found")).unwrap();
    restore(&file, &fresh).unwrap();
    assert_eq!(everything(&open(&fresh)).await.len(), 1);
}

#[tokio::test]
async fn a_restore_that_did_not_end_is_no_store_and_can_be_run_again() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    commit(&store, put("k", "1")).await;
    let file = files.path().join("backup");
    back_up(&store, &file);
    let target = files.path().join("store");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("meta.redb.restoring"), "half of it").unwrap();
    let error = EmbeddedMeta::open(&target, EmbeddedOptions::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::Unfinished { .. }) && error.to_string().contains("was not finished"),
        "{error}"
    );
    assert!(!target.join("meta.redb").exists(), "an empty store in its place would look like the real one");
    restore(&file, &target).unwrap();
    assert_eq!(get(&open(&target), "k").await.unwrap().value, "1");
}

#[tokio::test]
async fn a_damaged_backup_leaves_no_trace() {
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    commit(&store, put("k", "1")).await;
    let file = files.path().join("backup");
    back_up(&store, &file);
    let good = std::fs::read(&file).unwrap();
    let target = files.path().join("store");
    for bytes in [&good[..good.len() - 1], &good[..50], b""] {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&file, &target).unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert!(matches!(error, RestoreError::Backup { .. }) && !target.exists(), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_entry_is_named_rather_than_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    commit(&store, put("bad", "a value that stands out")).await;
    store.close();
    let path = directory.path().join("meta.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() - 9 {
        if &bytes[at..at + 9] == b"stands ou" {
            bytes[at] ^= 0x20;
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let error = open(directory.path()).backup(&mut Vec::new(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("key bad is damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_does_not_outlive_the_engine_that_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
    for number in 0..100 {
        commit(&store, put(format!("k{number:03}"), vec![1; 10_000])).await;
    }
    let (mut bytes, mut blocks) = (Vec::new(), 0);
    let runtime = tokio::runtime::Handle::current();
    let result = tokio::task::block_in_place(|| {
        store.backup(&mut bytes, &mut |_, _| {
            if blocks == 0 {
                plan.full.store(true, Ordering::SeqCst);
                assert!(runtime.block_on(store.transact(put("k", "v"))).is_err());
                plan.full.store(false, Ordering::SeqCst);
            }
            blocks += 1;
        })
    });
    assert!(matches!(&result, Err(BackupError::Store(MetaError::Unavailable(_)))), "{result:?}");
    assert!(matches!(check_backup(&bytes[..], &mut |_, _| {}), Err(BackupError::Torn(_))));
    commit(&store, put("k", "v")).await;
    bytes.clear();
    let info = store.backup(&mut bytes, &mut |_, _| {}).unwrap();
    assert_eq!(info.entries, 101);
}

#[tokio::test]
async fn an_output_that_fails_ends_the_backup() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let result = store.backup(&mut Full.by_ref(), &mut |_, _| {});
    assert!(matches!(result, Err(BackupError::Io(_))), "{result:?}");
    commit(&store, put("k", "v")).await;
}
