use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How fast a [`Collector`](super::Collector) looks at things: so many a second at most. Cheap to clone; clones share
/// the rate.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    per_second: Option<NonZeroU32>,
    /// When what has been looked at so far is paid for.
    due: Instant,
    examined: u64,
}

/// Pauses are no shorter than this: timers are not finer.
const SHORTEST: Duration = Duration::from_millis(2);

impl Pace {
    /// So many a second; as fast as it goes where nothing is given.
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        Self(Arc::new(Mutex::new(State { per_second, due: Instant::now(), examined: 0 })))
    }

    /// Takes note that so many things were looked at, and waits as long as they take at this rate.
    pub async fn examined(&self, things: usize) {
        let due = {
            let mut state = self.0.lock();
            state.examined += things as u64;
            let Some(per_second) = state.per_second else { return };
            let takes = Duration::from_secs(1).mul_f64(things as f64 / f64::from(per_second.get()));
            // Time in which nothing was looked at is not made up for.
            state.due = state.due.max(Instant::now()) + takes;
            state.due
        };
        if due.saturating_duration_since(Instant::now()) >= SHORTEST {
            tokio::time::sleep_until(due).await;
        }
    }

    /// How many things have been looked at.
    pub fn total(&self) -> u64 {
        self.0.lock().examined
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_idle_time_is_not_made_up_for() {
        let pace = Pace::new(NonZeroU32::new(100));
        for idle in [0, 3600] {
            tokio::time::sleep(Duration::from_secs(idle)).await;
            let began = Instant::now();
            for _ in 0..50 {
                pace.examined(10).await;
            }
            let took = began.elapsed();
            assert!((Duration::from_millis(4_990)..Duration::from_millis(5_010)).contains(&took), "{took:?}");
        }
        assert_eq!(pace.total(), 1000);
        let began = Instant::now();
        Pace::default().examined(1_000_000).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
