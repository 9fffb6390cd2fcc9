//! A large image of the machine's own files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::check::same;
use crate::docker::Docker;
use crate::process::run;

const MB: u64 = 1_000_000;

/// How much goes into each layer, base first: one large layer, and several that differ.
const LAYERS: [u64; 5] = [220 * MB, 110 * MB, 100 * MB, 70 * MB, 40 * MB];

/// What the image must have in all, and its largest layer.
const LEAST: (u64, u64) = (500 * MB, 200 * MB);

/// An image of real files, made without a network: compilers, libraries and documents of this machine.
#[derive(Debug)]
pub struct RealImage {
    /// The digest of its configuration.
    pub id: String,
    /// The digests of its unpacked layers, base first.
    pub layers: Vec<String>,
    archive: PathBuf,
}

impl RealImage {
    /// Builds it and keeps a copy under `directory`.
    ///
    /// # Errors
    /// When the machine has too few files, or the build fails.
    pub fn build(docker: &Docker, directory: &Path) -> Result<Self> {
        let context = directory.join("context");
        let mut files = machine_files()?.into_iter();
        let mut dockerfile = String::from("FROM scratch\n");
        let mut sizes = Vec::new();
        for (number, wanted) in LAYERS.into_iter().enumerate() {
            sizes.push(fill(&context.join(format!("layer{number}")), &mut files, wanted)?);
            dockerfile.push_str(&format!("COPY layer{number} /layer{number}\n"));
        }
        let (total, largest) = (sizes.iter().sum::<u64>(), sizes.iter().copied().max().unwrap_or(0));
        ensure!(
            total >= LEAST.0 && largest >= LEAST.1,
            "the image needs {LEAST:?} bytes of real files in all and in one layer; this machine has {sizes:?}"
        );
        fs::write(context.join("Dockerfile"), dockerfile)?;
        docker.build(&context, "speedy-e2e:built")?;
        fs::remove_dir_all(&context)?;
        let built = docker.inspect("speedy-e2e:built")?;
        same("layers of the image", &LAYERS.len(), &built.layers.len())?;
        let archive = directory.join("image.tar");
        docker.save("speedy-e2e:built", &archive)?;
        Ok(Self { id: built.id, layers: built.layers, archive })
    }

    /// Sees that the daemon has the image, under exactly this name and no other.
    ///
    /// # Errors
    /// When the daemon fails.
    pub fn give(&self, docker: &Docker, name: &str) -> Result<()> {
        if !docker.has(&self.id) {
            docker.load(&self.archive)?;
        }
        docker.tag(&self.id, name)
    }
}

/// Regular files that every Debian machine with Rust has, in an order that does not change from run to run.
fn machine_files() -> Result<Vec<PathBuf>> {
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]), Duration::from_secs(60))
        .context("the image is made of the Rust toolchain's files")?;
    let toolchain = Path::new(sysroot.trim());
    let roots = [
        toolchain.join("lib"),
        toolchain.join("bin"),
        "/usr/bin".into(),
        "/usr/lib/x86_64-linux-gnu".into(),
        "/usr/lib".into(),
        "/usr/share".into(),
    ];
    let mut files = Vec::new();
    for root in roots {
        if root.is_dir() {
            walk(&root, &mut files)?;
        }
    }
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Puts files into a directory until they have `wanted` bytes, and gives the bytes that they have.
fn fill(directory: &Path, files: &mut impl Iterator<Item = PathBuf>, wanted: u64) -> Result<u64> {
    let mut size = 0;
    for file in files {
        let target = directory.join(file.strip_prefix("/")?);
        // A root inside another comes twice.
        if target.exists() {
            continue;
        }
        fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
        // A second name where that is possible, else a copy.
        fs::hard_link(&file, &target)
            .or_else(|_| fs::copy(&file, &target).map(drop))
            .with_context(|| format!("copying {}", file.display()))?;
        size += fs::metadata(&target)?.size();
        if size >= wanted {
            break;
        }
    }
    Ok(size)
}
