//! Speedy nodes and registry.

pub mod registry;
