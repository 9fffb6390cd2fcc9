use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::errors::unavailable_at;
use super::{Health, Peer, WireError};
use crate::address::AddressList;

/// A peer that has said nothing for so long while others could be asked is doubted.
const QUIET: Duration = Duration::from_millis(500);

/// Which of several peers that will all do is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// The one that answered last.
    Sticky,
    /// Each in turn, so that they share the load.
    Spread,
}

/// When another peer is asked beside one that has not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// After half a second. For calls that are answered at once and cost little when two answer.
    Short,
    /// When it does not say either how it is: its process stands still, or the network is down. A peer that runs may
    /// take as long as the call may.
    WhileAlive,
}

/// Peers any of which will do.
///
/// A call goes to another peer when one can't be reached, answers that it can't serve now, or stands still. Whichever
/// answers first counts: every call of the core's traits can be made again, also while the first is under way. A peer
/// that failed is passed over until it says, asked in the background, that it is ready; so it costs those who were
/// waiting for it a second or two, and nobody else anything. When all the others fail it is asked all the same, if it
/// says anything at all.
#[derive(Debug)]
pub(crate) struct Peers {
    list: AddressList,
    peers: Vec<Arc<Peer>>,
    choice: Choice,
    patience: Patience,
    first: AtomicUsize,
}

impl Peers {
    /// Peers that offer this service.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(list: &AddressList, service: &'static str, choice: Choice, patience: Patience) -> Self {
        let peers = list.addresses().iter().map(|address| Peer::new(address.clone(), service)).collect();
        Self { list: list.clone(), peers, choice, patience, first: AtomicUsize::new(0) }
    }

    /// Each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.iter()
    }

    pub(crate) fn list(&self) -> &AddressList {
        &self.list
    }

    /// Makes a call to one peer after the other until one answers, which includes refusing.
    ///
    /// # Errors
    /// The answer's error, or where no peer answered the last one met.
    pub(crate) async fn call<T, E, F>(&self, call: impl Fn(Arc<Peer>) -> F) -> Result<T, E>
    where
        E: WireError,
        F: Future<Output = Result<T, E>>,
    {
        let call = &call;
        let attempt = |index: usize| {
            let peer = &self.peers[index];
            async move {
                // It failed lately and may stand still: what it says of itself comes sooner than an answer would.
                if peer.is_passed_over()
                    && let Health::Away(why) = peer.health().await
                {
                    return (index, Err(unavailable_at(peer.address(), &why)), false);
                }
                (index, call(Arc::clone(peer)).await, true)
            }
        };
        let mut untried = self.order().into_iter();
        let mut latest = untried.next().expect("a list of addresses is never empty");
        let mut running = FuturesUnordered::from_iter([attempt(latest)]);
        let mut doubted = Vec::new();
        let mut failure = None;
        loop {
            tokio::select! {
                biased;
                Some((index, result, asked)) = running.next() => {
                    let answered = !result.as_ref().is_err_and(WireError::is_unavailable);
                    doubted.retain(|&other| other != index);
                    if answered {
                        self.peers[index].answered();
                        doubted.into_iter().for_each(|other: usize| self.pass_over(other));
                        if self.choice == Choice::Sticky {
                            self.first.store(index, Ordering::Relaxed);
                        }
                        return result;
                    }
                    if asked {
                        self.pass_over(index);
                    }
                    if asked || failure.is_none() {
                        failure = Some(result);
                    }
                    if let Some(next) = untried.next() {
                        latest = next;
                        running.push(attempt(next));
                    }
                }
                () = self.doubt(&self.peers[latest]), if untried.len() > 0 => {
                    doubted.push(latest);
                    if let Some(next) = untried.next() {
                        latest = next;
                        running.push(attempt(next));
                    }
                }
                else => return failure.expect("all attempts have ended, and there was at least one"),
            }
        }
    }

    /// Awaits the next part of an answer from a peer.
    ///
    /// # Errors
    /// The part's own, or that the peer stands still while there are others to ask.
    pub(crate) async fn part<T, E: WireError>(
        &self,
        peer: &Arc<Peer>,
        part: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let result = tokio::select! {
            biased;
            result = part => result,
            () = self.doubt(peer), if self.peers.len() > 1 => {
                Err(unavailable_at(peer.address(), "it stopped in the middle of an answer"))
            }
        };
        if self.peers.len() > 1 && result.as_ref().is_err_and(WireError::is_unavailable) {
            peer.pass_over();
        }
        result
    }

    /// Whether at least one of them says that it is ready.
    ///
    /// # Errors
    /// What each of them lacks.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let ask = async |peer: &Arc<Peer>| (peer.address().clone(), peer.health().await);
        let mut asked: FuturesUnordered<_> = self.peers.iter().map(ask).collect();
        let mut lacks = Vec::new();
        while let Some((address, health)) = asked.next().await {
            match health {
                Health::Ready => return Ok(()),
                Health::NotReady(why) => lacks.push(format!("{address} is not ready ({why})")),
                Health::Away(why) => lacks.push(format!("{address} does not answer ({why})")),
            }
        }
        lacks.sort_unstable();
        Err(lacks.join(", "))
    }

    /// Returns when it is time to ask another peer beside this one.
    async fn doubt(&self, peer: &Arc<Peer>) {
        loop {
            tokio::time::sleep(QUIET).await;
            if self.patience == Patience::Short || peer.stands_still(QUIET).await {
                return;
            }
        }
    }

    /// With nobody to ask instead there is no use in passing over.
    fn pass_over(&self, index: usize) {
        if self.peers.len() > 1 {
            self.peers[index].pass_over();
        }
    }

    /// All peers: those that are passed over last, and of the others the chosen one first.
    fn order(&self) -> Vec<usize> {
        let first = match self.choice {
            Choice::Sticky => self.first.load(Ordering::Relaxed),
            Choice::Spread => self.first.fetch_add(1, Ordering::Relaxed),
        };
        let (shunned, mut order): (Vec<usize>, Vec<usize>) =
            (0..self.peers.len()).partition(|&index| self.peers[index].is_passed_over());
        match self.choice {
            Choice::Sticky => order.sort_by_key(|&index| index < first),
            // In turn among those that serve, so that these share evenly what the others leave.
            Choice::Spread if !order.is_empty() => {
                let turn = first % order.len();
                order.rotate_left(turn);
            }
            Choice::Spread => {}
        }
        order.extend(shunned);
        order
    }
}

#[cfg(test)]
mod tests;
