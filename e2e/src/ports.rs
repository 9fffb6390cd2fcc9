//! Ports that stay free until a server takes them.

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Loopback addresses with ports that nobody uses, and that the kernel gives to nobody who does not name them.
///
/// A port that the kernel chose (port 0) is one of those that it gives to outgoing connections too: between its choice
/// and the start of a server there, any client on the machine may get it. So these are chosen outside that range.
///
/// # Errors
/// When there are not enough.
pub fn free_addresses<const COUNT: usize>() -> Result<[SocketAddr; COUNT]> {
    let ports = never_given();
    let mut found = [SocketAddr::from(([127, 0, 0, 1], 0)); COUNT];
    for address in &mut found {
        *address = ports
            .clone()
            .map(|_| SocketAddr::from(([127, 0, 0, 1], next_of(&ports))))
            .find(|candidate| TcpListener::bind(candidate).is_ok())
            .with_context(|| format!("all ports from {} to {} are in use", ports.start, ports.end - 1))?;
    }
    Ok(found)
}

/// Goes around the ports, so that none comes twice soon. Programs that run at once begin at different places.
fn next_of(ports: &Range<u16>) -> u16 {
    static STEP: AtomicU32 = AtomicU32::new(0);
    let step = u64::from(STEP.fetch_add(1, Ordering::Relaxed)) + u64::from(std::process::id()) * 101;
    let offset = step % u64::from(ports.end - ports.start);
    ports.start + u16::try_from(offset).expect("less than the number of ports")
}

/// The larger stretch of ports above those of well-known services that the kernel gives to no outgoing connection.
fn never_given() -> Range<u16> {
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = given.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    // Linux's own default, if it is hidden.
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    let (below, above) = (10_240..low.max(10_240), high.min(65_534) + 1..65_535);
    if below.len() >= above.len() { below } else { above }
}
