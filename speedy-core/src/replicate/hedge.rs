//! When a second replica is asked for what a first one is slow to give.
//!
//! After Dean and Barroso, "The Tail at Scale" (2013): a read that has waited longer than 95 of 100 did is sent to another
//! replica too, and whichever answers first counts. A budget keeps that from adding load where everybody is slow.

use std::collections::HashMap;
use std::time::Duration;

use crate::id::NodeId;
use crate::sync::Mutex;

/// Answers that the estimate of the 95th percentile rests on.
const SAMPLES: usize = 256;

/// Answers after which it is made anew.
const REFRESH: usize = 32;

/// While little is known.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// However fast or slow the answers are.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// Second questions for each hundred answers, and how many may come at once.
const PERCENT: u32 = 10;
const BURST: u32 = 20;

/// Second questions that a node may lose one after the other before it is passed over for a while.
const LOSSES: u32 = 3;

/// What a client has seen of how long answers take.
#[derive(Debug)]
pub(super) struct Hedging {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Microseconds, the oldest overwritten first.
    samples: Vec<u32>,
    next: usize,
    delay: Duration,
    /// Hundredths of a second question.
    budget: u32,
    losses: HashMap<NodeId, u32>,
}

impl Hedging {
    pub(super) fn new() -> Self {
        let state = State {
            samples: Vec::new(),
            next: 0,
            delay: FIRST_DELAY,
            budget: BURST * 100,
            losses: HashMap::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// How long to wait before another replica is asked.
    pub(super) fn delay(&self) -> Duration {
        self.state.lock().delay
    }

    /// Notes an answer, and how long it took.
    pub(super) fn answered(&self, node: NodeId, took: Duration) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.losses.remove(&node);
        state.budget = (state.budget + PERCENT).min(BURST * 100);
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match state.samples.get_mut(state.next) {
            Some(oldest) => *oldest = sample,
            None => state.samples.push(sample),
        }
        state.next = (state.next + 1) % SAMPLES;
        if state.next.is_multiple_of(REFRESH) {
            let mut sorted = state.samples.clone();
            let at = sorted.len() * 95 / 100;
            let (_, p95, _) = sorted.select_nth_unstable(at);
            state.delay = Duration::from_micros((*p95).into()).clamp(BOUNDS.0, BOUNDS.1);
        }
    }

    /// Whether another replica may be asked now.
    pub(super) fn may_ask(&self) -> bool {
        let mut state = self.state.lock();
        let rest = state.budget.checked_sub(100);
        state.budget = rest.unwrap_or(state.budget);
        rest.is_some()
    }

    /// Notes that another replica was faster. Answers whether that happens to this node all the time.
    pub(super) fn lost(&self, node: NodeId) -> bool {
        let mut state = self.state.lock();
        let losses = state.losses.entry(node).or_default();
        *losses += 1;
        let all_the_time = *losses >= LOSSES;
        if all_the_time {
            state.losses.remove(&node);
        }
        all_the_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 16]);

    #[test]
    fn the_delay_follows_the_slowest_of_twenty_within_bounds() {
        let hedging = Hedging::new();
        assert_eq!(hedging.delay(), FIRST_DELAY);
        for number in 0..1000 {
            let slow = number % 10 == 0;
            hedging.answered(NODE, Duration::from_millis(if slow { 300 } else { 2 }));
        }
        assert_eq!(hedging.delay(), Duration::from_millis(300));
        for _ in 0..1000 {
            hedging.answered(NODE, Duration::from_micros(100));
        }
        assert_eq!(hedging.delay(), BOUNDS.0);
    }

    #[test]
    fn second_questions_are_a_share_of_the_first() {
        let hedging = Hedging::new();
        assert_eq!((0..100).filter(|_| hedging.may_ask()).count() as u32, BURST);
        for _ in 0..100 {
            hedging.answered(NODE, Duration::ZERO);
        }
        assert_eq!((0..100).filter(|_| hedging.may_ask()).count() as u32, PERCENT);
    }

    #[test]
    fn only_who_loses_again_and_again_is_told_of() {
        let hedging = Hedging::new();
        assert!(!hedging.lost(NODE) && !hedging.lost(NODE));
        hedging.answered(NODE, Duration::ZERO);
        assert!(!hedging.lost(NODE) && !hedging.lost(NODE) && hedging.lost(NODE));
    }
}
