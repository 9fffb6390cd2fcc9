use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::Mutex;

/// Who failed a short while ago and is asked last until that is over. A penalty changes an order, never an answer:
/// where all are under one, all are still asked.
#[derive(Debug)]
pub(crate) struct Penalties<K> {
    until: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash + Copy> Penalties<K> {
    pub(crate) fn new() -> Self {
        Self { until: Mutex::new(HashMap::new()) }
    }

    /// Puts a penalty on `key` that ends after `length`.
    pub(crate) fn punish(&self, key: K, length: Duration) {
        let now = Instant::now();
        let mut until = self.until.lock();
        until.retain(|_, end| *end > now);
        until.insert(key, now + length);
    }

    /// Takes the penalty off `key`: it has just done well.
    pub(crate) fn forgive(&self, key: K) {
        self.until.lock().remove(&key);
    }

    /// Whether `key` is under a penalty now.
    pub(crate) fn holds(&self, key: K) -> bool {
        self.until.lock().get(&key).is_some_and(|end| *end > Instant::now())
    }
}
