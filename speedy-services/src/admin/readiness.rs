use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::drain::Drain;

/// What a process waits for before it can serve. Cheap to clone; clones share the conditions.
#[derive(Clone, Default, Debug)]
pub struct Readiness {
    /// By name: why the condition is not met, or `None`.
    conditions: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Readiness {
    /// Adds a condition, not met yet for this reason.
    pub fn condition(&self, name: &'static str, reason: &str) -> Condition {
        self.conditions.lock().insert(name, Some(reason.to_owned()));
        Condition { readiness: self.clone(), name }
    }

    /// Why the process should get no requests now: `NAME: REASON` of each condition that is not met, and the drain
    /// once it has started. Empty where it should.
    pub fn missing(&self, drain: &Drain) -> Vec<String> {
        let conditions = self.conditions.lock();
        let unmet =
            conditions.iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason.as_ref()?)));
        let draining = drain.is_announced().then(|| "the process is draining".to_owned());
        unmet.chain(draining).collect()
    }
}

/// One thing that a process waits for.
#[derive(Debug)]
pub struct Condition {
    readiness: Readiness,
    name: &'static str,
}

impl Condition {
    /// It holds now.
    pub fn met(&self) {
        self.readiness.conditions.lock().insert(self.name, None);
    }

    /// It does not hold, for this reason.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.readiness.conditions.lock().insert(self.name, Some(reason.into()));
    }
}
