//! The reverse proxy of the README, with TLS.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ports::free_addresses;
use crate::process::{Process, run, wait_until};
use crate::tools::Tool;

const README: &str = include_str!("../../README.md");

/// Until when nginx must listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Until when OpenSSL must be done.
const KEY_LIMIT: Duration = Duration::from_secs(60);

/// nginx in front of a registry, with the README's own lines as its configuration.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    authority: PathBuf,
    // Dropping it ends it.
    _process: Process,
}

impl Proxy {
    /// Starts nginx, its files and its log in `directory`, and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed, does not start, or the README has no lines for it.
    pub fn start(directory: &Path, server: SocketAddr) -> Result<Self> {
        let [address] = free_addresses()?;
        let authority = directory.join("authority");
        let (certificate, key) = make_certificate(directory, &authority)?;
        let mut lines = snippet()?.to_owned();
        for (readme, here) in [
            ("listen 443 ssl", format!("listen {address} ssl")),
            ("/etc/ssl/certs/registry.crt", certificate.display().to_string()),
            ("/etc/ssl/private/registry.key", key.display().to_string()),
            ("127.0.0.1:5000", server.to_string()),
        ] {
            ensure!(lines.contains(readme), "the README's nginx lines have no `{readme}`");
            lines = lines.replace(readme, &here);
        }
        let place = directory.display();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log {place}/nginx-error.log;\n\
             events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {place}/body;\n\
             proxy_temp_path {place}/proxy;\nfastcgi_temp_path {place}/fastcgi;\nuwsgi_temp_path {place}/uwsgi;\n\
             scgi_temp_path {place}/scgi;\n{lines}\n}}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(Tool::NGINX.path()?);
        command.arg("-e").arg(directory.join("nginx-error.log")).arg("-c").arg(&file);
        let mut process = Process::start("nginx", &mut command, directory)?;
        wait_until("nginx", START_LIMIT, || {
            ensure!(process.ended()?.is_none(), "nginx ended at its start");
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(Self { address, authority, _process: process })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A directory with `ca.crt`, by which clients know it.
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

/// A certificate for this machine that is its own authority, and its key.
fn make_certificate(directory: &Path, authority: &Path) -> Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(authority)?;
    let (certificate, key) = (authority.join("ca.crt"), directory.join("registry.key"));
    let mut openssl = Command::new(Tool::OPENSSL.path()?);
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=registry.example.com"]);
    openssl.args(["-addext", "subjectAltName=DNS:registry.example.com,IP:127.0.0.1"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate), KEY_LIMIT)?;
    Ok((certificate, key))
}

/// The README's lines between "```nginx" and "```".
fn snippet() -> Result<&'static str> {
    let (_, rest) = README.split_once("```nginx\n").context("the README has no nginx example")?;
    let (snippet, _) = rest.split_once("```").context("the README's nginx example has no end")?;
    Ok(snippet)
}
