//! A process that is killed while it writes, for real: this test starts itself as the victim.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

const VICTIM: &str = "SPEEDY_TEST_KILL_DIRECTORY";
const NAME: &str = "store::tests::kill::kill_minus_nine_under_load_loses_nothing_acknowledged";
/// Whether what it writes stays in the page cache.
const CACHES: &str = "SPEEDY_TEST_KILL_CACHES";
/// More rounds than these: `docs/testing.md`.
const ROUNDS: &str = "SPEEDY_KILL_ROUNDS";

fn length(number: u64) -> usize {
    match number % 4 {
        0 => 300_000 + (number as usize * 37) % 700_000,
        _ => 1 + (number as usize * 7919) % 20_000,
    }
}

/// More than every second one, so that there is something to compact.
fn is_deleted(number: u64) -> bool {
    number % 10 < 6
}

fn options() -> StoreOptions {
    StoreOptions::default().volume_size(16 << 20).preallocation(1 << 20)
}

/// Writes from several threads until it is killed, and says what was acknowledged.
fn victim(dir: &Path) -> ! {
    let caches = std::env::var_os(CACHES).is_some_and(|value| value == "true");
    let store = ChunkStore::open(dir, options().cache_writes(caches)).unwrap();
    let next = AtomicU64::new(store.highest_id().map_or(0, |id| id.get() + 1));
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                compact(&store).unwrap();
                store.checkpoint().unwrap();
                store.scrub(&ScrubOptions::default().rate(64 << 20)).unwrap();
            }
        });
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    put(&store, number, &content(number, length(number))).unwrap();
                    let mut said = format!("put {number}\n");
                    if is_deleted(number) {
                        store.delete(id(number), GroupVersion::new(3)).unwrap();
                        said += &format!("deleted {number}\n");
                    }
                    std::io::stdout().write_all(said.as_bytes()).unwrap();
                }
            });
        }
    });
    unreachable!("the threads never end")
}

#[test]
fn kill_minus_nine_under_load_loses_nothing_acknowledged() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        victim(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::BTreeMap::new();
    let rounds = std::env::var(ROUNDS).map_or(6, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(VICTIM, dir.path())
            .env(CACHES, (round % 2 == 0).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, heard) = mpsc::channel();
        // It ends when the child is dead and all that it said has been read.
        let reader = thread::spawn(move || {
            for line in output.lines() {
                let line = line.unwrap();
                // Each line is one write, and a pipe takes so short a write whole or not at all.
                if let Some(number) = line.strip_prefix("put ").and_then(|n| n.parse::<u64>().ok()) {
                    say.send((number, false)).unwrap();
                } else if let Some(number) = line.strip_prefix("deleted ").and_then(|n| n.parse().ok()) {
                    say.send((number, true)).unwrap();
                }
            }
        });
        let first = heard.recv_timeout(Duration::from_secs(60)).expect("the victim writes");
        thread::sleep(Duration::from_millis(100 + 70 * (round % 8)));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        acknowledged.extend(std::iter::once(first).chain(heard));

        let store = ChunkStore::open(dir.path(), options()).unwrap();
        for (&number, &deleted) in &acknowledged {
            match get(&store, number) {
                Ok(bytes) => assert!(!deleted && bytes == content(number, length(number)), "chunk {number}"),
                // The delete may have been acknowledged and not yet said.
                Err(ReadError::Deleted(_)) => assert!(deleted || is_deleted(number), "chunk {number}"),
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        for number in ids(&store) {
            assert_eq!(get(&store, number).unwrap(), content(number, length(number)));
        }
        assert_eq!(store.recovery().lost, []);
        assert_eq!((store.recovery().torn, store.recovery().damaged_regions), (0, 0));
    }
}
