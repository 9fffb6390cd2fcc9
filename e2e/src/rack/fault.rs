//! What can go wrong, and how it is mended.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::{ASK, Place, Rack, empty};
use crate::network::Link;
use crate::process::wait_until;

/// How long a fault lasts: longer than a master waits for a silent node, and than anybody should for a silent peer.
const LONG: Duration = Duration::from_secs(7);

/// Clients retry for 13 s: what has no second of its kind must be back before, with time to find it.
const SHORT: Duration = Duration::from_secs(2);

/// How long a fault goes on that the masters know of.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Until when they must.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// What a chunk node says that reads a damaged chunk.
const DAMAGED: &str = "a chunk is damaged";

/// Until when what bits flipped must be whole again.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

/// Bits that are flipped.
const FLIPS: usize = 200;

/// Of a volume, which identifies it and is repeated nowhere: the disk under a whole volume is not what flips test.
const HEAD: u64 = 4096;

/// Something that goes wrong with a [`Rack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The link of a host is cut, wholly or one way, and comes back.
    Cut(Place, Link),
    /// A process dies as by kill -9, and is started again.
    Kill(Place),
    /// A process is stopped (SIGSTOP) and goes on.
    Pause(Place),
    /// The disk of the first chunk node is full, and gets room again.
    Fill,
    /// Bits flip in the volumes of a chunk node while it runs.
    Flip(usize),
    /// Bits flip in the volumes of a chunk node that was killed, before it is started again.
    FlipStopped(usize),
    /// A chunk node dies with its disk: it is started again on an empty directory.
    Replace(usize),
    /// Chunks are moved from the first group to the second, and a process is killed on the way; so is the move, which is
    /// then begun again.
    Move(Place),
    /// Every process dies at once, and all are started again.
    RestartAll,
    /// Every process is ended and started again, one after the other, as an upgrade does.
    RollAll,
}

impl Fault {
    /// A fault that a rack of so many groups gets over.
    pub fn random(random: &mut Xoshiro256PlusPlus, groups: usize) -> Self {
        let chunk = random.random_range(1..=groups * super::REPLICAS);
        let twin = random.random_range(1..=2);
        let any = [Place::Chunk(chunk), Place::Image(twin), Place::Registry(twin), Place::Master(twin)];
        let place = any[random.random_range(0..any.len())];
        match random.random_range(0..15) {
            0 => Self::Cut(place, Link::Down),
            1 => Self::Cut(place, Link::Mute),
            2 => Self::Cut(place, Link::Deaf),
            3..=5 => Self::Kill(place),
            6 => Self::Kill(Place::Meta),
            7 | 8 => Self::Pause(place),
            // Another group must have room.
            9 if groups > 1 => Self::Fill,
            10 => Self::Flip(chunk),
            11 => Self::FlipStopped(chunk),
            12 => Self::Replace(chunk),
            13 if groups > 1 => Self::Move(place),
            _ => [Self::RestartAll, Self::RollAll][random.random_range(0..2)],
        }
    }

    /// Waits for as long as it should last before [`Fault::mend`]: on the masters, if it takes a chunk node from its
    /// group, so that the group goes on without it.
    ///
    /// # Errors
    /// When the masters do not notice.
    pub fn last(self, rack: &Rack) -> Result<()> {
        let chunk = match self {
            Self::Cut(place, _) | Self::Kill(place) | Self::Pause(place) | Self::Move(place) => place,
            Self::FlipStopped(number) | Self::Replace(number) => Place::Chunk(number),
            Self::Fill => Place::Chunk(1),
            Self::Flip(_) | Self::RestartAll | Self::RollAll => return Ok(()),
        };
        match chunk {
            Place::Chunk(_) => {
                wait_until("the masters to notice", NOTICE_LIMIT, || {
                    sleep(ASK);
                    // With one of the masters gone, an answer may take its time.
                    Ok(rack.status().is_ok_and(|status| !status.is_in_sync(&rack.address(chunk).to_string())))
                })?;
                sleep(AFTERWARDS);
            }
            Place::Meta => sleep(SHORT),
            Place::Master(_) | Place::Image(_) | Place::Registry(_) => sleep(LONG),
        }
        Ok(())
    }

    /// Lets it happen. `seed` chooses the bits that flip.
    ///
    /// # Errors
    /// When the system refuses, or a process does not start again.
    pub fn happen(self, rack: &mut Rack, seed: u64) -> Result<()> {
        match self {
            Self::Cut(place, link) => rack.set_link(place, link),
            Self::Kill(place) => rack.node(place).kill(),
            Self::Pause(place) => rack.node(place).pause(),
            Self::Fill => rack.disk.fill(0),
            Self::Flip(number) => flip(&rack.data(Place::Chunk(number)), seed),
            Self::FlipStopped(number) => {
                let place = Place::Chunk(number);
                rack.node(place).kill()?;
                let before = rack.readable_chunks(place)?;
                flip(&rack.data(place), seed)?;
                // What was written since the last checkpoint might have been torn by the kill: recovery leaves it out.
                // The rest is known to have been whole.
                let is_harmless = rack.readable_chunks(place)? == before && rack.is_sound(place, false)?;
                ensure!(
                    !is_harmless,
                    "bits flipped under {place}, and none of its {before} chunks is worse for it"
                );
                Ok(())
            }
            Self::Replace(number) => {
                rack.node(Place::Chunk(number)).kill()?;
                empty(&rack.data(Place::Chunk(number)))
            }
            Self::Move(place) => {
                rack.begin_move()?;
                sleep(SHORT);
                rack.node(place).kill()
            }
            Self::RestartAll => restart_all(rack),
            Self::RollAll => roll_all(rack),
        }
    }

    /// Ends it. What Speedy does about it then is up to Speedy.
    ///
    /// # Errors
    /// When the system refuses, or a process does not start again.
    pub fn mend(self, rack: &mut Rack) -> Result<()> {
        match self {
            Self::Cut(place, _) => rack.set_link(place, Link::Up),
            Self::Kill(place) => rack.node(place).start(),
            Self::Pause(place) => rack.node(place).resume(),
            Self::Fill => rack.disk.relieve(),
            Self::FlipStopped(number) => rack.node(Place::Chunk(number)).start(),
            Self::Replace(number) => {
                // Or an operator waits for a minute.
                rack.give_up_node(Place::Chunk(number))?;
                rack.node(Place::Chunk(number)).start()
            }
            Self::Move(place) => {
                rack.node(place).start()?;
                rack.finish_move()
            }
            Self::Flip(_) | Self::RestartAll | Self::RollAll => Ok(()),
        }
    }

    /// Waits until nothing is left of it: all groups are complete, and what bits flipped is whole. Answers how long that
    /// took.
    ///
    /// # Errors
    /// When that never comes.
    pub fn wait_over(self, rack: &Rack) -> Result<Duration> {
        let mut took = rack.wait_complete()?;
        if let Self::Flip(number) | Self::FlipStopped(number) = self {
            let (place, began) = (Place::Chunk(number), Instant::now());
            wait_until("damaged chunks to be replaced", HEAL_LIMIT, || rack.is_sound(place, true))?;
            took += began.elapsed();
        }
        if let Self::Flip(number) = self {
            let place = Place::Chunk(number);
            // Where no bit hit a chunk, nothing was shown.
            ensure!(rack.log(place).contains(DAMAGED), "the bits that flipped damaged no chunk of {place}");
        }
        Ok(took)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(place, Link::Up) => write!(f, "the link of {place} is whole"),
            Self::Cut(place, Link::Down) => write!(f, "the link of {place} is cut"),
            Self::Cut(place, Link::Mute) => write!(f, "nothing arrives that {place} sends"),
            Self::Cut(place, Link::Deaf) => write!(f, "nothing arrives that is sent to {place}"),
            Self::Kill(place) => write!(f, "{place} is killed"),
            Self::Pause(place) => write!(f, "{place} is stopped, and goes on"),
            Self::Fill => f.write_str("the disk of chunk-1 is full"),
            Self::Flip(number) => write!(f, "bits flip under chunk-{number}"),
            Self::FlipStopped(number) => write!(f, "chunk-{number} is killed, and bits flip in its volumes"),
            Self::Replace(number) => write!(f, "chunk-{number} is killed, and loses its disk"),
            Self::Move(place) => {
                write!(f, "chunks move to another group, and {place} is killed; so is the move")
            }
            Self::RestartAll => f.write_str("everything is killed at once, and started again"),
            Self::RollAll => f.write_str("everything is restarted, one after the other"),
        }
    }
}

fn restart_all(rack: &mut Rack) -> Result<()> {
    for place in rack.places() {
        rack.node(place).kill()?;
    }
    for place in rack.places() {
        rack.node(place).launch()?;
    }
    rack.places().into_iter().try_for_each(|place| rack.node(place).wait_ready())
}

fn roll_all(rack: &mut Rack) -> Result<()> {
    for place in rack.places() {
        let status = rack.node(place).terminate()?;
        ensure!(status.success(), "{place} was told to end, and ended with {status}");
        rack.node(place).start()?;
        // What an operator is told to wait for.
        if let Place::Chunk(_) = place {
            rack.wait_complete()?;
        }
    }
    Ok(())
}

/// Flips bits in the volumes of a store, anywhere but in their heads.
fn flip(directory: &Path, seed: u64) -> Result<()> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let volumes = volumes(directory)?;
    let total: u64 = volumes.iter().map(|(_, written)| written).sum();
    ensure!(total > 0, "no volume in {} has anything in it yet", directory.display());
    for _ in 0..FLIPS {
        let mut at = random.random_range(0..total);
        for (path, written) in &volumes {
            if at >= *written {
                at -= written;
                continue;
            }
            let file = File::options().read(true).write(true).open(path)?;
            let (mut byte, offset) = ([0], HEAD + at);
            file.read_exact_at(&mut byte, offset)?;
            byte[0] ^= 1 << random.random_range(0..8);
            file.write_all_at(&byte, offset)?;
            break;
        }
    }
    Ok(())
}

/// Volumes, with how many bytes after the head have been written.
fn volumes(directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut volumes = Vec::new();
    let entries = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "volume") {
            let written = written(&File::open(&path)?)?.saturating_sub(HEAD);
            volumes.push((path, written));
        }
    }
    // Directories list in no order; the seed should choose the same.
    volumes.sort();
    Ok(volumes)
}

/// Where the last byte that is not zero is: what is behind is room taken ahead.
fn written(file: &File) -> Result<u64> {
    const STEP: u64 = 1 << 20;
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; STEP as usize];
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let part = &mut buffer[..usize::try_from(end - start)?];
        file.read_exact_at(part, start)?;
        if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
