use std::time::Duration;

use tokio::time::Instant;

/// How long before a fragment is needed it is opened: more than a lookup and a disk take.
const LEAD: Duration = Duration::from_millis(100);

/// A fragment that is this near is opened, however slow the reader is.
const LEAST: u64 = 256 << 10;

/// The rate is that of the last one to two such spans.
const SPAN: Duration = Duration::from_millis(250);

/// How fast a reader takes bytes, and so how far ahead of it fragments should be open.
///
/// Opening ahead hides how long it takes until a fragment's first bytes are there. It does not make a full link any
/// faster: there the bytes of a fragment that is needed later delay those of one that is needed now.
#[derive(Debug)]
pub(super) struct Ahead {
    /// When the span before the current one began, and at which position.
    before: (Instant, u64),
    /// When the current one began, and where.
    current: (Instant, u64),
}

impl Ahead {
    /// A reader that begins now, at this position.
    pub(super) fn new(position: u64) -> Self {
        let now = Instant::now();
        Self { before: (now, position), current: (now, position) }
    }

    /// How many bytes ahead of this position, which it has reached now, fragments should be open.
    pub(super) fn lead(&mut self, position: u64) -> u64 {
        let now = Instant::now();
        if now - self.current.0 >= SPAN {
            self.before = self.current;
            self.current = (now, position);
        }
        let (since, from) = self.before;
        let (taken, seconds) = ((position - from) as f64, (now - since).as_secs_f64());
        if seconds == 0.0 {
            // Nothing was taken yet, or faster than the clock ticks.
            return if taken > 0.0 { u64::MAX } else { LEAST };
        }
        ((taken / seconds * LEAD.as_secs_f64()) as u64).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// The lead of a reader at `position` that takes so many bytes each 10 ms, after so many of these.
    async fn after(ahead: &mut Ahead, position: &mut u64, bytes: u64, times: usize) -> u64 {
        let mut lead = 0;
        for _ in 0..times {
            advance(Duration::from_millis(10)).await;
            *position += bytes;
            lead = ahead.lead(*position);
        }
        lead
    }

    #[tokio::test(start_paused = true)]
    async fn the_lead_is_what_the_reader_takes_in_a_tenth_of_a_second() {
        let (mut ahead, mut position) = (Ahead::new(0), 0);
        assert_eq!(ahead.lead(0), LEAST);
        assert_eq!(after(&mut ahead, &mut position, 1 << 20, 1).await, 10 << 20);
        assert_eq!(after(&mut ahead, &mut position, 1 << 20, 100).await, 10 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_reader_that_changes_its_pace() {
        let (mut ahead, mut position) = (Ahead::new(7 << 30), 7 << 30);
        after(&mut ahead, &mut position, 1 << 20, 100).await;
        assert_eq!(after(&mut ahead, &mut position, 1 << 10, 60).await, LEAST);
        assert_eq!(after(&mut ahead, &mut position, 1 << 20, 60).await, 10 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_rests_keeps_little_open() {
        let (mut ahead, mut position) = (Ahead::new(0), 0);
        after(&mut ahead, &mut position, 1 << 20, 100).await;
        advance(Duration::from_secs(60)).await;
        after(&mut ahead, &mut position, 0, 1).await;
        assert_eq!(after(&mut ahead, &mut position, 1 << 10, 30).await, LEAST);
    }
}
