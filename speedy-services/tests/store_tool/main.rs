//! `speedy store`, as somebody at a terminal uses it: against directories, and against a running node.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use speedy_core::id::{BlobId, ChunkId, GroupVersion, Owner};
use speedy_core::store::{ChunkStore, NewChunk, StoreOptions};

const SPEEDY: &str = env!("CARGO_BIN_EXE_speedy");

fn speedy(arguments: &[&str]) -> Output {
    Command::new(SPEEDY).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must end with this code; answers what it printed, and on stderr.
#[track_caller]
fn ends_with(code: i32, arguments: &[&str]) -> (String, String) {
    let output = speedy(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

#[track_caller]
fn json(code: i32, arguments: &[&str]) -> Value {
    let (out, _) = ends_with(code, &[arguments, &["--json"]].concat());
    serde_json::from_str(&out).unwrap()
}

fn options() -> StoreOptions {
    StoreOptions::default().volume_size(1 << 20)
}

/// A store of 40 chunks of 100 KB, of which every second one is deleted.
fn fill(dir: &Path) {
    let store = ChunkStore::open(dir, options()).unwrap();
    for id in 1..=40 {
        let owner = Owner { blob: BlobId::from_bytes([id as u8; 16]), offset: 0 };
        let chunk = NewChunk::new(ChunkId::new(id), owner, 100_000, GroupVersion::INITIAL);
        store.put(chunk, &vec![id as u8; 100_000]).unwrap();
    }
    for id in (2..=40).step_by(2) {
        store.delete(ChunkId::new(id), GroupVersion::INITIAL).unwrap();
    }
}

/// Flips a bit in the middle of the first chunk.
fn damage(dir: &Path) {
    let volume = dir.join("00000001.volume");
    let mut bytes = std::fs::read(&volume).unwrap();
    bytes[60_000] ^= 1;
    std::fs::write(volume, bytes).unwrap();
}

#[test]
fn a_stopped_node() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (_, err) = ends_with(1, &["store", "check", path]);
    assert!(err.starts_with("error: there is no chunk store in") && err.contains("--data-dir"), "{err}");
    let (_, err) = ends_with(1, &["store", "compact", path]);
    assert!(err.contains("no chunk store"), "{err}");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "nothing was made");

    fill(dir.path());
    let (out, _) = ends_with(0, &["store", "check", path]);
    assert!(out.contains("40 records in 4 volumes verified") && out.contains("sound"), "{out}");
    let (out, _) = ends_with(0, &["store", "stats", path]);
    assert!(out.contains("chunks      20, 1.91 MiB") && out.contains("tombstones  20"), "{out}");
    assert!(out.contains("healthy") && out.contains("00000001.volume"), "{out}");
    let stats = json(0, &["store", "stats", path]);
    assert_eq!((&stats["chunks"], &stats["tombstones"]), (&20.into(), &20.into()));
    assert_eq!(stats["volumes"].as_array().unwrap().len(), 4);

    let (out, _) = ends_with(0, &["store", "dump", path]);
    let of = |state: &str| out.lines().filter(|line| line.split_whitespace().nth(4) == Some(state)).count();
    assert_eq!((of("live"), of("dead")), (40, 20), "20 chunks and 20 tombstones count");
    let (out, _) = ends_with(0, &["store", "dump", path, "--volume", "1", "--json"]);
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["chunk"], &first["offset"], &first["state"]),
        (&1.into(), &8192.into(), &"live".into())
    );

    let before = stats["volume_bytes"].as_u64().unwrap();
    let done = json(0, &["store", "compact", path, "--dead-percent", "10"]);
    assert!(done["volumes_removed"].as_u64().unwrap() >= 3, "{done}");
    let after = json(0, &["store", "stats", path])["volume_bytes"].as_u64().unwrap();
    assert!(after < before * 7 / 10, "{after} of {before} bytes are left");
    assert_eq!(json(0, &["store", "check", path])["records"], 40);
}

#[test]
fn damage_is_named_and_tells_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fill(dir.path());
    damage(dir.path());
    let (out, _) = ends_with(3, &["store", "check", path]);
    assert!(out.contains("DAMAGE") && out.contains("chunk 1: ") && out.contains("NOT SOUND"), "{out}");
    let report = json(3, &["store", "check", path]);
    assert_eq!((&report["sound"], &report["damaged"][0]["chunk"]), (&false.into(), &1.into()));
    let (out, _) = ends_with(0, &["store", "dump", path, "--verify"]);
    assert!(out.lines().any(|line| line.contains("chunk       damaged")), "{out}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fill(dir.path());
    std::fs::remove_file(dir.path().join("00000002.volume")).unwrap();
    let (out, _) = ends_with(3, &["store", "check", path]);
    assert!(
        out.contains(
            "00000002.volume is gone or cut off, and 5 chunks and 0 tombstones of it are nowhere else"
        ),
        "{out}"
    );
    let report = json(3, &["store", "check", path]);
    assert_eq!(report["lost"][0]["chunks"], 5, "{report}");
}

#[test]
fn a_bad_line_is_told_what_is_right() {
    for (line, says) in [
        ("store", "check"),
        ("store check", "<DIR|--admin <HOST:PORT>>"),
        ("store check d --admin h:1", "cannot be used with"),
        ("store check d --rate 0", "leave it out for no limit"),
        ("store compact d --dead-percent 101", "101 is not in 0..=100"),
        ("store dump --admin h:1", "--admin"),
    ] {
        let (_, err) = ends_with(2, &line.split(' ').collect::<Vec<_>>());
        assert!(err.contains(says), "{line}: {err}");
    }
}

/// `speedy serve`, killed at the end.
struct Serve {
    child: Child,
    admin: String,
}

impl Serve {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(SPEEDY);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let admin =
            log.find_map(|line| Some(line.split_once("admin pages")?.1.rsplit_once(' ')?.1.to_owned()));
        // Its welcome comes once it serves.
        let mut welcome = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        welcome.find(|line| line.contains("Speedy is ready")).unwrap();
        std::thread::spawn(move || log.for_each(drop));
        std::thread::spawn(move || welcome.for_each(drop));
        Self { child, admin: admin.unwrap() }
    }
}

impl Serve {
    /// Over the chunks of [`fill`], which it takes for its own: its metadata was there before.
    fn filled(dir: &Path) -> Self {
        drop(Self::start(dir));
        fill(&dir.join("chunks"));
        Self::start(dir)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::filled(dir.path());
    let admin = serve.admin.as_str();
    let stats = json(0, &["store", "stats", "--admin", admin]);
    assert_eq!((&stats["chunks"], &stats["tombstones"]), (&20.into(), &20.into()));
    assert_eq!(json(0, &["store", "check", "--admin", admin, "--rate", "100MiB"])["records"], 40);
    let (_, err) = ends_with(1, &["store", "check", dir.path().to_str().unwrap()]);
    let holder = format!("in use by process {}: ask that one with --admin", serve.child.id());
    assert!(err.contains(&holder), "{err}");
    let done = json(0, &["store", "compact", "--admin", admin, "--dead-percent", "10"]);
    assert!(done["volumes_removed"].as_u64().unwrap() >= 3, "{done}");
    // Behind its back, and found all the same.
    let volume = json(0, &["store", "stats", "--admin", admin])["volumes"].as_array().unwrap().clone();
    let path = volume.iter().find(|volume| volume["chunks"].as_u64() > Some(0)).unwrap()["path"].clone();
    let path = Path::new(path.as_str().unwrap());
    let mut bytes = std::fs::read(path).unwrap();
    bytes[60_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let report = json(3, &["store", "check", "--admin", admin]);
    assert_eq!(report["damaged_chunks"], 1);
    assert_eq!(json(0, &["store", "stats", "--admin", admin])["damaged_chunks"], 1);
    // Two words for one who took another address.
    let (_, err) = ends_with(1, &["store", "stats", "--admin", "127.0.0.1:1"]);
    assert!(err.contains("is that the admin address of a running node?"), "{err}");
}

#[test]
fn a_check_ends_with_the_client_that_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::filled(dir.path());
    let check = ["store", "check", "--admin", &serve.admin];
    let start = || Command::new(SPEEDY).args(check).args(["--rate", "10KiB"]).spawn().unwrap();
    let mut slow = start();
    // As long as that one runs, another is refused.
    let refused = loop {
        let output = speedy(&[&check[..], &["--rate", "10MiB"]].concat());
        if output.status.code() == Some(1) {
            break text(&output.stderr);
        }
        // Or it came too late, and was refused itself.
        if slow.try_wait().unwrap().is_some() {
            slow = start();
        }
    };
    assert!(refused.contains("a check is running"), "{refused}");
    slow.kill().unwrap();
    slow.wait().unwrap();
    let began = std::time::Instant::now();
    while speedy(&check).status.code() != Some(0) {
        assert!(began.elapsed().as_secs() < 30, "the check goes on without its client");
    }
}
