//! Group commit: concurrent commits of a volume share one sync.

use std::io;

use crate::sync::{Arc, Condvar, Mutex};

/// The commits of one volume that wait for stable storage.
///
/// Whoever finds no sync running becomes the leader and syncs for everybody whose bytes were written before it
/// began; those that come meanwhile wait, and one of them leads the next one. So a single writer never waits for a
/// timer, and many share one sync.
///
/// A failed sync is final (promise 4): what it covered has failed, and so has all that comes after.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Commits that have written their bytes, ever.
    written: u64,
    /// The first so many of them are on stable storage.
    durable: u64,
    syncing: bool,
    failed: Option<Arc<io::Error>>,
}

impl CommitQueue {
    /// Returns once all that the caller has written before is on stable storage, after a call of `sync` by this
    /// thread or another.
    pub(super) fn commit(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Arc<io::Error>> {
        let mut state = self.state.lock();
        state.written += 1;
        let ticket = state.written;
        loop {
            // First, because a commit that was covered before a failure is good.
            if state.durable >= ticket {
                return Ok(());
            }
            if let Some(error) = &state.failed {
                return Err(Arc::clone(error));
            }
            if !state.syncing {
                break;
            }
            self.settled.wait(&mut state);
        }
        state.syncing = true;
        let covered = state.written;
        drop(state);
        let result = sync().map_err(Arc::new);
        let mut state = self.state.lock();
        state.syncing = false;
        match &result {
            Ok(()) => state.durable = covered,
            Err(error) => state.failed = Some(Arc::clone(error)),
        }
        drop(state);
        self.settled.notify_all();
        result
    }

    /// Why nothing more will be on stable storage, once a sync has failed.
    pub(super) fn failure(&self) -> Option<Arc<io::Error>> {
        self.state.lock().failed.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    /// Lets one commit sync until `others` more wait, then lets the sync end with `result`. Answers the results, the
    /// leader's first, and how many syncs there were.
    fn commits(others: u64, result: io::Result<()>) -> (Vec<Result<(), Arc<io::Error>>>, u64) {
        let queue = CommitQueue::default();
        let syncs = AtomicU64::new(0);
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel();
        thread::scope(|scope| {
            let leader = scope.spawn(|| {
                queue.commit(|| {
                    syncs.fetch_add(1, Ordering::SeqCst);
                    begun.send(()).unwrap();
                    may_end.into_iter().next().unwrap()
                })
            });
            has_begun.recv().unwrap();
            let one_more = || {
                queue.commit(|| {
                    syncs.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            };
            let followers: Vec<_> = (0..others).map(|_| scope.spawn(one_more)).collect();
            while queue.state.lock().written <= others {
                thread::yield_now();
            }
            end.send(result).unwrap();
            let results = std::iter::once(leader).chain(followers).map(|t| t.join().unwrap()).collect();
            (results, syncs.load(Ordering::SeqCst))
        })
    }

    #[test]
    fn those_that_come_during_a_sync_share_the_next_one() {
        let (results, syncs) = commits(7, Ok(()));
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(syncs, 2);
    }

    #[test]
    fn a_failed_sync_fails_those_that_it_covers_and_all_that_come_later() {
        let (results, syncs) = commits(7, Err(io::Error::from_raw_os_error(5)));
        assert!(results.iter().all(|result| result.as_ref().is_err_and(|e| e.raw_os_error() == Some(5))));
        assert_eq!(syncs, 1, "a sync that failed is never repeated");
    }
}
