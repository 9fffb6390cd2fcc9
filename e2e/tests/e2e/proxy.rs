//! The reverse proxy of the README.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use speedy_e2e::{
    Deployment, Lab, Layout, Process, Single, Tool, free_addresses, logs_in, run, same, wait_until,
};

const README: &str = include_str!("../../../README.md");

/// More than nginx takes in a body unless told otherwise.
const LAYER: usize = 8_000_000;

pub(crate) fn test(lab: &Arc<Lab>) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test("proxy::nginx_as_the_readme_says", move || {
        let directory = lab.directory()?;
        nginx_as_the_readme_says(&lab, directory.path())
            .map_err(|error| Failed::from(format!("{error:#}\n{}", logs_in(directory.path()))))
    })
}

/// An image goes through nginx with TLS and back, with the README's own lines as its configuration.
fn nginx_as_the_readme_says(lab: &Lab, directory: &std::path::Path) -> Result<()> {
    let single = Single::start(directory)?;
    let [listen] = free_addresses()?;
    let (certificate, key) = (directory.join("registry.crt"), directory.join("registry.key"));
    let mut openssl = Command::new(Tool::OPENSSL.path()?);
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=registry.example.com",
    ]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate), Duration::from_secs(60))?;

    let mut server = snippet()?.to_owned();
    for (readme, here) in [
        ("listen 443 ssl", format!("listen {listen} ssl")),
        ("/etc/ssl/certs/registry.crt", certificate.display().to_string()),
        ("/etc/ssl/private/registry.key", key.display().to_string()),
        ("127.0.0.1:5000", single.front().to_string()),
    ] {
        ensure!(server.contains(readme), "the README's nginx lines have no `{readme}`");
        server = server.replace(readme, &here);
    }
    let directory = directory.display();
    let configuration = format!(
        "daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log {directory}/nginx-error.log;\n\
         events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {directory}/body;\n\
         proxy_temp_path {directory}/proxy;\nfastcgi_temp_path {directory}/fastcgi;\nuwsgi_temp_path {directory}/uwsgi;\n\
         scgi_temp_path {directory}/scgi;\n{server}\n}}\n"
    );
    let file = format!("{directory}/nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = Command::new(Tool::NGINX.path()?);
    command.args(["-e", &format!("{directory}/nginx-error.log"), "-c", &file]);
    let mut nginx = Process::start("nginx", &mut command, format!("{directory}").as_ref())?;
    wait_until("nginx", Duration::from_secs(20), || {
        ensure!(nginx.ended()?.is_none(), "nginx ended at its start");
        Ok(std::net::TcpStream::connect(listen).is_ok())
    })?;

    let scratch = lab.directory()?;
    let made = Layout::make(&scratch.path().join("made"), 7, LAYER)?;
    let back = Layout::at(&scratch.path().join("back"));
    let remote = format!("docker://{listen}/proxied:1");
    let skopeo = lab.skopeo()?;
    skopeo.copy_all(&made.reference(), &remote)?;
    skopeo.copy_all(&remote, &back.reference())?;
    same("blobs that went through the proxy and back", &made.blobs()?, &back.blobs()?)
}

/// The README's lines between "```nginx" and "```".
fn snippet() -> Result<&'static str> {
    let (_, rest) = README.split_once("```nginx\n").context("the README has no nginx example")?;
    let (snippet, _) = rest.split_once("```").context("the README's nginx example has no end")?;
    Ok(snippet)
}
