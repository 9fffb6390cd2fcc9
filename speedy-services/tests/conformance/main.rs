//! What the OCI distribution specification asks of a registry, 1.1 and its development version, clause by clause.
//!
//! It starts two registries over one store and talks to them over TCP. With `SPEEDY_CONFORMANCE_URL` it talks to
//! registries that run already: `http://HOST:PORT`, or several of them over the same stores with commas between. A
//! check that fails prints the clause that it was at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod chunks;
mod clauses;
mod delete;
mod development;
mod errors;
mod images;
mod manifests;
mod mount;
mod pull;
mod push;
mod ranges;
mod referrers;
mod suite;
mod tags;
mod target;
mod types;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let checks = [
        pull::checks(),
        ranges::checks(),
        push::checks(),
        chunks::checks(),
        mount::checks(),
        manifests::checks(),
        types::checks(),
        referrers::checks(),
        tags::checks(),
        delete::checks(),
        errors::checks(),
        development::checks(),
    ]
    .concat();
    suite::run(&arguments, &checks)
}
