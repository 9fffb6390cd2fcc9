//! What clients are told when storage fails, and what the operator finds in the log.

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use speedy_core::id::{FileId, GroupId, Owner};
use speedy_core::payload::Payload;
use speedy_core::replicate::Blocks;
use speedy_core::replicate::{FragmentError, FragmentPage, ListCursor};

use super::*;

const WELL: u8 = 0;
const FULL: u8 = 1;
const AWAY: u8 = 2;
const LOST: u8 = 3;

/// Fragments that fail as they are told.
#[derive(Debug, Default)]
struct Failing {
    memory: MemoryFragments,
    how: AtomicU8,
}

impl Failing {
    fn check(&self, file: Option<FileId>) -> Result<(), FragmentError> {
        match (self.how.load(Ordering::Relaxed), file) {
            (FULL, None) => Err(FragmentError::Full("secret-host has no room".into())),
            (AWAY, _) => Err(FragmentError::Unavailable("secret-host does not answer".into())),
            (LOST, Some(file)) => Err(FragmentError::NotFound(file)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Fragments for Failing {
    async fn write(&self, owner: Owner, payload: Payload) -> Result<FileId, FragmentError> {
        self.check(None)?;
        self.memory.write(owner, payload).await
    }

    async fn write_in(
        &self,
        group: GroupId,
        owner: Owner,
        payload: Payload,
    ) -> Result<FileId, FragmentError> {
        self.check(None)?;
        self.memory.write_in(group, owner, payload).await
    }

    async fn read(
        &self,
        file: FileId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Blocks, FragmentError>>, FragmentError> {
        self.check(Some(file))?;
        self.memory.read(file, range).await
    }

    async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        self.memory.delete(file).await
    }

    async fn list(&self, cursor: Option<ListCursor>, limit: usize) -> Result<FragmentPage, FragmentError> {
        self.memory.list(cursor, limit).await
    }
}

#[tokio::test]
async fn storage_that_fails_is_answered_with_what_to_do() {
    let failing = Arc::new(Failing::default());
    let options = RegistryOptions::default();
    let server = Server::over(Arc::new(MemoryMeta::new()), failing.clone(), options).await;
    let content = pattern(3000);
    let digest = server.push_blob("a", &content).await;
    let blob = format!("/v2/a/blobs/{digest}");
    let other = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"other"));
    for (how, read, write) in [
        (FULL, (200, ""), (507, "UNAVAILABLE")),
        (AWAY, (503, "UNAVAILABLE"), (503, "UNAVAILABLE")),
        (LOST, (500, "UNKNOWN"), (201, "")),
        (WELL, (200, ""), (201, "")),
    ] {
        failing.how.store(how, Ordering::Relaxed);
        let got = server.get(&blob).await;
        let put = server.request(Method::POST, &other).body("other").send().await.unwrap();
        for (response, (status, name)) in [(got, read), (put, write)] {
            assert_eq!(header(&response, "retry-after").is_empty(), status != 503, "{how}");
            if name.is_empty() {
                assert_eq!(response.status(), status, "{how}");
            } else {
                assert_eq!(error(response).await, code(status, name), "{how}");
            }
        }
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps a log.
struct Guard {
    _log: tracing::subscriber::DefaultGuard,
    // As long as there is only one subscriber, a line that another thread reaches first, where nothing is logged, counts
    // as of no interest to anybody.
    _second: tracing::Dispatch,
}

/// The log of this thread, and so of all that its runtime runs, while the guard is there.
fn log() -> (Lines, Guard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    (lines, Guard { _log: tracing::subscriber::set_default(subscriber), _second: second })
}

/// The log's lines with this request id, once there is one.
async fn lines_of(log: &Lines, id: &str) -> Vec<Value> {
    for _ in 0..100 {
        let text = String::from_utf8(log.0.lock().clone()).unwrap();
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let found: Vec<Value> = lines.into_iter().filter(|line| line["fields"]["request_id"] == id).collect();
        if found.iter().any(|line| line["target"] == "access") {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no line of request {id}");
}

#[tokio::test]
async fn every_request_has_a_line_and_an_id() {
    let (log, _guard) = log();
    let failing = Arc::new(Failing::default());
    let options = RegistryOptions::default();
    let server = Server::over(Arc::new(MemoryMeta::new()), failing.clone(), options).await;
    let digest = server.push_blob("a", &pattern(3000)).await;
    let path = format!("/v2/a/blobs/{digest}");

    let get = server.request(Method::GET, &path).header("x-request-id", "test-get").send().await.unwrap();
    assert_eq!(header(&get, "x-request-id"), "test-get");
    get.bytes().await.unwrap();
    let line = &lines_of(&log, "test-get").await[0]["fields"];
    assert_eq!((&line["method"], &line["status"], &line["sent"]), (&json!("GET"), &json!(200), &json!(3000)));
    assert_eq!((&line["path"], &line["end"]), (&json!(path), &json!("complete")));
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["ms"].as_f64().unwrap() > 0.0);

    let post =
        server.request(Method::POST, &format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"abc")));
    let post = post.body("abc").send().await.unwrap();
    let id = header(&post, "x-request-id").to_owned();
    let line = &lines_of(&log, &id).await[0]["fields"];
    assert_eq!((&line["received"], &line["sent"], &line["end"]), (&json!(3), &json!(0), &json!("complete")));

    // What the client is not told is in the log, under the id that it is told.
    failing.how.store(AWAY, Ordering::Relaxed);
    let failed = server.request(Method::GET, &path).header("x-request-id", "test-away").send().await.unwrap();
    assert!(!failed.text().await.unwrap().contains("secret-host"));
    let lines = lines_of(&log, "test-away").await;
    assert!(
        lines.iter().any(|line| line["fields"]["cause"].as_str().is_some_and(|c| c.contains("secret-host")))
    );
    failing.how.store(WELL, Ordering::Relaxed);

    // A client that does not wait for the end.
    let large = server.push_blob("a", &vec![1; 32 << 20]).await;
    let request = format!("GET /v2/a/blobs/{large} HTTP/1.1\r\nhost: x\r\nx-request-id: test-abort\r\n\r\n");
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    connection.read_exact(&mut [0; 1000]).await.unwrap();
    drop(connection);
    let line = &lines_of(&log, "test-abort").await[0]["fields"];
    assert_eq!((&line["status"], &line["end"]), (&json!(200), &json!("aborted")));
    assert!(line["sent"].as_u64().unwrap() < 32 << 20);
}
