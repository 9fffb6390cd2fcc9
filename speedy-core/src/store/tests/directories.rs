//! One store over several disks: which belong to it, which are missing, and what a lost one costs.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::disk::Site;
use super::super::disk::simulated::Call;
use super::*;

const EIO: i32 = 5;

fn sites(disks: &[SimulatedDisk]) -> Vec<Box<dyn Site>> {
    disks.iter().map(|disk| Box::new(disk.clone()) as Box<dyn Site>).collect()
}

fn try_open(disks: &[SimulatedDisk], options: StoreOptions) -> Result<ChunkStore, OpenError> {
    opening::open(sites(disks), options)
}

pub(super) fn open_all(disks: &[SimulatedDisk]) -> ChunkStore {
    try_open(disks, small_volumes()).unwrap()
}

fn forgetting() -> StoreOptions {
    small_volumes().forget_missing(true)
}

/// Some small, some large.
fn length(number: u64) -> usize {
    if number.is_multiple_of(3) { 270_000 } else { 20_000 + number as usize }
}

fn put_one(store: &ChunkStore, number: u64) -> Result<ChunkInfo, WriteError> {
    put(store, number, &content(number, length(number)))
}

fn assert_there(store: &ChunkStore, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(get(store, number).unwrap(), content(number, length(number)), "chunk {number}");
    }
}

/// The directory that a chunk is in.
fn slot_of(store: &ChunkStore, number: u64) -> usize {
    let (_, volume) = store.shared.locate(id(number)).unwrap();
    volume.directory.slot
}

/// Makes the directories take turns, as they do when each has something to do.
fn put_in_turn(store: &ChunkStore, numbers: std::ops::Range<u64>) {
    let directories = &store.shared.volumes.directories;
    for number in numbers {
        let turn = number as usize % directories.len();
        for directory in directories {
            directory.in_flight.fetch_add(u32::from(directory.slot != turn) << 20, Ordering::Relaxed);
        }
        put_one(store, number).unwrap();
        for directory in directories {
            directory.in_flight.fetch_sub(u32::from(directory.slot != turn) << 20, Ordering::Relaxed);
        }
        assert_eq!(slot_of(store, number), turn);
    }
}

/// A store on so many disks, with chunk `n` on disk `n % disks`, closed.
fn filled(disks: usize, chunks: u64) -> Vec<SimulatedDisk> {
    let disks = SimulatedDisk::rack(disks);
    put_in_turn(&open_all(&disks), 0..chunks);
    disks
}

fn states(store: &ChunkStore) -> Vec<DirectoryState> {
    store.directories().into_iter().map(|info| info.state).collect()
}

fn after_power_cut(disks: &[SimulatedDisk], seed: u64) -> Vec<SimulatedDisk> {
    disks.iter().zip(0..).map(|(disk, index)| disk.after_power_cut(seed * 7 + index)).collect()
}

#[test]
fn the_order_of_the_directories_does_not_matter() {
    let mut disks = filled(3, 30);
    let identity = open_all(&disks).store_id();
    for _ in 0..3 {
        disks.rotate_left(1);
        let store = open_all(&disks);
        assert_eq!(store.store_id(), identity);
        assert_there(&store, 0..30);
        let directories = store.directories();
        assert!(directories.iter().all(|info| info.state == DirectoryState::Healthy && info.volumes >= 1));
        assert_eq!(directories.iter().filter_map(|info| info.id).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(store.usage().unwrap().volumes, directories.iter().map(|info| info.volumes).sum());
        assert_eq!(store.usage().unwrap().total, 3 << 40);
        assert!(store.recovery().absent.is_empty());
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_missing_not_empty_and_comes_back_with_everything() {
    let disks = filled(3, 30);
    disks[1].mount(false);
    let hidden = disks[1].changes();
    for _ in 0..2 {
        let store = open_all(&disks);
        let missing = store.directories().pop().unwrap();
        assert_eq!(missing.state, DirectoryState::Missing);
        assert_eq!(missing.path.as_deref(), Some(Path::new("/data/2")));
        assert!(missing.id.is_some(), "only one is missing, so it is known which");
        assert_eq!(store.recovery().absent, [missing]);
        for number in 0..30 {
            match get(&store, number) {
                Ok(bytes) => assert!(number % 3 != 1 && bytes == content(number, length(number))),
                Err(error @ ReadError::Unavailable { .. }) => {
                    assert_eq!(number % 3, 1);
                    assert!(error.to_string().contains("/data/2 is missing"), "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Nobody can say whether there is such a chunk.
        assert!(matches!(get(&store, 99), Err(ReadError::Unavailable { .. })));
    }
    let store = open_all(&disks);
    put_one(&store, 100).unwrap();
    store.delete(id(4), GroupVersion::new(3)).unwrap();
    drop(store);
    assert!(disks[1].changes() > hidden, "the others were written to");
    disks[1].mount(true);
    let store = open_all(&disks);
    assert_there(&store, (0..30).filter(|&number| number != 4).chain([100]));
    assert!(matches!(get(&store, 4), Err(ReadError::Deleted(_))), "a chunk that was away stays deleted");
    assert!(matches!(get(&store, 99), Err(ReadError::NotFound(_))));
}

#[test]
fn while_one_is_missing_an_empty_directory_is_not_touched() {
    let mut disks = filled(2, 10);
    let new = SimulatedDisk::rack(3).pop().unwrap();
    let away = disks.pop().unwrap();
    disks.push(new.clone());
    let store = open_all(&disks);
    assert_eq!(new.changes(), 0);
    assert_eq!(states(&store), [DirectoryState::Healthy, DirectoryState::Missing]);
    drop(store);
    // Not named at all: nobody knows its path.
    let store = open_all(&disks[..1]);
    let missing = store.directories().pop().unwrap();
    assert_eq!((missing.path, missing.state), (None, DirectoryState::Missing));
    let error = get(&store, 1).unwrap_err().to_string();
    assert!(error.contains(&format!("directory {} is missing", missing.id.unwrap())), "{error}");
    drop(store);
    // Once it is back the new one joins.
    disks.push(away);
    let store = open_all(&disks);
    assert_eq!(states(&store), [const { DirectoryState::Healthy }; 3]);
    assert_there(&store, 0..10);
}

#[test]
fn nothing_but_missing_directories_is_an_error() {
    let disk = filled(1, 3).remove(0);
    disk.fail_if(|call, _| (call == Call::Read).then_some(EIO));
    let new = SimulatedDisk::rack(2).pop().unwrap();
    let error = try_open(&[disk, new.clone()], small_volumes()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert_eq!(new.changes(), 0, "no second store is made where the first can't be read");
    assert!(matches!(try_open(&[], small_volumes()), Err(OpenError::Option(_))));
}

#[test]
fn two_stores_copies_and_the_same_directory_twice_are_refused_by_name() {
    let (one, other) = (filled(2, 4), filled(1, 4).remove(0).moved_to("/data/7"));
    let error = try_open(&[one[0].clone(), one[1].clone(), other], small_volumes()).unwrap_err();
    assert!(matches!(error, OpenError::OtherStore { .. }));
    assert!(error.to_string().contains("/data/1 belongs to store"), "{error}");
    let error = try_open(&[one[0].clone(), one[1].clone(), one[0].clone()], small_volumes()).unwrap_err();
    assert_eq!(error.to_string(), "/data/1 and /data/1 are the same directory: name it once");
    let copy = one[1].after_kill().moved_to("/data/9");
    let error = try_open(&[one[0].clone(), one[1].clone(), copy], small_volumes()).unwrap_err();
    assert!(matches!(&error, OpenError::Clash { first, second }
        if first.ends_with("2") && second.ends_with("9")));
}

#[test]
fn a_directory_that_was_given_up_is_refused_and_its_disk_can_be_used_again() {
    let mut disks = filled(3, 12);
    let lost = disks.remove(1);
    drop(try_open(&disks, forgetting()).unwrap());
    let store = open_all(&disks);
    assert_eq!(states(&store), [const { DirectoryState::Healthy }; 2]);
    assert!(matches!(get(&store, 1), Err(ReadError::NotFound(_))), "it is not unavailable but gone");
    drop(store);
    let refused = [disks[0].clone(), disks[1].clone(), lost.clone()];
    for options in [small_volumes(), forgetting()] {
        let error = try_open(&refused, options).unwrap_err();
        assert!(matches!(&error, OpenError::Forgotten { path } if path.ends_with("2")), "{error}");
    }
    disks.push(SimulatedDisk::rack(2).remove(1));
    put_in_turn(&open_all(&disks), 20..29);
    assert_there(&open_all(&disks), (0..12).filter(|n| n % 3 != 1).chain(20..29));
    // The lost one knows neither the new one nor what became of itself; the others do.
    let all: Vec<_> = disks.iter().cloned().chain([lost.moved_to("/data/9")]).collect();
    let error = try_open(&all, small_volumes()).unwrap_err();
    assert!(matches!(&error, OpenError::Forgotten { path } if path.ends_with("9")), "{error}");
}

#[test]
fn two_halves_that_gave_each_other_up_are_not_put_together() {
    let disks = filled(2, 4);
    for disk in &disks {
        drop(try_open(std::slice::from_ref(disk), forgetting()).unwrap());
    }
    assert!(matches!(try_open(&disks, small_volumes()), Err(OpenError::Forgotten { .. })));
}

/// Checks that a store still has its chunks, takes new ones in every directory, and keeps them.
fn assert_sound(disks: &[SimulatedDisk], numbers: std::ops::Range<u64>) {
    let store = open_all(disks);
    assert_eq!(states(&store), vec![DirectoryState::Healthy; disks.len()]);
    assert_there(&store, numbers.clone());
    put_in_turn(&store, 500..506);
    drop(store);
    let store = open_all(disks);
    assert_eq!(store.recovery().skipped, []);
    assert_there(&store, numbers.chain(500..506));
}

#[test]
fn directories_are_added_safely_at_every_crash_point() {
    // From nothing to two disks, and from one with chunks to three.
    for before in [0, 1] {
        let prepare = || {
            let disks = SimulatedDisk::rack(before + 2);
            if before > 0 {
                put_in_turn(&open_all(&disks[..before]), 0..4);
            }
            disks
        };
        let numbers = if before == 0 { 0..0 } else { 0..4 };
        let disks = prepare();
        let first = disks[0].changes();
        drop(open_all(&disks));
        let last = disks[0].changes();
        assert!(last - first > 10, "there are {} crash points", last - first);
        for crash in first..last {
            for seed in 0..8 {
                let disks = prepare();
                disks[0].power_off_after(crash);
                let _ = try_open(&disks, small_volumes());
                let disks = after_power_cut(&disks, crash * 8 + seed);
                // All at once; or first without one of them, which may or may not know that it is one of the store.
                let mut rest = disks.clone();
                let away = seed as usize % (disks.len() + 1);
                if away < disks.len() {
                    rest.remove(away);
                    let knows_none = rest.iter().all(|disk| !disk.look().unwrap().contains(&"STORE".into()));
                    let store = open_all(&rest);
                    put_one(&store, 100).unwrap();
                    drop(store);
                    match try_open(&disks, small_volumes()) {
                        Ok(store) => assert_there(&store, numbers.clone().chain([100])),
                        // Nobody could know that there is a store.
                        Err(OpenError::OtherStore { .. }) if knows_none => continue,
                        Err(error) => panic!("crash {crash}, seed {seed}: {error}"),
                    }
                }
                assert_sound(&disks, numbers.clone());
            }
        }
    }
}

#[test]
fn a_directory_is_given_up_safely_at_every_crash_point() {
    let (first, last) = {
        let disks = filled(4, 8);
        let first = disks[0].changes();
        drop(try_open(&disks[1..], forgetting()).unwrap());
        (first, disks[0].changes())
    };
    assert!(last - first > 12, "there are {} crash points", last - first);
    for crash in first..last {
        for seed in 0..4 {
            let disks = filled(4, 8);
            disks[0].power_off_after(crash);
            let _ = try_open(&disks[1..], forgetting());
            let disks = after_power_cut(&disks, crash * 4 + seed);
            // Either nobody has heard of it, and the directory is missing and can come back. Or one has, and all will.
            let store = open_all(&disks[1..]);
            let is_given_up = states(&store).iter().all(|state| *state == DirectoryState::Healthy);
            drop(store);
            match try_open(&disks, small_volumes()) {
                Ok(store) => {
                    assert!(!is_given_up);
                    assert_there(&store, 0..8);
                }
                Err(OpenError::Forgotten { path }) => assert!(is_given_up && path.ends_with("1")),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn damage_list(disk: &SimulatedDisk, copies: &[usize]) {
    disk.damage("STORE", |bytes| copies.iter().for_each(|copy| bytes[copy * 4096 + 140] ^= 1));
}

#[test]
fn a_damaged_list_is_put_right_by_its_other_copy_or_by_a_sibling() {
    for copies in [&[0][..], &[1], &[0, 1]] {
        let disks = filled(3, 9);
        let whole = disks[1].content("STORE");
        damage_list(&disks[1], copies);
        assert_there(&open_all(&disks), 0..9);
        if copies.len() == 2 {
            assert_eq!(disks[1].content("STORE"), whole, "it is the same again");
        }
        // What it knows, it knows again.
        assert_eq!(states(&open_all(&disks[1..2])).len(), 3);
    }
}

#[test]
fn without_any_list_nobody_knows_what_is_missing() {
    let disks = filled(2, 6);
    disks.iter().for_each(|disk| damage_list(disk, &[0, 1]));
    for part in [&disks[..1], &disks[..]] {
        let error = try_open(part, small_volumes()).unwrap_err();
        assert!(matches!(&error, OpenError::Siblings { path } if path.ends_with("1")), "{error}");
    }
    assert_there(&try_open(&disks, forgetting()).unwrap(), 0..6);
    assert_sound(&disks, 0..6);
}

#[test]
fn a_failed_disk_takes_only_its_own_chunks_away() {
    let disks = SimulatedDisk::rack(3);
    let store = open_all(&disks);
    put_in_turn(&store, 0..30);
    disks[1].fail_if(|_, _| Some(EIO));
    let mut refused = 0;
    for number in 100..160 {
        refused += u32::from(put_one(&store, number).is_err());
    }
    assert!(refused <= 2, "writes fail where the disk failed under them, others go elsewhere: {refused}");
    for number in 0..30 {
        match get(&store, number) {
            Ok(bytes) => assert!(number % 3 != 1 && bytes == content(number, length(number))),
            Err(ReadError::Io { path, .. }) => assert!(number % 3 == 1 && path.starts_with("/data/2")),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(get(&store, 999), Err(ReadError::NotFound(_))), "all that was stored is known");
    // Tombstones of its chunks go elsewhere.
    store.delete(id(1), GroupVersion::new(3)).unwrap();
    assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))));
    for number in 160..400 {
        if matches!(store.directories()[1].state, DirectoryState::Failed { .. }) {
            break;
        }
        let _ = put_one(&store, number);
    }
    let DirectoryState::Failed { reason } = &store.directories()[1].state else { panic!("it has failed") };
    assert!(reason.contains("8 volumes failed in a row"), "{reason}");
    put_in_others(&store, 400..430);
    // The last ones fail too: now the store takes no writes, and says so.
    for disk in [&disks[0], &disks[2]] {
        disk.fail_if(|call, _| (call != Call::Read).then_some(EIO));
    }
    let mut last = None;
    for number in 500..540 {
        last = put_one(&store, number).err();
    }
    let last = last.unwrap();
    assert!(matches!(&last, WriteError::GaveUp { .. }), "{last}");
    assert_there(&store, (0..30).filter(|number| number % 3 != 1));
    drop(store);
    disks.iter().for_each(SimulatedDisk::heal);
    let store = open_all(&disks);
    assert_there(&store, (0..30).filter(|&number| number != 1));
    assert!(matches!(get(&store, 1), Err(ReadError::Deleted(_))));
}

/// Writes while the second of three directories has failed.
fn put_in_others(store: &ChunkStore, numbers: std::ops::Range<u64>) {
    for number in numbers {
        put_one(store, number).unwrap();
        assert_ne!(slot_of(store, number), 1);
    }
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_has_failed_and_the_others_serve() {
    // All of it, or all but the superblock.
    for whole in [true, false] {
        let disks = filled(3, 30);
        disks[1]
            .fail_if(move |call, name| (call == Call::Read && (whole || name.ends_with("e"))).then_some(EIO));
        let store = open_all(&disks);
        let failed =
            store.directories().into_iter().find(|info| info.path == Some("/data/2".into())).unwrap();
        assert!(matches!(failed.state, DirectoryState::Failed { .. }), "{failed:?}");
        assert_eq!(store.recovery().absent.len(), 1);
        assert!(matches!(get(&store, 1), Err(ReadError::Unavailable { .. })));
        assert_there(&store, (0..30).filter(|number| number % 3 != 1));
        for number in 100..120 {
            put_one(&store, number).unwrap();
        }
        drop(store);
        disks[1].heal();
        assert_there(&open_all(&disks), (0..30).chain(100..120));
    }
}

#[test]
fn a_tombstone_is_on_the_disk_of_its_chunk() {
    let mut disks = filled(3, 12);
    let store = open_all(&disks);
    for number in 0..6 {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    drop(store);
    for _ in 0..3 {
        let store = open_all(&disks[..1]);
        let here: Vec<u64> =
            (0..12).filter(|&n| !matches!(get(&store, n), Err(ReadError::Unavailable { .. }))).collect();
        assert_eq!(here.len(), 4, "a third of the chunks and their tombstones");
        for number in here {
            assert_eq!(matches!(get(&store, number), Err(ReadError::Deleted(_))), number < 6);
        }
        drop(store);
        disks.rotate_left(1);
    }
}

#[test]
fn disks_that_were_written_to_apart_go_together_again() {
    let disks = filled(2, 6);
    // The same id with other bytes each time, which only a failure leaves behind: the last one counts, though more
    // records were written to the other disk.
    let count = |round: u64| if round.is_multiple_of(2) { 1 } else { 40 };
    for (round, part) in [0, 1, 0, 1, 0].into_iter().enumerate() {
        let store = open_all(&disks[part..=part]);
        let round = round as u64;
        for number in 0..count(round) {
            put_one(&store, 100 * (round + 1) + number).unwrap();
        }
        if round >= 3 {
            put(&store, 999, &content(round, 1000)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let store = open_all(&disks);
    assert_eq!(store.recovery().skipped, []);
    assert_there(
        &store,
        (0..6).chain((0..5).flat_map(|round| 100 * (round + 1)..100 * (round + 1) + count(round))),
    );
    assert_eq!(get(&store, 999).unwrap(), content(4, 1000));
}

#[test]
fn records_go_where_there_is_the_least_to_do_for_the_room() {
    let disks = SimulatedDisk::rack(3);
    disks[2].set_capacity(2 << 40);
    let store = open_all(&disks);
    let mut writers = Vec::new();
    let mut count = [0; 3];
    for number in 0..40 {
        let mut writer = store.begin(new_chunk(number, 300_000)).unwrap();
        writer.write(&content(number, 300_000)).unwrap();
        writers.push(writer);
    }
    for (number, writer) in (0..).zip(writers) {
        writer.commit().unwrap();
        count[slot_of(&store, number)] += 1;
    }
    assert_eq!(count, [10, 10, 20]);
    for directory in &store.shared.volumes.directories {
        assert_eq!(directory.in_flight.load(Ordering::Relaxed), 0);
    }
    // With nothing under way the emptiest is next.
    put_one(&store, 100).unwrap();
    assert_eq!(slot_of(&store, 100), 2);
}

#[test]
fn a_reader_whose_volume_has_gone_looks_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    put_one(&store, 1).unwrap();
    let (entry, volume) = store.shared.locate(id(1)).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Relaxed) {
                        assert_there(&store, [1]);
                    }
                })
            })
            .collect();
        // What compaction does: the copy is there, the index says so, the volume goes.
        for number in 100..20_000 {
            store.shared.volumes.alias(number, &volume);
            store.shared.index.insert(id(1), Entry::chunk(number, entry.offset(), entry.length()));
            store.shared.volumes.forget(number - 1);
        }
        is_done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    store.shared.index.insert(id(1), Entry::chunk(7, entry.offset(), entry.length()));
    assert!(matches!(get(&store, 1), Err(ReadError::Damaged { .. })));
}

#[derive(Clone, Debug)]
enum Operation {
    Put(u64),
    Delete(u64),
    /// Closes the store, and opens it with those of the disks whose bit is set.
    Open(u8),
    /// Like `Open`, after a power cut.
    PowerCut(u8, u64),
    /// A disk gives errors from now on, until the next start.
    Fail(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let disks = prop_oneof![Just(0b111u8), 1..0b1000u8];
    prop_oneof![
        8 => (0..24u64).prop_map(Operation::Put),
        2 => (0..24u64).prop_map(Operation::Delete),
        2 => disks.clone().prop_map(Operation::Open),
        1 => (disks, any::<u64>()).prop_map(|(disks, seed)| Operation::PowerCut(disks, seed)),
        1 => (0..3usize).prop_map(Operation::Fail),
    ]
}

/// What is known of ids over three disks of which some come and go.
struct Rack {
    disks: Vec<SimulatedDisk>,
    store: Option<ChunkStore>,
    live: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Their delete failed, and may have been made.
    doomed: BTreeSet<u64>,
    has_failed: bool,
}

impl Rack {
    fn new() -> Self {
        let disks = SimulatedDisk::rack(3);
        let store = Some(open_all(&disks));
        let (live, deleted, doomed) = Default::default();
        Self { disks, store, live, deleted, doomed, has_failed: false }
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Put(number) => match put_one(self.store.as_ref().unwrap(), number) {
                Ok(_) => drop(self.live.insert(number)),
                Err(WriteError::Deleted(_)) => {
                    assert!(self.deleted.contains(&number) || self.doomed.contains(&number));
                }
                Err(error) => assert!(self.has_failed, "{error}"),
            },
            Operation::Delete(number) => {
                match self.store.as_ref().unwrap().delete(id(number), GroupVersion::new(3)) {
                    Ok(()) => drop(self.deleted.insert(number)),
                    Err(_) => drop(self.doomed.insert(number)),
                }
            }
            Operation::Open(disks) => self.reopen(disks),
            Operation::PowerCut(disks, seed) => {
                let rest =
                    self.disks.iter().zip(seed..).map(|(disk, seed)| disk.after_power_cut(seed)).collect();
                // The last words of the process go to disks that nobody reads any more.
                self.store = None;
                self.disks = rest;
                self.reopen(disks);
            }
            Operation::Fail(disk) => {
                self.has_failed = true;
                self.disks[disk].fail_if(|_, _| Some(EIO));
            }
        }
    }

    fn reopen(&mut self, named: u8) {
        self.store = None;
        self.has_failed = false;
        self.disks.iter().for_each(SimulatedDisk::heal);
        let is_named = |index: &usize| named >> index & 1 == 1;
        let disks: Vec<_> = (0..3).filter(is_named).map(|index| self.disks[index].clone()).collect();
        let store = open_all(&disks);
        let is_complete = disks.len() == 3;
        assert_eq!(store.recovery().absent.len(), 3 - disks.len());
        for number in 0..24 {
            let (live, deleted) = (self.live.contains(&number), self.deleted.contains(&number));
            match get(&store, number) {
                Ok(bytes) => {
                    assert!(!deleted || !is_complete, "chunk {number} came back");
                    assert_eq!(bytes, content(number, length(number)));
                    self.live.insert(number);
                }
                Err(ReadError::Deleted(_)) => {
                    assert!(deleted || self.doomed.contains(&number), "chunk {number} is gone");
                    self.deleted.insert(number);
                }
                Err(ReadError::NotFound(_)) => {
                    assert!(is_complete && !live && !deleted, "chunk {number} is lost");
                }
                Err(ReadError::Unavailable { .. }) => assert!(!is_complete),
                Err(error) => panic!("{error}"),
            }
        }
        self.store = Some(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn disks_that_come_and_go_lose_nothing(operations in prop::collection::vec(operation(), 1..50)) {
        let mut rack = Rack::new();
        for operation in &operations {
            rack.apply(operation);
        }
        rack.apply(&Operation::PowerCut(0b111, 7));
    }
}

#[test]
fn mount_points_of_the_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b", "c"].map(|name| dir.path().join(name));
    let options = || small_volumes().reserve(0);
    let store = ChunkStore::open_all(&paths, options()).unwrap();
    put_in_turn(&store, 0..9);
    let twice = ChunkStore::open_all([&paths[0], &dir.path().join("a/../a")], options()).unwrap_err();
    assert!(matches!(twice, OpenError::SameDirectory { .. }), "{twice}");
    assert!(matches!(ChunkStore::open(&paths[1], options()), Err(OpenError::Locked { .. })));
    let total = store.usage().unwrap().total;
    assert_eq!(total, store.directories()[0].total, "a file system that they share counts once");
    drop(store);
    // Not mounted: the mount point is empty; or its directory is not there at all.
    let away = dir.path().join("away");
    std::fs::rename(&paths[1], &away).unwrap();
    for mount_point in [true, false] {
        if mount_point {
            std::fs::create_dir(&paths[1]).unwrap();
        }
        let store = ChunkStore::open_all(&paths, options()).unwrap();
        assert_eq!(store.directories()[2].state, DirectoryState::Missing);
        assert!(matches!(get(&store, 1), Err(ReadError::Unavailable { .. })));
        assert_there(&store, [0, 2, 3]);
        if mount_point {
            assert_eq!(std::fs::read_dir(&paths[1]).unwrap().count(), 0, "not even a lock is put there");
            std::fs::remove_dir(&paths[1]).unwrap();
        } else {
            assert!(!paths[1].exists());
        }
    }
    std::fs::rename(&away, &paths[1]).unwrap();
    let store = ChunkStore::open_all([&paths[2], &paths[0], &paths[1]], options()).unwrap();
    assert_there(&store, 0..9);
    assert_eq!(states(&store), [const { DirectoryState::Healthy }; 3]);
}

#[test]
fn a_compaction_keeps_every_record_on_its_disk() {
    let disks = filled(3, 90);
    let store = open_all(&disks);
    let gone = |number: u64| !(number / 3).is_multiple_of(4);
    for number in (0..90).filter(|&number| gone(number)) {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    let report = store.compact(&CompactionOptions::default().dead_percent(0)).unwrap();
    assert!(report.removed >= 3 && report.left.is_empty(), "{report:?}");
    for number in 0..90 {
        let entry = store.shared.index.get(id(number)).unwrap();
        let volume = store.shared.volumes.get(entry.volume).unwrap();
        assert_eq!(volume.directory.slot as u64, number % 3, "chunk or tombstone {number}");
    }
    // A disk that takes no writes is left alone, and the others are compacted.
    store.shared.volumes.directories[0].fail("for the test".into());
    for number in (0..90).filter(|number| number % 3 > 0 && !gone(*number)) {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    compact(&store).unwrap();
    drop(store);
    let store = open_all(&disks);
    for number in 0..90 {
        match get(&store, number) {
            Ok(bytes) => {
                assert!(number % 3 == 0 && !gone(number) && bytes == content(number, length(number)))
            }
            Err(ReadError::Deleted(_)) => assert!(number % 3 > 0 || gone(number)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.quarantine().unwrap(), []);
    drop(store);
    // Alone, each disk brings nothing back.
    for (slot, disk) in disks.iter().enumerate() {
        let store = try_open(std::slice::from_ref(disk), forgetting()).unwrap();
        for number in (0..90).filter(|number| number % 3 == slot as u64 && gone(*number)) {
            assert!(matches!(get(&store, number), Err(ReadError::Deleted(_))), "chunk {number}");
        }
    }
}

#[test]
fn a_compaction_moves_nothing_to_another_disk_for_want_of_room() {
    let disks = filled(2, 60);
    let store = open_all(&disks);
    for number in (0..60).filter(|number| number % 3 > 0) {
        store.delete(id(number), GroupVersion::new(3)).unwrap();
    }
    disks[0].fail_if(|call, _| matches!(call, Call::Create | Call::Write | Call::Preallocate).then_some(28));
    assert!(matches!(compact(&store), Err(CompactionError::Write(WriteError::Full { .. }))));
    for number in 0..60 {
        let entry = store.shared.index.get(id(number)).unwrap();
        let volume = store.shared.volumes.get(entry.volume).unwrap();
        assert_eq!(volume.directory.slot as u64, number % 2, "chunk or tombstone {number}");
    }
    disks[0].heal();
    let report = compact(&store).unwrap();
    assert!(
        report.removed > 0 && report.left.is_empty(),
        "the other one was done, this one is now: {report:?}"
    );
}
