//! Bare connections: what the links carry without anything in between.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::Result;
use speedy_e2e::Host;

const PORT: u16 = 9;
const PIECE: usize = 1 << 20;

/// Seconds that so many bytes a pair of hosts take from its first to its second, over so many connections each.
pub(crate) fn seconds(pairs: &[(Host, Host)], bytes: usize, connections: usize) -> Result<f64> {
    let pieces = (bytes / connections / PIECE).max(1);
    let sides: Vec<_> =
        pairs.iter().map(|(from, to)| connect(from, to, connections)).collect::<Result<_>>()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let mut work = Vec::new();
        for (sends, receives) in sides {
            work.extend(sends.into_iter().map(|stream| scope.spawn(move || send(stream, pieces))));
            work.extend(receives.into_iter().map(|stream| scope.spawn(move || receive(stream))));
        }
        work.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    // Threads start one by one and connections share unevenly, so a little more or less than asked for may have gone.
    Ok(began.elapsed().as_secs_f64() * bytes as f64 / (pieces * PIECE * connections) as f64)
}

fn connect(from: &Host, to: &Host, connections: usize) -> Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let address = SocketAddr::from((to.address(), PORT));
    let listener = to.run(|| Ok(TcpListener::bind(address)?))?;
    let mut ends = (Vec::new(), Vec::new());
    for _ in 0..connections {
        ends.0.push(from.run(|| Ok(TcpStream::connect(address)?))?);
        ends.1.push(listener.accept()?.0);
    }
    Ok(ends)
}

fn send(mut stream: TcpStream, pieces: usize) -> Result<()> {
    let piece = vec![7; PIECE];
    for _ in 0..pieces {
        stream.write_all(&piece)?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream) -> Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(())
}
