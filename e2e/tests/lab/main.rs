//! Faults, one a test, on a cluster of which every process has a host of its own, under a load that verifies every byte.
//!
//! Nothing may be lost, and nothing may fail for a client that tries three times more. One test runs at a time. Needs
//! root.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use speedy_e2e::{Fault, Link, LoadOptions, Ordeal, Place, logs_in};

/// As much as two processors can verify beside a cluster.
const LOAD: LoadOptions = LoadOptions { seed: 1, clients: 6, bytes_per_second: 12 << 20 };

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let tests = vec![
        replicas("chunk_node_killed", 1, Fault::Kill(Place::Chunk(2))),
        test("chunk_node_stopped", 1, Fault::Pause(Place::Chunk(2))),
        test("chunk_node_unplugged", 1, Fault::Cut(Place::Chunk(2), Link::Down)),
        test("chunk_node_mute", 1, Fault::Cut(Place::Chunk(2), Link::Mute)),
        test("chunk_node_deaf", 1, Fault::Cut(Place::Chunk(2), Link::Deaf)),
        replicas("chunk_node_replaced_by_an_empty_one", 1, Fault::Replace(2)),
        replicas("bits_flipped", 1, Fault::Flip(2)),
        replicas("bits_flipped_while_stopped", 1, Fault::FlipStopped(2)),
        // The group with the full disk gives way to the other.
        test("disk_full", 2, Fault::Fill),
        // Chunk 5 is one of those that chunks are moved to.
        replicas("chunk_node_killed_during_a_move", 2, Fault::Move(Place::Chunk(5))),
        test("image_node_killed", 1, Fault::Kill(Place::Image(1))),
        test("image_node_stopped", 1, Fault::Pause(Place::Image(1))),
        test("image_node_unplugged", 1, Fault::Cut(Place::Image(1), Link::Down)),
        test("registry_killed", 1, Fault::Kill(Place::Registry(1))),
        test("master_killed", 1, Fault::Kill(Place::Master(1))),
        test("master_stopped", 1, Fault::Pause(Place::Master(1))),
        test("meta_node_killed", 1, Fault::Kill(Place::Meta)),
        replicas("everything_killed_at_once", 1, Fault::RestartAll),
        test("everything_rolled", 1, Fault::RollAll),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests);
    Ok(conclusion.exit_code())
}

/// One fault on a fresh cluster of so many groups. When it does harm, the text has the ends of all logs.
fn test(name: &str, groups: usize, fault: Fault) -> Trial {
    Trial::test(name, move || endure(groups, fault, false))
}

/// The same; in the end everything is read from each replica alone.
fn replicas(name: &str, groups: usize, fault: Fault) -> Trial {
    Trial::test(name, move || endure(groups, fault, true))
}

fn endure(groups: usize, fault: Fault, alone: bool) -> Result<(), Failed> {
    let directory = tempfile::Builder::new().prefix("lab-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let run = || {
        let mut ordeal = Ordeal::start(directory.path(), groups, LOAD)?;
        ordeal.endure(fault)?;
        let report = ordeal.finish(alone)?;
        println!("{report}");
        report.ensure_harmless()
    };
    run().map_err(|error: anyhow::Error| Failed::from(format!("{error:#}\n{}", logs_in(directory.path()))))
}
