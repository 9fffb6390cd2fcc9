//! Clients and two collectors at once, interleaved at every operation of the metadata store in random order, in virtual time
//! that jumps by hours, with crashes that end every process wherever it stands.

use std::ops::Range;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::*;

/// How far time jumps at most.
const JUMP: Duration = Duration::from_secs(6 * 3600);

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// The seeds that the environment names, or so many.
pub(super) fn seeds(usual: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Range<u64> = match number("SPEEDY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SPEEDY_SEEDS").unwrap_or(usual),
    };
    // Shown where it fails.
    seeds.inspect(|seed| println!("SPEEDY_SEED={seed}"))
}

/// A runtime that ends like a process: with it goes everything that it does.
pub(super) fn process() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Starts so many clients, which are given a node, a number and randomness of their own, and lets them and the collectors
/// go on one operation at a time, until the clients are done or all of them crash.
pub(super) async fn storm(
    world: &World,
    clients: u64,
    random: &mut Random,
    client: impl Fn(&Node, u64, Random) -> JoinHandle<()>,
) {
    let meta = &world.meta;
    meta.is_closed.store(true, Ordering::Relaxed);
    let nodes = [world.node(), world.node()];
    let start = |number: u64| client(&nodes[number as usize % 2], number, Random(random.next()));
    let tasks: Vec<JoinHandle<()>> = (0..clients).map(start).collect();
    let collectors: Vec<JoinHandle<()>> = nodes
        .iter()
        .map(|node| {
            let node = node.clone();
            tokio::spawn(async move {
                loop {
                    // One that lost its lease goes on later.
                    let _ = node.gc.walk().await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let crash = random.one_in(2).then(|| 200 + random.below(4000));
    // Those that waited when time jumped go first: no operation takes longer than one jump.
    let mut overdue = 0;
    for step in 0.. {
        if crash.is_some_and(|crash| step >= crash) || tasks.iter().all(JoinHandle::is_finished) {
            break;
        }
        for _ in 0..40 {
            tokio::task::yield_now().await;
        }
        let go = {
            let mut waiting = meta.waiting.lock();
            let count = waiting.len();
            (count > 0)
                .then(|| waiting.remove(random.below(if overdue > 0 { overdue.min(count) } else { count })))
        };
        match go {
            // It may be of a task that has given up.
            Some(go) => drop(go.send(())),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        overdue = usize::saturating_sub(overdue, 1);
        if overdue == 0 && random.one_in(60) {
            let most = random.pick(&[10, 3600, JUMP.as_secs() as usize]);
            meta.advance(Duration::from_secs(random.below(most) as u64));
            overdue = meta.waiting.lock().len();
        }
    }
    for collector in &collectors {
        assert!(!collector.is_finished(), "a collector ended");
        collector.abort();
    }
    for task in tasks {
        if task.is_finished() {
            task.await.unwrap();
        } else {
            task.abort();
        }
    }
    meta.is_closed.store(false, Ordering::Relaxed);
    meta.waiting.lock().clear();
}
