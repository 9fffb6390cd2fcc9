//! Speedy nodes and registry.
