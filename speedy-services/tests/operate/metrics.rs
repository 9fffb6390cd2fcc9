//! The metrics of each role beside what `docs/operations.md` says of them.

use std::collections::{BTreeMap, BTreeSet};

use speedy_core::digest::Digest;

use super::serve::{Serve, ask, send};

const ROLES: [&str; 6] = ["serve", "master", "meta", "chunk", "image", "registry"];
/// These are there only once something was refused.
const PERHAPS: &str = "speedy_http_refused_total";

/// The names of each role in the documentation.
fn documented() -> BTreeMap<&'static str, BTreeSet<String>> {
    let page = include_str!("../../../docs/operations.md");
    let mut of: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `speedy_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[1].split(", ").map(|name| name.trim_matches('`').to_owned());
        let names: Vec<String> = names.collect();
        let wanted = |role: &&&str| cells[2] == "all" || cells[2].split(", ").any(|named| named == **role);
        let roles: Vec<_> = ROLES.iter().filter(wanted).collect();
        assert!(!roles.is_empty(), "a row without roles: {row}");
        for role in roles {
            for name in &names {
                assert!(of.entry(role).or_default().insert(name.clone()), "{name} is there twice");
            }
        }
    }
    of
}

/// The names on a page of metrics, as queries have them; a histogram under its own.
fn shown(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let histograms: BTreeSet<&str> =
        types.filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name).collect();
    let samples = page.lines().filter(|line| line.starts_with("speedy_"));
    let name = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
        let mut whole = parts.filter(|name| histograms.contains(name));
        whole.next().unwrap_or(name).to_owned()
    };
    samples.map(name).collect()
}

#[test]
fn each_metric_is_documented_with_its_roles() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let serve = Serve::start(&dir.path().join("serve"), &[]);
    let meta = Serve::start_role("meta", &["--data-dir", &path("meta")]);
    let master = Serve::start_role("master", &["--meta", &meta.listen, "--replicas", "1"]);
    let options = ["--data-dir", &path("chunk"), "--master", &master.listen, "--group", "1"];
    let chunk = Serve::start_role("chunk", &options);
    let image = Serve::start_role("image", &["--master", &master.listen, "--meta", &meta.listen]);
    let registry = Serve::start_role("registry", &["--image", &image.listen, "--meta", &meta.listen]);
    // Some are there only once something was done.
    for registry in [&serve, &registry] {
        let digest = Digest::sha256(b"x");
        let head =
            format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\nconnection: close");
        let pushed = send(&registry.listen, &format!("{head}\r\ncontent-length: 1\r\n\r\nx"));
        assert!(pushed.starts_with("HTTP/1.1 201 "), "{pushed}");
        let pulled = registry.ask(&format!("GET /v2/a/blobs/{digest}"));
        assert!(pulled.ends_with("\r\n\r\nx"), "{pulled}");
    }
    let mut documented = documented();
    for (role, process) in ROLES.into_iter().zip([&serve, &master, &meta, &chunk, &image, &registry]) {
        let page = ask(&process.admin, "GET /metrics");
        let mut documented = documented.remove(role).unwrap_or_default();
        let shown = shown(&page);
        if !shown.contains(PERHAPS) {
            documented.remove(PERHAPS);
        }
        let missing: Vec<_> = shown.difference(&documented).collect();
        let wrong: Vec<_> = documented.difference(&shown).collect();
        assert!(missing.is_empty(), "docs/operations.md says nothing of these of {role}: {missing:?}");
        assert!(
            wrong.is_empty(),
            "docs/operations.md gives {role} these, which it has not: {wrong:?}\n{page}"
        );
    }
}
