//! What a store needs done from time to time, in the background.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{ChunkStore, CompactionOptions, Control, Progress, ScrubError, ScrubOptions, ScrubPass};
use crate::sync::{Arc, Mutex};

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// A pass of the scrub begins so many times in its period at most: a small store is not read all the time.
const PASSES_IN_A_PERIOD: u32 = 720;

/// How a store is maintained.
#[derive(Clone, Debug)]
pub struct MaintenanceOptions {
    check_every: Duration,
    dead_percent: u8,
    compaction_rate: u64,
    scrub_period: Duration,
    scrub_rate: u64,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self {
            check_every: Duration::from_secs(60),
            dead_percent: 50,
            compaction_rate: 64 * MIB,
            scrub_period: 30 * DAY,
            scrub_rate: MIB,
        }
    }
}

impl MaintenanceOptions {
    /// How often it is looked whether there is something to do: every minute by default, at least a millisecond.
    #[must_use]
    pub fn check_every(mut self, interval: Duration) -> Self {
        self.check_every = interval.max(Duration::from_millis(1));
        self
    }

    /// Volumes of which so many percent are dead are compacted: 50 by default, 0 to 100.
    #[must_use]
    pub fn dead_percent(mut self, percent: u8) -> Self {
        self.dead_percent = percent;
        self
    }

    /// Bytes a second that compaction copies at most: 64 MiB by default, at least 1.
    #[must_use]
    pub fn compaction_rate(mut self, bytes: u64) -> Self {
        self.compaction_rate = bytes.max(1);
        self
    }

    /// The time in which all bytes of the store are to be verified: 30 days by default.
    #[must_use]
    pub fn scrub_period(mut self, period: Duration) -> Self {
        self.scrub_period = period;
        self
    }

    /// Bytes a second that are verified at least, however long the period: 1 MiB by default, at least 1.
    #[must_use]
    pub fn scrub_rate(mut self, bytes: u64) -> Self {
        self.scrub_rate = bytes.max(1);
        self
    }

    /// Bytes a second at which a store of so many bytes is verified in its period.
    fn rate_of_scrub(&self, bytes: u64) -> u64 {
        self.scrub_rate.max(bytes / self.scrub_period.as_secs().max(1))
    }
}

/// What maintenance has done since it was started, and does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MaintenanceStatus {
    /// How far a compaction is that runs.
    pub compaction: Option<Progress>,
    /// Volumes that were removed.
    pub volumes_removed: u64,
    /// Bytes of those volumes.
    pub bytes_freed: u64,
    /// Bytes of records that were copied out of them.
    pub bytes_copied: u64,
    /// Compactions that ended with an error; the log has it.
    pub compactions_failed: u64,
    /// How far the scrub is, if one runs.
    pub scrub: Option<Progress>,
    /// The last complete pass of the scrub, also of an earlier process.
    pub last_scrub: Option<ScrubPass>,
    /// Chunks that are known to be damaged.
    pub damaged: u64,
}

/// Compacts, scrubs and checkpoints a store for as long as it exists. Dropping it stops that, and waits until it has stopped.
#[derive(Debug)]
pub struct Maintenance {
    store: Arc<ChunkStore>,
    state: Arc<Mutex<MaintenanceStatus>>,
    control: Control,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Maintenance {
    /// Starts to maintain a store, on two threads of its own. One that the system refuses is reported in the log, and
    /// its work is not done.
    pub fn start(store: Arc<ChunkStore>, options: MaintenanceOptions) -> Self {
        let (state, control) = (Arc::default(), Control::new());
        let mut maintenance = Self { store, state, control, threads: Vec::new() };
        maintenance.spawn("speedy-compact", &options, Worker::compact);
        maintenance.spawn("speedy-scrub", &options, Worker::scrub);
        maintenance
    }

    fn spawn(&mut self, name: &str, options: &MaintenanceOptions, work: fn(&Worker)) {
        let (stop, stopped) = channel();
        let worker = Worker {
            store: Arc::clone(&self.store),
            state: Arc::clone(&self.state),
            control: self.control.clone(),
            options: options.clone(),
            stopped,
        };
        match Builder::new().name(name.into()).spawn(move || work(&worker)) {
            Ok(thread) => self.threads.push((stop, thread)),
            Err(error) => tracing::error!(%error, name, "a thread for maintenance could not be started"),
        }
    }

    /// What it has done, and does now.
    pub fn status(&self) -> MaintenanceStatus {
        let damaged = self.store.damaged().len() as u64;
        MaintenanceStatus { last_scrub: self.store.last_scrub(), damaged, ..*self.state.lock() }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.control.cancel();
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a thread of maintenance has panicked");
            }
        }
    }
}

struct Worker {
    store: Arc<ChunkStore>,
    state: Arc<Mutex<MaintenanceStatus>>,
    control: Control,
    options: MaintenanceOptions,
    stopped: Receiver<()>,
}

impl Worker {
    /// Waits; whether to go on.
    fn wait(&self, time: Duration) -> bool {
        matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// A control that keeps the progress where the status finds it.
    fn control(&self, field: fn(&mut MaintenanceStatus) -> &mut Option<Progress>) -> Control {
        let state = Arc::clone(&self.state);
        self.control.clone().on_progress(move |progress| *field(&mut state.lock()) = Some(progress))
    }

    fn compact(&self) {
        let options = CompactionOptions::default()
            .dead_percent(self.options.dead_percent)
            .rate(self.options.compaction_rate)
            .control(self.control(|status| &mut status.compaction));
        while self.wait(self.options.check_every) {
            let done = self.store.compact(&options);
            let mut state = self.state.lock();
            state.compaction = None;
            match done {
                Ok(report) => {
                    state.volumes_removed += report.removed;
                    state.bytes_freed += report.freed_bytes;
                    state.bytes_copied += report.copied_bytes;
                }
                Err(error) => {
                    state.compactions_failed += 1;
                    drop(state);
                    tracing::warn!(%error, "a compaction ended early; it is tried again");
                }
            }
            if self.store.checkpoint_is_due()
                && let Err(error) = self.store.checkpoint()
            {
                tracing::warn!(%error, "no checkpoint of the index; it is tried again");
            }
        }
    }

    fn scrub(&self) {
        let pause = self.options.scrub_period / PASSES_IN_A_PERIOD;
        let mut began: Option<Instant> = None;
        while self.wait(self.options.check_every) {
            if began.is_some_and(|began| began.elapsed() < pause) {
                continue;
            }
            began = Some(Instant::now());
            let rate = self.options.rate_of_scrub(self.store.live_bytes());
            let control = self.control(|status| &mut status.scrub);
            let done = self.store.scrub(&ScrubOptions::default().rate(rate).control(control));
            self.state.lock().scrub = None;
            match done {
                Ok(report) if report.damaged > 0 => {
                    tracing::error!(damaged = report.damaged, "a scrub has found damaged chunks: heal them");
                }
                // Somebody scrubs by hand: that is as good.
                Ok(_) | Err(ScrubError::Busy) => {}
                Err(error) => tracing::warn!(%error, "there was no scrub"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_store_is_verified_in_its_period_and_a_small_one_no_slower_than_the_least_rate() {
        let options = MaintenanceOptions::default();
        assert_eq!(options.rate_of_scrub(0), MIB);
        assert_eq!(options.rate_of_scrub(100 << 30), MIB);
        let month = 30 * 86_400;
        assert_eq!(options.rate_of_scrub(month * 50 * MIB), 50 * MIB);
        assert_eq!(options.scrub_period(Duration::ZERO).rate_of_scrub(7 * MIB), 7 * MIB);
    }
}
