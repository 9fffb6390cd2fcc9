//! Clients whose image is more than a limit lets through at once: they are slowed down and succeed.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use speedy_e2e::{Lab, Layout, Node, Registry, free_addresses, logs_in};

use crate::roundtrip;

/// Limits that a push of some layers at once exceeds at once, and what then has to wait.
const LIMITS: [(&[&str], &str); 2] = [
    (&["--client-uploads", "1"], "speedy_http_delayed_total{reason=\"uploads\"} "),
    (&["--client-rate", "2", "--client-burst", "10"], "speedy_http_delayed_total{reason=\"rate\"} "),
];

pub(crate) fn tests(lab: &Arc<Lab>) -> Vec<Trial> {
    let trial = |(options, waits): (&'static [&'static str], &'static str)| {
        let lab = Arc::clone(lab);
        let name = options[0].trim_start_matches("--").replace('-', "_");
        Trial::test(format!("limits::{name}"), move || {
            let directory = lab.directory()?;
            slowed_down(&lab, directory.path(), options, waits)
                .map_err(|error| Failed::from(format!("{error:#}\n{}", logs_in(directory.path()))))
        })
    };
    LIMITS.into_iter().map(trial).collect()
}

/// Docker and skopeo push through the limits and pull again.
fn slowed_down(lab: &Lab, directory: &std::path::Path, options: &[&str], waits: &str) -> Result<()> {
    let (docker, skopeo, image) = (lab.docker()?, lab.skopeo()?, lab.image()?);
    let [listen, admin] = free_addresses()?;
    let data = directory.join("data").display().to_string();
    let arguments = [&["--data-dir", &data], options].concat();
    let mut node = Node::new("limited", "serve", listen, admin, &arguments, directory);
    node.start()?;
    let registry = Registry::at(listen);
    registry.wait_ready()?;

    let made = Layout::make(&directory.join("made"), 71, 25 << 20)?;
    let to = format!("docker://{}/layout:1", registry.host());
    skopeo.copy_all(&made.reference(), &to).context("a push by skopeo")?;
    let back = Layout::at(&directory.join("back"));
    skopeo.copy_all(&to, &back.reference()).context("a pull by skopeo")?;
    roundtrip::push(docker, image, &registry, "limited").context("a push by docker")?;
    roundtrip::pull(docker, image, &registry, "limited").context("a pull by docker")?;

    let (_, page) = node.page("/metrics")?;
    let waited =
        page.lines().find_map(|line| line.strip_prefix(waits)).context("no figure of those that waited")?;
    ensure!(waited.parse::<u64>()? > 0, "nothing had to wait, so this has shown nothing");
    node.drain()
}
