//! What fuzzers attack: each function takes any bytes, and panics where something that is promised does not hold.
//!
//! The targets in `fuzz/` call these, and so do ordinary tests, with all seeds, with what small changes make of them, and
//! with all that was ever found.

pub use crate::cli::fuzz::config;
pub use crate::registry::docker::v1;
pub use crate::registry::fuzz::{manifest, names};
pub use crate::registry::paths_and_ranges::{paths, ranges};

#[cfg(test)]
mod tests {
    use speedy_core::replay::replay;

    #[test]
    fn seeds_of_configuration_files_and_what_becomes_of_them() {
        replay("config", 200, super::config);
    }

    #[test]
    fn seeds_of_manifests_and_what_becomes_of_them() {
        replay("manifest", 2000, super::manifest);
    }

    #[test]
    fn seeds_of_names_and_what_becomes_of_them() {
        replay("names", 2000, super::names);
    }

    #[test]
    fn seeds_of_paths_and_what_becomes_of_them() {
        replay("paths", 2000, super::paths);
    }

    #[test]
    fn seeds_of_ranges_and_what_becomes_of_them() {
        replay("ranges", 2000, super::ranges);
    }

    #[test]
    fn seeds_of_docker_v1_and_what_becomes_of_them() {
        replay("v1", 200, super::v1);
    }
}
