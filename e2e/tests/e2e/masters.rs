//! Masters of which there are two, over one meta node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use speedy_e2e::{Fleet, Lab, Node, Registry, groups_of, noise, sha256, wait_until, with_retries};

/// Bytes of a blob: two fragments.
const BLOB: usize = 5_000_000;
/// How long the loss of the master that everyone asks may hold up a push. Before a member counts as lost 5 s go by; a
/// group that loses none takes every push at once.
const HELD_UP: Duration = Duration::from_secs(8);
/// How long a chunk node's restart may hold up pushes when one of two masters is gone. Whoever goes on asking a master
/// that stands still takes 20 s to find out.
const BACK: Duration = Duration::from_secs(15);
/// How long a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Blobs that were pushed, and how long each took with its retries.
#[derive(Default)]
struct Pushed(Mutex<Vec<(String, Instant, Duration)>>);

impl Pushed {
    fn all(&self) -> Vec<(String, Instant, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for so long and two pushes more, and gives the longest that one took which ended meanwhile.
    fn during(&self, pause: Duration) -> Result<Duration> {
        let begun = Instant::now();
        thread::sleep(pause);
        let before = self.all().len();
        wait_until("two pushes more", LIMIT, || Ok(self.all().len() >= before + 2))?;
        let took = self.all().into_iter().filter(|(_, ended, _)| *ended >= begun).map(|(_, _, took)| took);
        Ok(took.max().unwrap_or_default())
    }
}

/// While blobs are pushed, one master is killed and later the other stands still; each time a chunk node restarts and
/// comes back through the master that is left.
pub(crate) fn one_killed_one_paused(_: &Lab, fleet: &mut Fleet) -> Result<()> {
    let front = fleet.fronts().remove(0);
    let (pushed, over) = (Pushed::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let pusher = scope.spawn(|| push(&front, &pushed, &over));
        let disturbed = disturb(fleet, &pushed);
        over.store(true, Ordering::Relaxed);
        pusher.join().unwrap_or_else(|_| Err(anyhow!("the pusher panicked"))).and(disturbed)
    })?;
    for (digest, _, _) in pushed.all() {
        front.verify_blob("masters", &digest, BLOB as u64)?;
    }
    Ok(())
}

fn push(front: &Registry, pushed: &Pushed, over: &AtomicBool) -> Result<()> {
    for seed in 0.. {
        let blob = noise(seed, BLOB);
        let begun = Instant::now();
        with_retries(std::slice::from_ref(front), |front| front.push_blob("masters", &blob))?;
        let row = (sha256(&blob), Instant::now(), begun.elapsed());
        pushed.0.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

fn disturb(fleet: &mut Fleet, pushed: &Pushed) -> Result<()> {
    pushed.during(Duration::from_secs(1))?;
    fleet.masters[0].kill()?;
    let longest = pushed.during(Duration::from_secs(8))?;
    ensure!(longest < HELD_UP, "a push took {longest:?} after the first master was killed");
    restart(&mut fleet.chunks[1], &fleet.masters[1], pushed)?;

    fleet.masters[0].start()?;
    fleet.masters[0].wait_readyz(200, &[])?;
    fleet.masters[1].pause()?;
    let longest = pushed.during(Duration::from_secs(8))?;
    ensure!(longest < HELD_UP, "a push took {longest:?} while the second master stood still");
    restart(&mut fleet.chunks[2], &fleet.masters[0], pushed)?;

    fleet.masters[1].resume()?;
    fleet.masters[1].wait_readyz(200, &[])?;
    pushed.during(Duration::from_secs(2))?;
    let complete = || -> Result<bool> {
        let [first, second] =
            [groups_of(fleet.masters[0].address())?, groups_of(fleet.masters[1].address())?];
        Ok(first == second && first.iter().all(|group| group.complete))
    };
    wait_until("both masters to tell of the same complete group", LIMIT, complete)
}

/// Restarts a chunk node, which one master must take back, and waits for pushes after that.
fn restart(chunk: &mut Node, master: &Node, pushed: &Pushed) -> Result<()> {
    let begun = Instant::now();
    chunk.kill()?;
    chunk.start()?;
    let back = || Ok(groups_of(master.address())?.iter().all(|group| group.complete));
    wait_until("the chunk node to come back", LIMIT, back)?;
    pushed.during(Duration::ZERO)?;
    let took = begun.elapsed();
    ensure!(took < BACK, "{took:?} went by until pushes went on after a chunk node had restarted");
    Ok(())
}
