//! An image index for two platforms, as an OCI layout made by hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bytes::{digest_of, digest_stream};
use crate::check::same;
use crate::process::run;
use crate::tools::Tool;

const TAG: &str = "both";

/// Until when `tar` and `gzip` must be done.
const PACK_LIMIT: Duration = Duration::from_secs(60);

/// A directory in the form that OCI calls an image layout.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Makes an index of two images, for amd64 and arm64, of two layers each, and one of the layers shared. Each layer has
    /// `size` bytes that do not compress; other seeds give other bytes.
    ///
    /// # Errors
    /// When a file can't be written or a layer not packed.
    pub fn make(directory: &Path, seed: u64, size: usize) -> Result<Self> {
        let layout = Self { directory: directory.to_owned() };
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        let shared = layout.layer("shared", seed, size)?;
        let mut manifests = Vec::new();
        for (number, architecture) in (1..).zip(["amd64", "arm64"]) {
            let own = layout.layer(architecture, seed + number, size)?;
            manifests.push(layout.image(architecture, &[&shared, &own])?);
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
        });
        let mut index =
            layout.put("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes())?;
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": TAG });
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(
            directory.join("index.json"),
            json!({ "schemaVersion": 2, "manifests": [index] }).to_string(),
        )?;
        Ok(layout)
    }

    /// The layout in a tar.
    ///
    /// # Errors
    /// When the file is no tar.
    pub fn unpack(tar: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let mut command = Command::new(Tool::TAR.path()?);
        command.arg("--extract").arg("--file").arg(tar).arg("--directory").arg(directory);
        run(&mut command, PACK_LIMIT)?;
        Ok(Self::at(directory))
    }

    /// Packs it into a tar.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn pack(&self, tar: &Path) -> Result<()> {
        let mut command = Command::new(Tool::TAR.path()?);
        command.arg("--create").arg("--file").arg(tar).arg("--directory").arg(&self.directory).arg(".");
        run(&mut command, PACK_LIMIT).map(drop)
    }

    /// A layout that somebody else writes into this directory.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Its name for skopeo.
    pub fn reference(&self) -> String {
        format!("oci:{}:{TAG}", self.directory.display())
    }

    /// The digest of its index.
    ///
    /// # Errors
    /// When it is not complete.
    pub fn digest(&self) -> Result<String> {
        let index: Value = serde_json::from_slice(&fs::read(self.directory.join("index.json"))?)?;
        let digest = index["manifests"][0]["digest"].as_str().context("index.json names no manifest")?;
        Ok(digest.to_owned())
    }

    /// Its blobs and their lengths, each compared with its digest.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn blobs(&self) -> Result<BTreeMap<String, u64>> {
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(self.directory.join("blobs/sha256"))? {
            let entry = entry?;
            let (digest, length) = digest_stream(File::open(entry.path())?)?;
            same("a blob's digest", &format!("sha256:{}", entry.file_name().to_string_lossy()), &digest)?;
            blobs.insert(digest, length);
        }
        Ok(blobs)
    }

    fn image(&self, architecture: &str, layers: &[&Layer]) -> Result<Value> {
        let unpacked: Vec<_> = layers.iter().map(|layer| layer.unpacked.clone()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": unpacked },
            "config": {}, "history": layers.iter().map(|_| json!({ "created_by": "speedy-e2e" })).collect::<Vec<_>>(),
        });
        let config = self.put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>(),
        });
        let mut manifest =
            self.put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
        Ok(manifest)
    }

    fn layer(&self, name: &str, seed: u64, size: usize) -> Result<Layer> {
        let work = tempfile::tempdir_in(&self.directory)?;
        fs::write(work.path().join(name), noise(seed, size))?;
        let packed = work.path().join("layer.tar");
        let mut tar = Command::new(Tool::TAR.path()?);
        tar.args(["--create", "--mtime=@0", "--owner=0", "--group=0", "--file"]).arg(&packed);
        run(tar.arg("--directory").arg(work.path()).arg(name), PACK_LIMIT)?;
        let (unpacked, _) = digest_stream(File::open(&packed)?)?;
        run(Command::new(Tool::GZIP.path()?).args(["--no-name", "--fast"]).arg(&packed), PACK_LIMIT)?;
        let bytes = fs::read(work.path().join("layer.tar.gz"))?;
        let descriptor = self.put("application/vnd.oci.image.layer.v1.tar+gzip", &bytes)?;
        Ok(Layer { unpacked, descriptor })
    }

    /// Stores a blob and gives its descriptor.
    fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest_of(bytes);
        let name = digest.trim_start_matches("sha256:");
        fs::write(self.directory.join("blobs/sha256").join(name), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    }
}

#[derive(Debug)]
struct Layer {
    unpacked: String,
    descriptor: Value,
}

/// Bytes that do not compress and are the same for the same seed (splitmix64).
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
