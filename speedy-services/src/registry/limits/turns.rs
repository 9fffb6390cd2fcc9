//! When it is each client's turn: how often it may ask, with a reservation for whoever waits.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Client, Exceeded, Rate};

/// Clients that are remembered before those that have been quiet are forgotten.
const CLIENTS: usize = 10_000;

/// The turns of all clients. One that is reserved is kept for whoever waits for it, so nobody is overtaken by those that
/// come later, and how long a wait is going to be is known at its beginning.
#[derive(Debug)]
pub(super) struct Turns {
    rate: Rate,
    clients: Mutex<Clients>,
}

#[derive(Debug)]
struct Clients {
    /// When all that a client has asked for would have been allowed without any burst.
    level: HashMap<Client, Instant>,
    /// As many clients as are remembered before the quiet ones are looked for.
    most: usize,
}

impl Turns {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, clients: Mutex::new(Clients { level: HashMap::new(), most: CLIENTS }) }
    }

    /// Reserves the next turn of a client and says how long it is until then. Where that is more than `most` none is
    /// reserved.
    pub(super) fn reserve(&self, client: Client, most: Duration) -> Result<Duration, Exceeded> {
        let now = Instant::now();
        let each = Duration::from_secs(1) / self.rate.per_second.get();
        let ahead = each * (self.rate.burst.get() - 1);
        let mut clients = self.clients.lock();
        let level = clients.level.get(&client).map_or(now, |level| (*level).max(now));
        let wait = level.duration_since(now).saturating_sub(ahead);
        if wait > most {
            return Err(Exceeded::Rate { rate: self.rate, wait });
        }
        clients.level.insert(client, level + each);
        if clients.level.len() > clients.most {
            // Those that could make a whole burst again: there is nothing to remember of them.
            clients.level.retain(|_, level| *level > now);
            clients.most = CLIENTS.max(2 * clients.level.len());
        }
        Ok(wait)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.clients.lock().level.len()
    }
}
