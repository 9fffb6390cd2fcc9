//! A server, and what runs malformed requests against it.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use speedy_core::blob::{BlobOptions, BlobStore, MemoryFragments};
use speedy_core::budget::Budget;
use speedy_core::digest::Digest;
use speedy_core::meta::{KeyRange, MemoryMeta};
use speedy_services::drain::Drain;
use speedy_services::http::{Connections, Patience, serve_with};
use speedy_services::registry::{Registry, RegistryOptions, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::case::{Case, Expected, Part, SESSION, STRAY, with_body};
use super::v1;

/// How long the server waits for a client.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the test waits for the server.
const LIMIT: Duration = Duration::from_secs(20);

/// Panics of any thread of this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A registry in memory behind the server that the roles run.
pub(crate) struct Server {
    address: SocketAddr,
    blobs: BlobStore,
    /// The digest of a blob of five bytes in the repository `kept`.
    pub(crate) blob: String,
    /// The checksum of the image of v1 that waits for it.
    pub(crate) sum: String,
    /// Tasks that are alive while nothing is under way.
    tasks: usize,
    /// Bytes of the budget that the names take which searches look through.
    held: u64,
}

impl Server {
    pub(crate) async fn start() -> Self {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.fetch_add(1, Ordering::SeqCst);
                before(panic);
            }));
        });
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()));
        let blobs = BlobStore::new(meta, fragments, Budget::new(64 << 20), options);
        let patient = RegistryOptions::default().body_idle(PATIENCE).download_idle(PATIENCE);
        let app = router(Registry::new(blobs.clone(), patient));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Patience::default().head(PATIENCE).send(PATIENCE);
        let drain = Drain::new(Duration::ZERO);
        tokio::spawn(serve_with(listener, app, drain, patience, Connections::default()));
        let digest = Digest::sha256(b"hello").to_string();
        let mut server = Self { address, blobs, blob: digest.clone(), sum: String::new(), tasks: 0, held: 0 };
        let target = format!("POST /v2/kept/blobs/uploads/?digest={digest}");
        let pushed = server.exchange(&with_body(&target, "", "hello")).await.unwrap();
        assert_eq!(pushed.status, 201);
        server.sum = server.push_v1().await;
        assert_eq!(server.exchange(&request("GET", "/v1/search")).await.unwrap().status, 200);
        sleep(Duration::from_millis(200)).await;
        server.tasks = alive();
        server.held = server.held();
        server
    }

    /// Pushes the images that the requests of v1 are about; answers the checksum of the one that waits for it.
    async fn push_v1(&self) -> String {
        let json = |id: &str, parent: &str| format!("{{\"id\":\"{id}\",\"parent\":\"{parent}\"}}");
        let sum = |json: &str| Digest::sha256(format!("{json}\n{}", v1::LAYER).as_bytes()).to_string();
        let headers = format!("x-docker-checksum-payload: {}\r\n", sum(&json(v1::A, "")));
        for (part, headers, body) in [
            (format!("images/{}/json", v1::A), "", json(v1::A, "")),
            (format!("images/{}/layer", v1::A), "", v1::LAYER.to_owned()),
            (format!("images/{}/checksum", v1::A), &*headers, String::new()),
            (format!("images/{}/json", v1::B), "", json(v1::B, v1::A)),
            (format!("images/{}/layer", v1::B), "", v1::LAYER.to_owned()),
            (format!("images/{}/json", v1::D), "", json(v1::D, v1::B)),
            ("repositories/a/b/tags/latest".to_owned(), "", format!("\"{}\"", v1::A)),
        ] {
            let put = self.exchange(&with_body(&format!("PUT /v1/{part}"), headers, body)).await.unwrap();
            assert_eq!(put.status, 200, "{part}: {}", put.text());
        }
        sum(&json(v1::B, v1::A))
    }

    /// Runs a request, and says what was wrong with what came back or was left.
    pub(crate) async fn run(&self, case: &Case) -> Result<(), String> {
        let done = self.run_once(case).await;
        if done.is_err() {
            // The next one is to begin with nothing.
            for upload in self.blobs.uploads(None, 100).await.unwrap() {
                let _ = self.blobs.abort_upload(upload.id).await;
            }
        }
        done
    }

    async fn run_once(&self, case: &Case) -> Result<(), String> {
        let kept = self.kept().await;
        let wants = |placeholder: &str| {
            let sent = case.parts.iter().filter_map(|part| match part {
                Part::Send(bytes) => Some(bytes),
                _ => None,
            });
            sent.into_iter().any(|bytes| find(bytes, placeholder.as_bytes()).is_some())
        };
        let session = match wants(SESSION) || wants(STRAY) {
            true => Some(self.begin().await?),
            false => None,
        };
        let outcome = timeout(LIMIT, self.converse(case, session.as_deref())).await;
        let answers = outcome.map_err(|_| "the server neither answers nor closes".to_owned())?;
        let answer = Answer::read(&answers);
        judge(&case.expected, answer.as_ref())?;
        // What was accepted after all may have begun a session.
        let begun = answer.and_then(|answer| answer.header("location")).filter(|at| at.contains("/uploads/"));
        for location in session.into_iter().chain(begun).collect::<BTreeSet<_>>() {
            let deleted = self.exchange(&request("DELETE", &location)).await?;
            // The request may have ended it.
            if ![204, 404].contains(&deleted.status) {
                return Err(format!("its session can't be ended: {}", deleted.status));
            }
        }
        self.nothing_left(&kept).await
    }

    /// The heads of all answers to what is sent at once over one connection, which the server closes in the end.
    pub(crate) async fn heads(&self, requests: &str) -> Vec<String> {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(requests.as_bytes()).await.unwrap();
        let mut answers = String::new();
        timeout(LIMIT, connection.read_to_string(&mut answers)).await.unwrap().unwrap();
        let heads = answers.split("HTTP/1.1 ").skip(1);
        heads.map(|answer| answer.split("\r\n\r\n").next().unwrap_or_default().to_lowercase()).collect()
    }

    /// Many clients that stall in the middle of something, beside one that does not.
    pub(crate) async fn stall(&self, count: usize) {
        let mut stalled = Vec::new();
        for client in 0..count {
            let mut connection = TcpStream::connect(self.address).await.unwrap();
            let target = match client % 4 {
                0 => "POST /v2/kept/blobs/uploads/?digest=sha256:".to_owned() + &"0".repeat(64),
                1 => "PUT /v2/kept/manifests/stalled".to_owned(),
                2 => format!("PATCH {}", self.begin().await.unwrap()),
                _ => "GET /v2/".to_owned(),
            };
            let head = match client % 4 {
                3 => format!("{target} HTTP/1.1\r\nhost:"),
                _ => format!(
                    "{target} HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n{}",
                    "x".repeat(1500)
                ),
            };
            connection.write_all(head.as_bytes()).await.unwrap();
            stalled.push(connection);
        }
        let begun = Instant::now();
        let content = vec![7; 100_000];
        let target = format!("POST /v2/kept/blobs/uploads/?digest={}", Digest::sha256(&content));
        let pushed = timeout(LIMIT, self.exchange(&with_body(&target, "", &content))).await.unwrap().unwrap();
        assert_eq!(
            pushed.status,
            201,
            "a healthy client beside {count} that stall, after {:?}",
            begun.elapsed()
        );
        for mut connection in stalled {
            let closed = timeout(LIMIT, connection.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "a client that stalls is given up");
        }
        for upload in self.blobs.uploads(None, count).await.unwrap() {
            assert_eq!(upload.offset, 1500, "what came in order is kept");
            self.blobs.abort_upload(upload.id).await.unwrap();
        }
        let kept = self.kept().await;
        self.nothing_left(&kept).await.unwrap();
    }

    /// Sends the parts, and reads all that comes until the server closes the connection.
    async fn converse(&self, case: &Case, session: Option<&str>) -> Vec<u8> {
        let connection = TcpStream::connect(self.address).await.unwrap();
        let (mut incoming, mut outgoing) = connection.into_split();
        let mut answers = Vec::new();
        let send = async {
            for part in &case.parts {
                match part {
                    Part::Send(bytes) => {
                        let bytes = with_session(bytes, session);
                        // The server may have had enough before the end.
                        if outgoing.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                    Part::Rest(time) => sleep(*time).await,
                    Part::Shut => drop(outgoing.shutdown().await),
                    Part::Leave => return true,
                }
            }
            false
        };
        let receive = async {
            let mut buffer = [0; 4096];
            loop {
                match incoming.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => answers.extend_from_slice(&buffer[..count]),
                }
            }
        };
        let (mut send, mut receive) = (std::pin::pin!(send), std::pin::pin!(receive));
        let mut sent = false;
        loop {
            tokio::select! {
                left = &mut send, if !sent => match left {
                    true => break,
                    false => sent = true,
                },
                () = &mut receive => break,
            }
        }
        answers
    }

    async fn begin(&self) -> Result<String, String> {
        let begun = self.exchange(&request("POST", "/v2/kept/blobs/uploads/")).await?;
        begun.header("location").ok_or_else(|| format!("no session can be begun: {}", begun.status))
    }

    async fn exchange(&self, request: &[u8]) -> Result<Answer, String> {
        let trouble = |error: io::Error| format!("the server does not answer any more: {error}");
        let mut connection = TcpStream::connect(self.address).await.map_err(trouble)?;
        connection.write_all(request).await.map_err(trouble)?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.map_err(trouble)?;
        Answer::read(&answer).ok_or_else(|| "the server closes without an answer".to_owned())
    }

    fn held(&self) -> u64 {
        let budget = self.blobs.budget();
        budget.total() - budget.available()
    }

    /// All keys but those of blobs on their way out.
    async fn kept(&self) -> BTreeSet<Bytes> {
        let all = KeyRange { start: Bytes::from_static(b"\0"), end: None };
        let page = self.blobs.meta().scan(all, 10_000).await.unwrap();
        let on_their_way = [&b"b/"[..], b"l/", b"q/", b"c/"];
        let keys = page.entries.into_iter().map(|entry| entry.key);
        keys.filter(|key| !on_their_way.iter().any(|prefix| key.starts_with(prefix))).collect()
    }

    /// Waits until the server is as it was.
    async fn nothing_left(&self, kept: &BTreeSet<Bytes>) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let held = self.held();
            let (tasks, uploads) = (alive(), self.blobs.uploads(None, 10).await.unwrap().len());
            let keys = self.kept().await;
            let panics = PANICS.load(Ordering::SeqCst);
            if (held, uploads, panics) == (self.held, 0, 0) && tasks <= self.tasks && keys == *kept {
                break;
            }
            if panics > 0 || begun.elapsed() > Duration::from_secs(10) {
                PANICS.store(0, Ordering::SeqCst);
                return Err(format!(
                    "left: {held} bytes of the budget where {} were, {tasks} tasks where {} were, {uploads} uploads, {panics} panics, keys {:?}",
                    self.held,
                    self.tasks,
                    keys.symmetric_difference(kept).collect::<Vec<_>>()
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let alive = self.exchange(&request("GET", "/v2/")).await?;
        if alive.status == 200 { Ok(()) } else { Err(format!("the server answers {} then", alive.status)) }
    }
}

fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\n{}\r\n", super::case::HOST).into_bytes()
}

/// The bytes with the session in its place.
fn with_session(bytes: &[u8], session: Option<&str>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(session) = session else { return bytes };
    for (placeholder, text) in [(SESSION, session.to_owned()), (STRAY, session.replace("/kept/", "/other/"))]
    {
        if let Some(at) = find(&bytes, placeholder.as_bytes()) {
            bytes.splice(at..at + placeholder.len(), text.into_bytes());
        }
    }
    bytes
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn judge(expected: &Expected, answer: Option<&Answer>) -> Result<(), String> {
    let status = answer.map(|answer| answer.status);
    let right = match expected {
        Expected::Error(status, code) => {
            answer.is_some_and(|answer| answer.status == *status && answer.code().as_deref() == Some(code))
        }
        Expected::V1(status, words) => answer.is_some_and(|answer| {
            answer.status == *status && answer.words().is_some_and(|text| text.contains(words))
        }),
        Expected::Status(right) => status == Some(*right),
        Expected::OneOf(statuses) => status.is_some_and(|status| statuses.contains(&status)),
        Expected::Nothing => status.is_none_or(|status| [400, 408].contains(&status)),
        Expected::Anything => true,
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "{expected:?} was expected, and {} came",
            answer.map_or("nothing".into(), Answer::text)
        )),
    }
}

/// The first answer in what came, but for those that only say that another will follow.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| head.strip_prefix("HTTP/1.0 "))?
            .get(..3)?
            .parse()
            .ok()?;
        let body = bytes[end + 4..].to_vec();
        if status == 100 { Self::read(&body) } else { Some(Self { status, head, body }) }
    }

    fn header(&self, name: &str) -> Option<String> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    }

    /// The code of the first error, of an answer that has the form of the specification.
    fn code(&self) -> Option<String> {
        let length: usize = self.header("content-length")?.parse().ok()?;
        let body: Value = serde_json::from_slice(self.body.get(..length)?).ok()?;
        let error = &body["errors"][0];
        error["message"].as_str().filter(|message| !message.is_empty())?;
        Some(error["code"].as_str()?.to_owned())
    }

    /// What an error of Docker Registry v1 says.
    fn words(&self) -> Option<String> {
        let version = self.header("x-docker-registry-version")?;
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let members = body.as_object().filter(|members| members.len() == 1 && !version.is_empty())?;
        Some(members.get("error")?.as_str()?.to_owned())
    }

    fn text(&self) -> String {
        format!(
            "{} {}",
            self.status,
            String::from_utf8_lossy(&self.body).chars().take(300).collect::<String>()
        )
    }
}
