//! Programs that the tests need from the system.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// A program of the system and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

impl Tool {
    /// The Docker daemon.
    pub const DOCKERD: Self = Self { program: "dockerd", package: "docker.io" };
    /// Docker's own registry, to compare with.
    pub const DOCKER_REGISTRY: Self = Self { program: "docker-registry", package: "docker-registry" };
    /// The Docker client.
    pub const DOCKER: Self = Self { program: "docker", package: "docker.io" };
    /// Builds images without a daemon.
    pub const BUILDAH: Self = Self { program: "buildah", package: "buildah" };
    /// Pulls and pushes images without a daemon.
    pub const PODMAN: Self = Self { program: "podman", package: "podman" };
    /// The daemon below Docker and Kubernetes.
    pub const CONTAINERD: Self = Self { program: "containerd", package: "containerd" };
    /// Its client.
    pub const CTR: Self = Self { program: "ctr", package: "containerd" };
    /// Runs the OCI Python client.
    pub const PYTHON: Self = Self { program: "python3", package: "python3" };
    /// Installs it.
    pub const PIP: Self = Self { program: "pip3", package: "python3-pip" };
    /// The image copier.
    pub const SKOPEO: Self = Self { program: "skopeo", package: "skopeo" };
    /// The reverse proxy of the README's example.
    pub const NGINX: Self = Self { program: "nginx", package: "nginx-light" };
    /// Makes the proxy's certificate, and signs artifacts.
    pub const OPENSSL: Self = Self { program: "openssl", package: "openssl" };
    /// Packs the layers of hand-made images.
    pub const TAR: Self = Self { program: "tar", package: "tar" };
    /// Mounts the small disks that tests fill.
    pub const MOUNT: Self = Self { program: "mount", package: "mount" };
    /// Unmounts them.
    pub const UMOUNT: Self = Self { program: "umount", package: "mount" };
    /// Makes one of them.
    pub const MKFS_EXT4: Self = Self { program: "mkfs.ext4", package: "e2fsprogs" };
    /// Compresses them.
    pub const GZIP: Self = Self { program: "gzip", package: "gzip" };

    /// Where the program is. Debian's own directories come first: they hold the versions that the tests are for, whatever
    /// else a machine has in `/usr/local`.
    ///
    /// # Errors
    /// When the program is nowhere; the text names the package.
    pub fn path(self) -> Result<PathBuf> {
        let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
        let search = std::env::var_os("PATH").unwrap_or_default();
        system
            .into_iter()
            .chain(std::env::split_paths(&search))
            .map(|directory| directory.join(self.program))
            .find(|path| path.is_file())
            .with_context(|| {
                format!(
                    "`{}` is not installed: run scripts/test, which installs it, or `apt-get install {}`",
                    self.program, self.package
                )
            })
    }
}

/// The Docker daemon mounts file systems, and so do tests of full disks: they run as root.
pub(crate) fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the Docker daemon and the small disks of the tests need root: run scripts/test, which asks sudo, or run as root"
    );
    Ok(())
}
