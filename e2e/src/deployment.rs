//! What a test asks of any way to run Speedy.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::registry::Registry;

/// A way to run Speedy. Dropping it kills its processes.
pub trait Deployment: Sized {
    /// What tests of it are called.
    const NAME: &'static str;

    /// Starts it with its data and logs under `directory`, and waits until it takes writes.
    ///
    /// # Errors
    /// When a process does not start, or it never takes writes; the logs in `directory` say why.
    fn start(directory: &Path) -> Result<Self>;

    /// Where clients connect.
    fn front(&self) -> SocketAddr;

    /// The admin address of the process where clients connect.
    fn admin(&self) -> SocketAddr;

    /// Its registry.
    fn registry(&self) -> Registry {
        Registry::at(self.front())
    }
}
