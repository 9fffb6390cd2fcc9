//! Background work at a set rate.

use std::thread;
use std::time::{Duration, Instant};

use super::Control;

/// The longest sleep without a look at whether the work was cancelled.
const NAP: Duration = Duration::from_millis(20);

/// Time that was not used is not saved up for longer than this: after a pause the work does not come as a burst.
const SLACK: Duration = Duration::from_millis(100);

/// Lets so many bytes a second through.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second; `None` for no limit.
    rate: Option<u64>,
    /// When what was let through so far is paid for.
    paid: Instant,
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, paid: Instant::now() }
    }

    /// Says that `bytes` were worked on; returns when more may be, or when the work was cancelled. The caller holds no
    /// claim and no lock: it may be a while.
    pub(super) fn spend(&mut self, bytes: u64, control: &Control) {
        let Some(rate) = self.rate else { return };
        let oldest = Instant::now().checked_sub(SLACK).unwrap_or(self.paid);
        self.paid = self.paid.max(oldest) + cost(bytes, rate);
        while !control.is_cancelled() {
            let left = self.paid.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }
}

/// How long `bytes` take at `rate` bytes a second, at most a day: the clock has an end.
fn cost(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).min(86_400_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_a_cancelled_work_does_not_wait() {
        let control = Control::new();
        let begun = Instant::now();
        let mut throttle = Throttle::new(Some(1 << 20));
        for _ in 0..4 {
            throttle.spend(64 << 10, &control);
        }
        // 256 KiB at 1 MiB a second, less the slack.
        assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
        control.cancel();
        let begun = Instant::now();
        throttle.spend(u64::MAX, &control);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(cost(u64::MAX, 1), Duration::from_secs(86_400));
        Throttle::new(None).spend(u64::MAX, &Control::new());
    }
}
