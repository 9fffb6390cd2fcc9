//! The `speedy` binary.
fn main() {}
