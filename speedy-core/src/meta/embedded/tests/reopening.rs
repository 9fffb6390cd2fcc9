use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::faults::faulty;
use super::*;
use crate::meta::Check;
use crate::meta::embedded::tables::{FORMAT, FORMAT_ROW, INFO};

#[tokio::test]
async fn what_was_committed_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let identity = store.identity();
    let durable = put("durable", "1").check(Check::Absent("durable".into()));
    let first = commit(&store, durable.clone()).await;
    let relaxed = commit(&store, put("relaxed", "2").relaxed()).await;
    let told = store.now().await.unwrap();
    store.close();

    let store = open(directory.path());
    assert_eq!(store.identity(), identity);
    assert_eq!(get(&store, "durable").await.unwrap().version, first);
    assert_eq!(get(&store, "relaxed").await.unwrap().value, "2", "a clean close loses nothing");
    assert_eq!(commit(&store, durable).await, first, "its id is remembered");
    assert!(commit(&store, put("durable", "2")).await > relaxed);
    assert!(store.now().await.unwrap() >= told);
}

#[tokio::test]
async fn a_clean_close_does_not_put_the_clock_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let before = store.now().await.unwrap();
    store.close();
    let after = open(directory.path()).now().await.unwrap();
    assert!(after >= before);
    assert!(after.since(before) < Duration::from_secs(4), "the reserve of the clock was given back");
}

#[tokio::test]
async fn what_is_queued_is_finished_before_the_close() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..100 {
        let mut transact = Box::pin(store.transact(put(format!("k{number}"), "")));
        // Polled once it is queued; then whoever asked goes away.
        let polled = futures_util::poll!(transact.as_mut());
        drop((polled, transact));
    }
    store.close();
    let store = open(directory.path());
    for number in 0..100 {
        assert!(get(&store, format!("k{number}")).await.is_some(), "transaction {number}");
    }
}

#[tokio::test]
async fn what_the_system_holds_of_the_file_is_used_after_a_good_close_only() {
    let directory = tempfile::tempdir().unwrap();
    let is_good = || Directory::lock(directory.path()).unwrap().memory_is_good();
    assert!(!is_good(), "nobody has closed it");
    let store = open(directory.path());
    commit(&store, put("key", "value")).await;
    store.close();
    assert!(is_good());
    assert!(!is_good(), "whoever had it in between did not close it");

    let store = open(directory.path());
    assert!(!store.shared.directory.memory_is_good(), "it is used once, when the engine is opened first");
    store.close();
    assert!(is_good());

    // A sync that fails at work, and each that the close makes.
    for (at_work, sync) in [(true, 1), (false, 1), (false, 2), (false, 3)] {
        let (store, plan) = faulty(directory.path(), EmbeddedOptions::default());
        commit(&store, put("key", "value")).await;
        plan.sync_in.store(sync, Ordering::SeqCst);
        if at_work {
            // Whether the disk has it all the same is found out by reading it again.
            let _ = store.transact(put("key", "other")).await;
            assert!(store.shared.failure().is_some());
        }
        store.close();
        assert_eq!(plan.sync_in.load(Ordering::SeqCst), 0, "there was no sync {sync}");
        assert!(!is_good(), "sync {sync}, at work: {at_work}");
    }
}

#[test]
fn a_directory_has_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let error = EmbeddedMeta::open(directory.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::Locked { holder: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("is in use by another process ({})", std::process::id())));
    store.close();
    open(directory.path());
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close();
    let database = Database::open(directory.path().join("meta.redb")).unwrap();
    let commit = database.begin_write().unwrap();
    commit.open_table(INFO).unwrap().insert(FORMAT_ROW, &(FORMAT + 1).to_be_bytes()[..]).unwrap();
    commit.commit().unwrap();
    drop(database);
    let error = EmbeddedMeta::open(directory.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Format { found, .. } if found == FORMAT + 1), "{error}");
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meta.redb");
    let content = b"something else, but long enough to be looked at".repeat(1000);
    std::fs::write(&file, &content).unwrap();
    let error = EmbeddedMeta::open(directory.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), content);
}

#[test]
fn errors_say_what_the_operator_can_do() {
    let path = Path::new("/srv/meta");
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        let error = OpenError::io(path, kind.into());
        assert!(matches!(error, OpenError::NotWritable { .. }));
        assert!(error.to_string().contains("/srv/meta is not writable"), "{error}");
    }
    assert!(matches!(OpenError::io(path, ErrorKind::StorageFull.into()), OpenError::Io { .. }));
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = EmbeddedMeta::open(file.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn a_damaged_entry_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    commit(&store, put("good", "1")).await;
    commit(&store, put("bad", "a value that stands out")).await;
    store.close();
    let file = directory.path().join("meta.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let marks: Vec<usize> =
        bytes.windows(9).enumerate().filter(|(_, w)| w == b"stands ou").map(|(at, _)| at).collect();
    assert!(!marks.is_empty());
    for at in marks {
        bytes[at] ^= 0x20;
    }
    std::fs::write(&file, bytes).unwrap();

    let store = open(directory.path());
    assert_eq!(get(&store, "good").await.unwrap().value, "1");
    let error = store.get("bad".into()).await.unwrap_err();
    assert!(matches!(&error, MetaError::Failed(reason) if reason.contains("key bad is damaged")), "{error}");
    assert!(store.scan(KeyRange::prefix("b"), 10).await.is_err());
    assert_eq!(store.scan(KeyRange::prefix("g"), 10).await.unwrap().entries.len(), 1);
    let check = Transaction::new().check(Check::Version("bad".into(), Version(2)));
    assert!(matches!(store.transact(check).await, Err(MetaError::Failed(_))));
    commit(&store, put("bad", "mended")).await;
    assert_eq!(get(&store, "bad").await.unwrap().value, "mended");
}
