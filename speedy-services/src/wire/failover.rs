use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Peer, WireError};
use crate::address::AddressList;

/// Which of several peers that will all do is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// The one that answered last.
    Sticky,
    /// Each in turn, so that they share the load.
    Spread,
}

/// Peers any of which will do. A call goes to another one when the first can't be reached.
#[derive(Debug)]
pub(crate) struct Peers {
    list: AddressList,
    peers: Vec<Arc<Peer>>,
    choice: Choice,
    first: AtomicUsize,
}

impl Peers {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(list: &AddressList, choice: Choice) -> Self {
        let peers = list.addresses().iter().cloned().map(Peer::new).collect();
        Self { list: list.clone(), peers, choice, first: AtomicUsize::new(0) }
    }

    pub(crate) fn list(&self) -> &AddressList {
        &self.list
    }

    /// Makes a call to one peer after the other until one answers, which includes refusing. Every call of the core's
    /// traits can be made again, so a call whose answer was lost may go to the next.
    ///
    /// # Errors
    /// The answer's error, or the last one met where no peer answered.
    pub(crate) async fn call<T, E, F>(&self, call: impl Fn(Arc<Peer>) -> F) -> Result<T, E>
    where
        E: WireError,
        F: Future<Output = Result<T, E>>,
    {
        let mut last = None;
        for index in self.order() {
            let peer = &self.peers[index];
            let result = call(Arc::clone(peer)).await;
            let answered = !result.as_ref().is_err_and(WireError::is_unavailable);
            peer.note(answered);
            if answered {
                if self.choice == Choice::Sticky {
                    self.first.store(index, Ordering::Relaxed);
                }
                return result;
            }
            last = Some(result);
        }
        last.expect("a list of addresses is never empty")
    }

    /// All peers: the chosen one first, those that failed lately last.
    fn order(&self) -> Vec<usize> {
        let first = match self.choice {
            Choice::Sticky => self.first.load(Ordering::Relaxed),
            Choice::Spread => self.first.fetch_add(1, Ordering::Relaxed),
        };
        let count = self.peers.len();
        let mut order: Vec<usize> = (0..count).map(|step| (first % count + step) % count).collect();
        order.sort_by_key(|&index| self.peers[index].is_shunned());
        order
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use speedy_core::placement::MasterError;

    use super::*;

    fn peers(choice: Choice) -> Peers {
        Peers::new(&"a:1,b:2,c:3".parse().unwrap(), choice)
    }

    /// Calls while the peers in `down` can't be reached; returns who was asked.
    async fn asked(peers: &Peers, down: &[&str]) -> String {
        let asked = Mutex::new(Vec::new());
        let _ = peers
            .call(|peer| {
                let host = peer.address().host().to_owned();
                let result = match down.contains(&host.as_str()) {
                    true => Err(MasterError::Unavailable(host.clone())),
                    false => Ok(()),
                };
                asked.lock().push(host);
                async { result }
            })
            .await;
        asked.into_inner().concat()
    }

    #[tokio::test]
    async fn sticky_stays_with_the_one_that_answered() {
        let peers = peers(Choice::Sticky);
        assert_eq!(asked(&peers, &[]).await, "a");
        assert_eq!(asked(&peers, &["a"]).await, "ab");
        assert_eq!(asked(&peers, &["a"]).await, "b");
        assert_eq!(asked(&peers, &["b", "c"]).await, "bca");
    }

    #[tokio::test]
    async fn spread_goes_round_and_asks_the_failed_last() {
        let peers = peers(Choice::Spread);
        assert_eq!(asked(&peers, &[]).await, "a");
        assert_eq!(asked(&peers, &["b"]).await, "bc");
        assert_eq!(asked(&peers, &["b"]).await, "c");
        assert_eq!(asked(&peers, &["b"]).await, "a");
        assert_eq!(asked(&peers, &["b"]).await, "c");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let peers = peers(Choice::Sticky);
        let refuse = || async { Err::<(), _>(MasterError::Refused("no".into())) };
        assert_eq!(peers.call(|_| refuse()).await, Err(MasterError::Refused("no".into())));
    }

    #[tokio::test]
    async fn the_last_error_tells_who_could_not_be_reached() {
        let peers = peers(Choice::Sticky);
        let fail = |peer: Arc<Peer>| async move {
            Err::<(), _>(MasterError::Unavailable(peer.address().to_string()))
        };
        assert_eq!(peers.call(fail).await, Err(MasterError::Unavailable("c:3".into())));
    }
}
