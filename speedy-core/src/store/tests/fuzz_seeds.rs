//! What fuzzers begin with, and what they ever found.

use std::path::Path;

use super::super::fuzz;

fn replay(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(directory).unwrap() {
        let path = seed.unwrap().path();
        // Printed only with a failure: which file it was.
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 5, "{count} seeds of {target}");
}

#[test]
fn fuzz_seeds_of_records() {
    replay("record", fuzz::record);
}

#[test]
fn fuzz_seeds_of_checkpoints() {
    replay("checkpoint", fuzz::checkpoint);
}

#[test]
fn fuzz_seeds_of_recovery() {
    replay("recovery", fuzz::recovery);
}
