use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

/// A server of one slow page, and what lets the page go on.
async fn start(drain: &Drain) -> (SocketAddr, Arc<Notify>, tokio::task::JoinHandle<()>) {
    let go = Arc::new(Notify::new());
    let page = {
        let go = Arc::clone(&go);
        get(async move || {
            go.notified().await;
            "done"
        })
    };
    let peer = get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string());
    let router = Router::new().route("/slow", page).route("/peer", peer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, router, drain.clone()));
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
