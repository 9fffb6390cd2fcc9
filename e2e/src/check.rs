//! Comparisons that say what differed.

use std::fmt::Debug;

use anyhow::{Result, ensure};

/// Fails with both values when they differ.
///
/// # Errors
/// When they differ.
pub fn same<T: PartialEq + Debug>(what: &str, expected: &T, found: &T) -> Result<()> {
    ensure!(expected == found, "{what}:\n  expected {expected:?}\n     found {found:?}");
    Ok(())
}
