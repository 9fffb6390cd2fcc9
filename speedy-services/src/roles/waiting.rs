use std::time::Duration;

use tokio::time::Instant;

/// How often a wait is spoken of after the first time.
const REPEAT: Duration = Duration::from_secs(10);

/// Says when a wait for a peer is worth a line in the log: when it begins, and every 10 s.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    said: Option<Instant>,
}

impl Waiting {
    /// Whether to say now that the wait goes on.
    pub(crate) fn should_say(&mut self) -> bool {
        let due = self.said.is_none_or(|said| said.elapsed() >= REPEAT);
        if due {
            self.said = Some(Instant::now());
        }
        due
    }

    /// Ends the wait; whether it had been spoken of.
    pub(crate) fn over(&mut self) -> bool {
        self.said.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_spoken_of_first_and_every_ten_seconds() {
        let mut waiting = Waiting::default();
        let mut said = Vec::new();
        for second in 0..25 {
            if waiting.should_say() {
                said.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said, [0, 10, 20]);
        assert!(waiting.over());
        assert!(!waiting.over());
        assert!(waiting.should_say(), "a new wait is spoken of at once");
    }
}
