//! What the tests of one run share.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::docker::Docker;
use crate::image::RealImage;
use crate::oras::Oras;
use crate::skopeo::Skopeo;

/// A directory, a Docker daemon, an image and a Python client. Each is made when a test first asks, and gone when the lab is dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the daemon before its directory.
    docker: OnceLock<Docker>,
    image: OnceLock<RealImage>,
    oras: OnceLock<Oras>,
    making: Mutex<()>,
    directory: TempDir,
}

impl Lab {
    /// A lab with a directory of its own in `parent`, which should be on a disk with 5 GB free.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn new(parent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("e2e-").tempdir_in(parent);
        let directory = directory.with_context(|| format!("making a directory in {}", parent.display()))?;
        Ok(Self {
            docker: OnceLock::new(),
            image: OnceLock::new(),
            oras: OnceLock::new(),
            making: Mutex::new(()),
            directory,
        })
    }

    /// A directory for one test, removed when dropped.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn directory(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(self.directory.path())?)
    }

    /// The Docker daemon.
    ///
    /// # Errors
    /// When it does not start.
    pub fn docker(&self) -> Result<&Docker> {
        self.once(&self.docker, || Docker::start(self.directory.path()))
    }

    /// The large image of real files.
    ///
    /// # Errors
    /// When it can't be built.
    pub fn image(&self) -> Result<&RealImage> {
        let docker = self.docker()?;
        self.once(&self.image, || RealImage::build(docker, self.directory.path()))
    }

    /// The OCI Python client.
    ///
    /// # Errors
    /// When it can't be installed.
    pub fn oras(&self) -> Result<&Oras> {
        self.once(&self.oras, || Oras::install(self.directory.path()))
    }

    /// Where the logs of what all tests share are.
    pub fn logs(&self) -> &Path {
        self.directory.path()
    }

    /// Skopeo.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn skopeo(&self) -> Result<Skopeo> {
        Skopeo::find(self.directory.path())
    }

    /// Makes a shared thing at most once, even if two tests ask together.
    fn once<'a, T>(&self, cell: &'a OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&'a T> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match cell.get() {
            Some(made) => Ok(made),
            None => {
                let made = make()?;
                Ok(cell.get_or_init(|| made))
            }
        }
    }
}
