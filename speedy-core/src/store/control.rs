//! How the caller of a long operation follows it, and ends it.

use std::fmt;

use crate::sync::{Arc, AtomicBool, Ordering};

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Volumes that are done.
    pub volumes_done: u64,
    /// Volumes that there are to do, with those done.
    pub volumes: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes that there are to do, with those done. An estimate: the store is at work meanwhile.
    pub bytes: u64,
}

type Listener = Arc<dyn Fn(Progress) + Send + Sync>;

/// Cancels a compaction or a scrub, and hears of its progress. Clones are the same control.
#[derive(Clone, Default)]
pub struct Control {
    cancelled: Arc<AtomicBool>,
    listener: Option<Listener>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Control {
    /// One that hears nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `listener` with the progress from time to time, on the thread of the operation.
    #[must_use]
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Asks the operation to end soon. What it has done stays done.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, progress: Progress) {
        if let Some(listener) = &self.listener {
            listener(progress);
        }
    }
}
