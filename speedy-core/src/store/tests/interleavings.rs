//! What must hold in every order in which threads can run, checked over thousands of schedules by the model checker
//! that stands behind `crate::sync` with the feature `shuttle`. A deadlock fails a test too.

use std::io;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

use super::super::claims::Claims;
use super::super::commit::CommitQueue;
use super::super::index::{Entry, Index};
use super::*;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

const SCHEDULES: usize = 5_000;

/// Half of the schedules at random, half with few but ill-timed preemptions, which find other bugs.
fn check(test: impl Fn() + Send + Sync + Clone + 'static) {
    let config = || {
        let mut config = shuttle::Config::new();
        // The default of 32 KiB is less than an unoptimised store needs.
        config.stack_size = 512 << 10;
        config
    };
    shuttle::Runner::new(RandomScheduler::new(SCHEDULES / 2), config()).run(test.clone());
    shuttle::Runner::new(PctScheduler::new(3, SCHEDULES / 2), config()).run(test);
}

fn run(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A file in whose place a bit is set by each write, and a sync copies those that were set when it began.
#[derive(Default)]
struct Bits {
    written: AtomicU64,
    durable: AtomicU64,
    syncs: AtomicU64,
    syncing: AtomicBool,
}

impl Bits {
    fn sync(&self, outcome: impl FnOnce(u64) -> io::Result<()>) -> io::Result<()> {
        assert!(!self.syncing.swap(true, Ordering::SeqCst), "two syncs of a volume at once");
        let covered = self.written.load(Ordering::SeqCst);
        thread::yield_now();
        let result = outcome(self.syncs.fetch_add(1, Ordering::SeqCst));
        if result.is_ok() {
            self.durable.fetch_or(covered, Ordering::SeqCst);
        }
        self.syncing.store(false, Ordering::SeqCst);
        result
    }
}

#[test]
fn interleavings_of_commits_acknowledge_only_what_a_sync_has_covered() {
    check(|| {
        let (queue, bits) = (Arc::new(CommitQueue::default()), Arc::new(Bits::default()));
        let commit = |bit: u64| {
            let (queue, bits) = (Arc::clone(&queue), Arc::clone(&bits));
            thread::spawn(move || {
                for bit in [bit, bit + 8] {
                    bits.written.fetch_or(1 << bit, Ordering::SeqCst);
                    queue.commit(|| bits.sync(|_| Ok(()))).unwrap();
                    assert_ne!(
                        bits.durable.load(Ordering::SeqCst) & (1 << bit),
                        0,
                        "acknowledged, not durable"
                    );
                }
            })
        };
        run((0..3).map(commit).collect());
        assert!(bits.syncs.load(Ordering::SeqCst) <= 6, "more syncs than commits");
    });
}

#[test]
fn interleavings_of_commits_with_a_failing_sync_acknowledge_nothing_after_it() {
    check(|| {
        let (queue, bits) = (Arc::new(CommitQueue::default()), Arc::new(Bits::default()));
        let commit = |bit: u64| {
            let (queue, bits) = (Arc::clone(&queue), Arc::clone(&bits));
            thread::spawn(move || {
                bits.written.fetch_or(1 << bit, Ordering::SeqCst);
                let fail_second = |n| if n == 1 { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) };
                let acknowledged = queue.commit(|| bits.sync(fail_second)).is_ok();
                let durable = bits.durable.load(Ordering::SeqCst) & (1 << bit) != 0;
                assert!(!acknowledged || durable, "acknowledged, not durable");
            })
        };
        run((0..4).map(commit).collect());
        assert!(bits.syncs.load(Ordering::SeqCst) <= 2, "a sync after the one that failed");
    });
}

#[test]
fn interleavings_of_claims_let_one_thread_at_a_time_decide_an_id() {
    check(|| {
        let claims = Arc::new(Claims::default());
        let decided = Arc::new([const { AtomicBool::new(false) }; 2]);
        let claim = |thread: u64| {
            let (claims, decided) = (Arc::clone(&claims), Arc::clone(&decided));
            thread::spawn(move || {
                for turn in 0..2 {
                    let number = (thread + turn) % 2;
                    let _claim = claims.claim(id(number));
                    assert!(!decided[number as usize].swap(true, Ordering::SeqCst));
                    thread::yield_now();
                    decided[number as usize].store(false, Ordering::SeqCst);
                }
            })
        };
        run((0..3).map(claim).collect());
    });
}

#[test]
fn interleavings_of_the_index_show_each_reader_one_entry_or_the_other() {
    check(|| {
        let index = Arc::new(Index::default());
        let (old, new) = (Entry::chunk(1, 8192, 10), Entry::chunk(2, 8192, 10));
        index.insert(id(1), old);
        let spawn = |work: fn(&Index, Entry, Entry)| {
            let index = Arc::clone(&index);
            thread::spawn(move || work(&index, old, new))
        };
        run(vec![
            spawn(|index, _, new| index.insert(id(1), new)),
            spawn(|index, _, _| index.insert(id(17), Entry::tombstone(3, 8192))),
            spawn(|index, old, new| {
                let first = index.get(id(1)).unwrap();
                let second = index.get(id(1)).unwrap();
                assert!(first == old || first == new);
                assert!(second == new || first == old, "an entry went back");
                let (listed, _) = index.list(None, 10);
                assert_eq!(listed.len(), 1, "{listed:?}");
            }),
        ]);
        assert_eq!(index.get(id(1)), Some(new));
        let usage = index.usage();
        assert_eq!((usage.chunks, usage.chunk_bytes, usage.tombstones), (1, 10, 1));
    });
}

/// A whole store on a disk in memory: one id is written twice, with bytes of its own each, and deleted, all at once.
#[test]
fn interleavings_of_writes_and_a_delete_of_one_id_leave_one_truth() {
    check(|| {
        let disk = SimulatedDisk::new();
        let store = Arc::new(open(&disk));
        let (a, b) = (content(1, 100), content(2, 100));
        let write = |bytes: Vec<u8>| {
            let store = Arc::clone(&store);
            thread::spawn(move || match put(&store, 1, &bytes) {
                Ok(_) => match get(&store, 1) {
                    Ok(stored) => assert_eq!(stored, bytes, "acknowledged, and other bytes are read"),
                    Err(error) => assert!(matches!(error, ReadError::Deleted(_)), "{error}"),
                },
                Err(error) => {
                    assert!(matches!(error, WriteError::Conflict(_) | WriteError::Deleted(_)), "{error}");
                }
            })
        };
        let delete = {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                store.delete(id(1), GroupVersion::INITIAL).unwrap();
                assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))), "deleted, and it is read");
            })
        };
        run(vec![write(a.clone()), write(b.clone()), delete]);
        let store = open(&disk.after_power_cut(1));
        assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))), "a power cut undid a delete");
    });
}
