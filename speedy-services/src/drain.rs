//! Ending a process in order: take nothing new, finish what is under way, within a deadline.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells every part of the process when to drain. Cheap to clone; clones start together.
///
/// It may be announced some time before it starts: then the process says that it is not ready and goes on serving, until
/// load balancers have noticed.
#[derive(Clone, Debug)]
pub struct Drain {
    announced: CancellationToken,
    token: CancellationToken,
    patience: Duration,
}

impl Drain {
    /// A drain that has not started and, once it has, waits for requests for so long as `patience` says.
    pub fn new(patience: Duration) -> Self {
        Self { announced: CancellationToken::new(), token: CancellationToken::new(), patience }
    }

    /// Says that the drain will start soon.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Whether it has started, or will soon.
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }

    /// Starts the drain. Starting again does nothing.
    pub fn start(&self) {
        self.announced.cancel();
        self.token.cancel();
    }

    /// Whether it has started.
    pub fn has_started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once the drain has started.
    pub fn started(&self) -> impl Future<Output = ()> + Send + use<> {
        self.token.clone().cancelled_owned()
    }

    /// How long requests have once it has started.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Awaits work that ends by itself some time after the drain started; `None` where it did not end within the
    /// patience, and was dropped.
    pub async fn bounded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let out_of_patience = async {
            self.token.cancelled().await;
            tokio::time::sleep(self.patience).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = out_of_patience => None,
        }
    }

    /// Runs a task until the drain starts, when it is dropped where it stands.
    pub fn until<F>(&self, task: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let token = self.token.clone();
        tokio::spawn(async move { token.run_until_cancelled(task).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_announced_before_it_starts_or_with_it() {
        let drain = Drain::new(Duration::ZERO);
        drain.announce();
        assert!(drain.is_announced() && !drain.has_started());
        let drain = Drain::new(Duration::ZERO);
        drain.clone().start();
        assert!(drain.is_announced() && drain.has_started());
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_when_patience_ends_and_not_before() {
        let drain = Drain::new(Duration::from_secs(30));
        let slow = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert_eq!(drain.bounded(slow(1000)).await, Some(()), "no limit before the drain starts");
        drain.start();
        assert_eq!(drain.bounded(slow(29)).await, Some(()));
        assert_eq!(drain.bounded(slow(31)).await, None);
    }
}
