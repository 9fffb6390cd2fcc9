//! Real clients against the real binary: see the crate's documentation.
//!
//! One test runs at a time: they share a Docker daemon, and each wants the whole machine. The lab is owned here and
//! not in a static, so that its daemon ends when the tests do.

mod artifacts;
mod clients;
mod containerd;
mod copies;
mod daemonless;
mod faults;
mod fronts;
mod full;
mod gc;
mod groups;
mod index;
mod interrupted;
mod limits;
mod masters;
mod metadata;
mod proxy;
mod refusals;
mod roundtrip;
mod start;
mod upgrade;
mod v1;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use speedy_e2e::{Cluster, Deployment, Fleet, Lab, Single, leftovers, logs_in};

type OnAFleet = fn(&Lab, &mut Fleet) -> Result<()>;

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let lab = Arc::new(Lab::new(Path::new(env!("CARGO_TARGET_TMPDIR")))?);
    let mut tests = start::tests(&lab);
    tests.extend(full::tests(&lab));
    tests.extend(limits::tests(&lab));
    tests.extend(proxy::tests(&lab));
    tests.extend(on_any_deployment::<Single>(&lab));
    tests.push(deployed(&lab, "killed_in_the_middle_of_a_push", faults::killed_in_the_middle_of_a_push));
    tests.push(deployed(&lab, "room_comes_back", gc::on_one));
    tests.extend(on_any_deployment::<Cluster>(&lab));
    tests.push(deployed(&lab, "room_comes_back", gc::on_a_cluster));
    tests.push(deployed(&lab, "copies_of_every_chunk", copies::of_every_chunk));
    tests.push(deployed(
        &lab,
        "chunk_node_killed_before_the_pull",
        faults::chunk_node_killed_before_the_pull,
    ));
    tests.push(deployed(&lab, "master_killed", faults::master_killed));
    let on_a_fleet: [(&str, OnAFleet); 7] = [
        ("one_master_killed_one_paused", masters::one_killed_one_paused),
        ("front_ends_killed_during_pushes", fronts::killed_during_pushes),
        ("upload_moves", fronts::upload_moves),
        ("image_node_stands_still", fronts::image_node_stands_still),
        ("one_request_everywhere", fronts::one_request_everywhere),
        ("readyz_tells_the_truth", fronts::readyz_tells_the_truth),
        ("v1_through_two_registries", v1::through_two_registries),
    ];
    tests.extend(on_a_fleet.into_iter().map(|(name, body)| deployed(&lab, name, body)));
    tests.push(deployed(&lab, "drained_under_traffic", groups::drained_under_traffic));
    tests.push(deployed(&lab, "member_replaced", groups::member_replaced));
    tests.push(groups::adopted_test(&lab));
    tests.push(full::cluster_test(&lab));
    tests.push(deployed(&lab, "metadata_restored", metadata::restored));
    tests.push(deployed(&lab, "metadata_rebuilt", metadata::rebuilt));
    if upgrade::previous().is_some() {
        tests.push(deployed(&lab, "upgraded_one_by_one", upgrade::one_by_one));
    }
    let conclusion = libtest_mimic::run(&arguments, tests);
    let directory = lab.logs().to_owned();
    drop(lab);
    let left = leftovers(&directory)?;
    ensure!(left.is_empty(), "the tests have left something on this machine:\n{}", left.join("\n"));
    Ok(conclusion.exit_code())
}

/// The tests that ask the same of one process and of seven.
fn on_any_deployment<D: Deployment + 'static>(lab: &Arc<Lab>) -> Vec<Trial> {
    vec![
        deployed::<D>(lab, "push_and_pull", roundtrip::push_and_pull),
        deployed::<D>(lab, "three_clients_at_once", clients::three_at_once),
        deployed::<D>(lab, "index_of_two_platforms", index::of_two_platforms),
        deployed::<D>(lab, "index_by_docker", index::by_docker),
        deployed::<D>(lab, "sparse_index", index::sparse),
        deployed::<D>(lab, "v1_and_search", v1::pushed_pulled_and_found),
        deployed::<D>(lab, "buildah_and_podman", daemonless::buildah_and_podman),
        deployed::<D>(lab, "index_by_buildah", daemonless::index_by_buildah),
        deployed::<D>(lab, "containerd", containerd::ctr),
        deployed::<D>(lab, "chart", artifacts::chart),
        deployed::<D>(lab, "referrers", artifacts::referrers),
        deployed::<D>(lab, "signature", artifacts::signature),
        deployed::<D>(lab, "pulls_that_stop", interrupted::pulls),
        deployed::<D>(lab, "pushes_that_stop", interrupted::pushes),
        deployed::<D>(lab, "refusals", refusals::shown),
    ]
}

/// A test on a fresh deployment. When it fails, the text has the ends of all logs.
fn deployed<D: Deployment + 'static>(
    lab: &Arc<Lab>,
    name: &str,
    body: fn(&Lab, &mut D) -> Result<()>,
) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test(format!("{}::{name}", D::NAME), move || {
        let directory = lab.directory()?;
        let outcome = D::start(directory.path()).and_then(|mut deployment| body(&lab, &mut deployment));
        outcome.map_err(|error| {
            Failed::from(format!("{error:#}\n{}\n{}", logs_in(directory.path()), logs_in(lab.logs())))
        })
    })
}
