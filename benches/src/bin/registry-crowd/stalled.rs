//! A healthy client beside many whose uploads stand still.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use speedy_benches::blobs::{Blob, Blobs};
use speedy_benches::client::Connection;
use speedy_benches::server::Server;
use speedy_benches::{Spread, number};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// When all that the stalled have sent is on stable storage: what came is written after 2 s, and named in a layout after
/// 5 s more.
const SETTLED: Duration = Duration::from_secs(10);

/// What a stalled upload says it will send.
const ANNOUNCED: usize = 1 << 30;

/// Pushes alone and beside the stalled in turns, and prints how fast.
pub(crate) async fn measure(
    server: &Server,
    uploads: usize,
    sent: usize,
    size: usize,
    healthy: usize,
    rounds: usize,
) -> Result<()> {
    // Each is pushed once: a blob that is there already would cost less. One more is to warm up.
    let blobs = Blobs::alike("bench/healthy", 3 * rounds * healthy + 1, size, 1);
    let (warm_up, rest) = blobs.blobs.split_first().context("there is one blob at least")?;
    push(server, blobs.repository, std::slice::from_ref(warm_up)).await?;
    server.take_peak_memory();
    let (mut alone, mut at_once, mut later) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = rest.chunks(healthy);
    let mut next = || left.next().context("a round's blobs");
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        alone.push(push(server, blobs.repository, next()?).await?);
        let crowd = stall(server, uploads, sent).await?;
        let stopped = Instant::now();
        at_once.push(push(server, blobs.repository, next()?).await?);
        tokio::time::sleep(SETTLED.saturating_sub(stopped.elapsed())).await;
        later.push(push(server, blobs.repository, next()?).await?);
        still_there(&crowd)?;
    }
    let (alone, at_once, later) = (Spread::of(alone), Spread::of(at_once), Spread::of(later));
    println!("| one client pushes {} MiB blobs | MiB/s | of its speed alone |", size >> 20);
    println!("| --- | ---: | ---: |");
    println!("| alone | {} | |", alone.text());
    for (when, speed) in [("as they stop", at_once), ("10 s later", later)] {
        let share = number(speed.median / alone.median * 100.0);
        println!("| beside {uploads} stalled uploads, {when} | {} | {share}% |", speed.text());
    }
    println!();
    let peak = server.take_peak_memory() as f64 / (1 << 20) as f64;
    println!("Most anonymous memory: {} MiB. Median of {rounds} rounds, in turns.", number(peak));
    Ok(())
}

/// Pushes one after the other and gives MiB a second.
async fn push(server: &Server, repository: &str, blobs: &[Blob]) -> Result<f64> {
    let mut connection = Connection::open(server.address()).await?;
    let began = Instant::now();
    for blob in blobs {
        connection.push(repository, blob).await?;
    }
    let bytes: usize = blobs.iter().map(Blob::length).sum();
    Ok(bytes as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64())
}

/// Uploads, each on a connection of its own, that have sent so many bytes of their body and send no more.
async fn stall(server: &Server, uploads: usize, sent: usize) -> Result<Vec<TcpStream>> {
    let address = server.address();
    let some = vec![7; sent];
    let mut crowd = Vec::with_capacity(uploads);
    for _ in 0..uploads {
        let mut stream = TcpStream::connect(address).await.context("connecting to the registry")?;
        let begin = format!(
            "POST /v2/bench/stalled/blobs/uploads/ HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(begin.as_bytes()).await?;
        let location = location_of(&read_head(&mut stream).await?)?;
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {ANNOUNCED}\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&some).await?;
        crowd.push(stream);
    }
    Ok(crowd)
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.context("reading the answer")?);
    }
    Ok(String::from_utf8(head)?)
}

fn location_of(head: &str) -> Result<String> {
    ensure!(head.starts_with("HTTP/1.1 202 "), "an upload does not begin: {head}");
    let is_location = |line: &&str| line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("location:"));
    let line = head.lines().find(is_location).context("an upload without a Location")?;
    Ok(line[9..].trim().to_owned())
}

/// Sees that none of them was answered or closed meanwhile: then they would not have been beside anybody.
fn still_there(crowd: &[TcpStream]) -> Result<()> {
    for stream in crowd {
        match stream.try_read(&mut [0; 256]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(count) => anyhow::bail!("a stalled upload was ended during a round ({count} bytes came)"),
            Err(error) => return Err(error).context("a stalled upload broke off"),
        }
    }
    Ok(())
}
