use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, put};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

/// A server of one slow page, and what lets the page go on.
async fn start(drain: &Drain) -> (SocketAddr, Arc<Notify>, tokio::task::JoinHandle<()>) {
    start_with(drain, Connections::default()).await
}

async fn start_with(
    drain: &Drain,
    connections: Connections,
) -> (SocketAddr, Arc<Notify>, tokio::task::JoinHandle<()>) {
    let go = Arc::new(Notify::new());
    let page = {
        let go = Arc::clone(&go);
        get(async move || {
            go.notified().await;
            "done"
        })
    };
    let peer = get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string());
    // The largest piece in which a body came, which was all there when it was read.
    let pieces = put(async |body: Body| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (mut body, mut most) = (body, 0);
        while let Some(frame) = body.frame().await {
            most = most.max(frame.unwrap().data_ref().map_or(0, |data| data.len()));
        }
        most.to_string()
    });
    let router = Router::new().route("/slow", page).route("/peer", peer).route("/pieces", pieces);
    let router = router.route("/kept", get(async || StatusCode::NOT_MODIFIED));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = serve_with(listener, router, drain.clone(), Patience::default(), connections);
    let server = tokio::spawn(served);
    (address, go, server)
}

async fn request(address: SocketAddr, path: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let drain = Drain::new(Duration::from_secs(30));
    let (address, go, server) = start(&drain).await;
    let mut slow = request(address, "/slow").await;
    let idle = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drain.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(address).await.is_err(), "no new connection is taken");
    go.notify_one();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    // The idle connection is closed rather than waited for.
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn clients_that_keep_connections_are_sent_elsewhere_before_the_drain() {
    let drain = Drain::new(Duration::from_secs(30));
    let (address, go, server) = start(&drain).await;
    let (mut kept, mut resting) = (request(address, "/peer").await, request(address, "/peer").await);
    for connection in [&mut kept, &mut resting] {
        assert!(!answer(connection).await.contains("connection: close"));
    }
    let mut slow = request(address, "/slow").await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let page = format!("http://{address}/peer");
    assert_eq!(client.get(&page).send().await.unwrap().status(), 200);
    drain.announce();
    // What was under way, what comes on a connection that was kept, and what comes on a new one.
    go.notify_one();
    kept.write_all(b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut new = request(address, "/peer").await;
    for connection in [&mut slow, &mut kept, &mut new] {
        let mut last = String::new();
        connection.read_to_string(&mut last).await.unwrap();
        assert!(last.starts_with("HTTP/1.1 200") && last.contains("connection: close"), "{last}");
    }
    assert_eq!(client.get(&page).send().await.unwrap().status(), 200, "HTTP/2 goes on until the end");
    let early = tokio::time::timeout(Duration::from_millis(300), resting.read_u8()).await;
    assert!(early.is_err(), "a request could be on its way: {early:?}");
    drain.start();
    assert_eq!(resting.read(&mut [0]).await.unwrap(), 0, "it is closed in order");
    // The connection of HTTP/2 has been told to go.
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let drain = Drain::new(Duration::from_millis(200));
    let (address, _go, server) = start(&drain).await;
    let _slow = request(address, "/slow").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drain.start();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_the_client_is_known() {
    let drain = Drain::new(Duration::ZERO);
    let (address, _go, server) = start(&drain).await;
    for client in [
        reqwest::Client::builder().http1_only().build().unwrap(),
        reqwest::Client::builder().http2_prior_knowledge().build().unwrap(),
    ] {
        let answer = client.get(format!("http://{address}/peer")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "127.0.0.1");
    }
    drain.start();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_sent_again_has_no_length() {
    let drain = Drain::new(Duration::ZERO);
    let (address, _go, _server) = start(&drain).await;
    for client in [
        reqwest::Client::builder().http1_only().build().unwrap(),
        reqwest::Client::builder().http2_prior_knowledge().build().unwrap(),
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
            let answer = client.request(method, format!("http://{address}/kept")).send().await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.headers().get(CONTENT_LENGTH)), (304, None));
        }
    }
}

/// An answer that is not the last of its connection.
async fn answer(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("127.0.0.1") {
        let byte = connection.read_u8().await.unwrap();
        text.push(char::from(byte));
    }
    text
}

#[tokio::test]
async fn connections_above_the_limit_wait_and_those_that_rest_make_room() {
    let connections = Connections::at_most(std::num::NonZeroU32::new(2), None);
    let metrics = crate::admin::Metrics::new("test");
    connections.register(&metrics);
    let drain = Drain::new(Duration::ZERO);
    let (address, go, server) = start_with(&drain, connections).await;
    let slow = request(address, "/slow").await;
    let mut resting = request(address, "/peer").await;
    let first = answer(&mut resting).await;
    assert!(!first.contains("connection: close"), "nobody waits: {first}");
    let page = metrics.encode();
    assert!(
        page.contains("speedy_http_connections 2\n") && page.contains("speedy_http_connections_most 2\n")
    );
    assert!(page.contains("speedy_http_connections_full_total 0\n"), "{page}");

    let mut late = request(address, "/peer").await;
    let early = tokio::time::timeout(Duration::from_millis(300), late.read_u8()).await;
    assert!(early.is_err(), "it is answered while two others are open");
    assert!(metrics.encode().contains("speedy_http_connections_full_total 1\n"));
    // One that has been answered gives way.
    resting.write_all(b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut last = String::new();
    resting.read_to_string(&mut last).await.unwrap();
    assert!(last.contains("connection: close"), "{last}");
    let answered = tokio::time::timeout(Duration::from_secs(5), answer(&mut late)).await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 200") && !answered.contains("connection: close"), "{answered}");

    // One that waits does not hold up the end of the process.
    let waiting = request(address, "/peer").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drain.start();
    go.notify_one();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    while !metrics.encode().contains("speedy_http_connections 0\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((slow, waiting));
}

#[tokio::test]
async fn little_is_read_ahead_of_a_request_and_a_head_of_60_kib_is_taken() {
    let drain = Drain::new(Duration::ZERO);
    let (address, _go, _server) = start(&drain).await;
    let client = reqwest::Client::builder().http1_only().build().unwrap();
    let answer = client.put(format!("http://{address}/pieces")).body(vec![0; 4 << 20]).send().await.unwrap();
    let most: usize = answer.text().await.unwrap().parse().unwrap();
    // The parser fills what it has allocated, which may be twice as much.
    assert!((1..=128 << 10).contains(&most), "{most} bytes at once");
    for (length, status) in [(60 << 10, 200), (70 << 10, 431)] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /peer HTTP/1.1\r\nhost: x\r\nx: {}\r\nconnection: close\r\n\r\n",
            "y".repeat(length)
        );
        // It may be refused before all of it has been sent.
        let _ = connection.write_all(head.as_bytes()).await;
        let mut answer = vec![0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes(), "{length}");
    }
}
