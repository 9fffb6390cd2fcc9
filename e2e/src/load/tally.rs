//! What the clients saw.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount};

/// How many errors a report shows, and how many reasons of other attempts.
const SHOWN: usize = 5;

/// What all clients of a load have seen so far.
#[derive(Debug)]
pub(super) struct Tally(Mutex<State>);

#[derive(Debug)]
struct State {
    seen: Seen,
    last_done: Instant,
}

/// What the clients of a load saw. Its text is the report.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Operations that were done: a push of a blob, a pull of one, a push or a pull of a manifest.
    pub operations: u64,
    /// Blobs that were pushed, and their bytes.
    pub pushed: (u64, u64),
    /// Blobs that were pulled, wholly or in part, and their bytes: every one was compared with what was pushed.
    pub pulled: (u64, u64),
    /// Manifests that were acknowledged.
    pub manifests: u64,
    /// Attempts that failed and were followed by another.
    pub retries: u64,
    /// Operations that failed although they were tried again, and answers that no retry can mend: of each what and why.
    pub errors: Vec<String>,
    /// Why the first of them failed.
    pub reasons: Vec<String>,
    /// The slowest operation, with all its attempts and pauses.
    pub slowest: (Duration, String),
    /// The longest time in which no operation at all was done.
    pub longest_rest: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { seen: Seen::default(), last_done: Instant::now() }))
    }

    pub(super) fn done(&self, what: &str, began: Instant) {
        let mut state = self.state();
        let now = Instant::now();
        state.seen.operations += 1;
        state.seen.longest_rest = state.seen.longest_rest.max(now - state.last_done);
        state.last_done = now;
        if now - began > state.seen.slowest.0 {
            state.seen.slowest = (now - began, what.to_owned());
        }
    }

    pub(super) fn pushed(&self, bytes: usize) {
        let mut state = self.state();
        state.seen.pushed = (state.seen.pushed.0 + 1, state.seen.pushed.1 + bytes as u64);
    }

    pub(super) fn pulled(&self, bytes: usize) {
        let mut state = self.state();
        state.seen.pulled = (state.seen.pulled.0 + 1, state.seen.pulled.1 + bytes as u64);
    }

    pub(super) fn put_manifest(&self) {
        self.state().seen.manifests += 1;
    }

    pub(super) fn retried(&self, what: &str, why: &str) {
        let mut state = self.state();
        state.seen.retries += 1;
        // Those that follow are mostly the same.
        if state.seen.reasons.len() < SHOWN {
            state.seen.reasons.push(format!("{what}: {why}"));
        }
    }

    pub(super) fn failed(&self, what: &str, why: &str) {
        self.state().seen.errors.push(format!("{what}: {why}"));
    }

    pub(super) fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |(count, bytes): (u64, u64)| format!("{} ({})", HumanCount(count), DecimalBytes(bytes));
        writeln!(f, "operations            {}", HumanCount(self.operations))?;
        writeln!(f, "  blobs pushed        {}", bytes(self.pushed))?;
        writeln!(f, "  blobs pulled        {}", bytes(self.pulled))?;
        writeln!(f, "  manifests pushed    {}", HumanCount(self.manifests))?;
        writeln!(f, "attempts repeated     {}", HumanCount(self.retries))?;
        writeln!(f, "errors after retries  {}", HumanCount(self.errors.len() as u64))?;
        writeln!(f, "slowest operation     {:.1} s: {}", self.slowest.0.as_secs_f64(), self.slowest.1)?;
        write!(f, "longest rest          {:.1} s", self.longest_rest.as_secs_f64())?;
        for (title, texts) in [("repeated", &self.reasons), ("error", &self.errors)] {
            for text in texts.iter().take(SHOWN) {
                write!(f, "\n  {title}: {text}")?;
            }
        }
        Ok(())
    }
}
