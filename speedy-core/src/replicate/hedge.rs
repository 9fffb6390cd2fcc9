//! When a second replica is asked for what a first one is slow to give.
//!
//! After Dean and Barroso, "The Tail at Scale" (2013): a read that has waited longer than 95 of 100 did is sent to another
//! replica too, and whichever answers first counts. What counts is the wait for a read's first block: one that
//! has begun is slow where the link is full, and another replica's blocks would come over the same link.
//!
//! Each second question moves bytes that nobody needs. So they are a share of all reads, and become rarer the
//! more often the first replica answers before the second: then everybody is slow, and asking more makes it worse.

use std::collections::HashMap;
use std::ops::RangeInclusive;
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

/// How much longer than a first block one in the middle of a read may take, and at least how long.
const STALL_FACTOR: u32 = 4;
const LEAST_STALL: Duration = Duration::from_millis(500);

/// Second questions for each hundred reads, and how many may come at once.
const PERCENT: u32 = 5;
const BURST: u32 = 20;

/// What a second question costs, in hundredths: twice as much after each that was for nothing, half as much after each that
/// was answered first.
const COST: RangeInclusive<u32> = 100..=1600;

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
    /// Hundredths that the next one takes of it.
    cost: u32,
    losses: HashMap<NodeId, u32>,
}

impl Hedging {
    pub(super) fn new() -> Self {
        let state = State {
            samples: Vec::new(),
            next: 0,
            delay: FIRST_DELAY,
            budget: BURST * 100,
            cost: *COST.start(),
            losses: HashMap::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// How long to wait for a first block before another replica is asked.
    pub(super) fn delay(&self) -> Duration {
        self.state.lock().delay
    }

    /// How long to wait in the middle of a read.
    pub(super) fn stall(&self) -> Duration {
        (self.delay() * STALL_FACTOR).max(LEAST_STALL)
    }

    /// Notes a first block, and how long it took.
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
        let rest = state.budget.checked_sub(state.cost);
        state.budget = rest.unwrap_or(state.budget);
        rest.is_some()
    }

    /// Notes that the second question was for nothing: the replica that was asked first was the first to answer.
    pub(super) fn was_in_vain(&self) {
        let mut state = self.state.lock();
        state.cost = (state.cost * 2).min(*COST.end());
    }

    /// Notes that another replica was faster. Answers whether that happens to this node all the time.
    pub(super) fn lost(&self, node: NodeId) -> bool {
        let mut state = self.state.lock();
        state.cost = (state.cost / 2).max(*COST.start());
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
    fn what_was_for_nothing_becomes_rare_and_what_helped_does_not() {
        let hedging = Hedging::new();
        let earned = |reads: u32| {
            (0..reads).for_each(|_| hedging.answered(NODE, Duration::ZERO));
            (0..reads).filter(|_| hedging.may_ask()).count() as u32
        };
        while hedging.may_ask() {}
        assert_eq!(earned(320), 320 * PERCENT / 100);
        (0..10).for_each(|_| hedging.was_in_vain());
        assert_eq!(earned(320), 1);
        (0..4).for_each(|_| _ = hedging.lost(NODE));
        assert_eq!(earned(320), 320 * PERCENT / 100);
    }

    #[test]
    fn a_read_under_way_is_given_more_time() {
        let hedging = Hedging::new();
        assert_eq!(hedging.stall(), FIRST_DELAY * STALL_FACTOR);
        (0..1000).for_each(|_| hedging.answered(NODE, Duration::ZERO));
        assert_eq!(hedging.stall(), LEAST_STALL);
    }

    #[test]
    fn only_who_loses_again_and_again_is_told_of() {
        let hedging = Hedging::new();
        assert!(!hedging.lost(NODE) && !hedging.lost(NODE));
        hedging.answered(NODE, Duration::ZERO);
        assert!(!hedging.lost(NODE) && !hedging.lost(NODE) && hedging.lost(NODE));
    }
}
