//! Signatures as cosign makes them: over a small JSON document that names the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::process::run;
use crate::tools::Tool;

/// Until when `openssl` must be done.
const LIMIT: Duration = Duration::from_secs(60);

/// A key of the curve that cosign uses, and the files that are made with it.
#[derive(Debug)]
pub struct SigningKey {
    openssl: PathBuf,
    directory: PathBuf,
}

impl SigningKey {
    /// A new key in `directory`.
    ///
    /// # Errors
    /// When OpenSSL is not installed.
    pub fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let key = Self { openssl: Tool::OPENSSL.path()?, directory: directory.to_owned() };
        key.run(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"], &["private.pem"])?;
        key.run(&["pkey", "-in", "private.pem", "-pubout", "-out"], &["public.pem"])?;
        Ok(key)
    }

    /// Signs an image's digest. Gives the file with what is signed, and the signature in Base64.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn sign(&self, repository: &str, digest: &str) -> Result<(PathBuf, String)> {
        let payload = self.directory.join("payload.json");
        let signed = json!({
            "critical": {
                "identity": { "docker-reference": repository },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        fs::write(&payload, signed.to_string())?;
        self.run(&["dgst", "-sha256", "-sign", "private.pem", "-out"], &["signature", "payload.json"])?;
        self.run(&["base64", "-A", "-in", "signature", "-out"], &["signature.txt"])?;
        Ok((payload, fs::read_to_string(self.directory.join("signature.txt"))?.trim().to_owned()))
    }

    /// Verifies a signature in Base64 over a file.
    ///
    /// # Errors
    /// When it is not this key's over exactly these bytes.
    pub fn verify(&self, payload: &Path, signature: &str) -> Result<()> {
        fs::write(self.directory.join("found.txt"), signature)?;
        self.run(&["base64", "-d", "-A", "-in", "found.txt", "-out"], &["found"])?;
        let mut command = self.command(&["dgst", "-sha256", "-verify", "public.pem", "-signature", "found"]);
        run(command.arg(payload), LIMIT).map(drop)
    }

    fn run(&self, arguments: &[&str], files: &[&str]) -> Result<()> {
        run(self.command(arguments).args(files), LIMIT).map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.openssl);
        command.current_dir(&self.directory).args(arguments);
        command
    }
}
