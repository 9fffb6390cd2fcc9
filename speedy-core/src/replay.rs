//! Runs what fuzzers attack over their seeds, and over what small changes make of these, in the ordinary tests.

use std::path::Path;

/// Calls `check` with every file of `fuzz/seeds/TARGET`, and with `changes` changed copies of each. The changes are the
/// same in every run.
///
/// # Panics
/// Where there are fewer than five seeds, and wherever `check` does. The file and the number of the change (0 for none) are printed then.
pub fn replay(target: &str, changes: u64, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&directory).expect("the seeds of a target are there");
    let mut seeds: Vec<_> = entries.map(|entry| entry.expect("they can be listed").path()).collect();
    seeds.sort_unstable();
    assert!(seeds.len() >= 5, "{} seeds of {target}", seeds.len());
    let contents: Vec<_> =
        seeds.iter().map(|path| std::fs::read(path).expect("a seed can be read")).collect();
    for (index, path) in seeds.iter().enumerate() {
        let _told = Told { path, change: 0 };
        check(&contents[index]);
        for change in 1..=changes {
            let _told = Told { path, change };
            let other = &contents[(index + change as usize) % contents.len()];
            check(&changed(&contents[index], other, (index as u64) << 32 | change));
        }
    }
}

/// Says what was checked where that fails.
struct Told<'a> {
    path: &'a Path,
    change: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}, change {}", self.path.display(), self.change);
        }
    }
}

/// A copy with up to four changes.
fn changed(seed: &[u8], other: &[u8], mut random: u64) -> Vec<u8> {
    // SplitMix64: a few lines, and the same numbers for ever.
    let mut below = |limit: usize| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit.max(1) as u64) as usize
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len() + 1);
        let to = (at + below(16)).min(bytes.len());
        match below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            1 if at < bytes.len() => bytes[at] = [0, 0xff, b'/', b'"', b':', b'-', 0x7f, b'9'][below(8)],
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => bytes.truncate(at),
            5 => {
                let from = below(other.len() + 1);
                let until = (from + below(32)).min(other.len());
                bytes.splice(at..to, other[from..until].iter().copied());
            }
            _ => bytes.insert(at, below(256) as u8),
        }
    }
    bytes
}
