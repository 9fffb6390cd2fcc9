//! Addresses of nodes, parsed once where they enter.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// `HOST:PORT`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 where the system is to choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// Whether the host stands for every interface (`0.0.0.0`, `[::]`): good to listen on, no good to dial.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

/// What others can dial when nothing else was said: the port that was bound, on the host that was asked for.
impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Text is not an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "an address is HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:5000, store-1:7654 or [::1]:5000"
)]
pub struct ParseAddressError;

impl FromStr for HostPort {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseAddressError)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(ParseAddressError)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| ParseAddressError)?;
                inner
            }
            None => host,
        };
        let is_name =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !is_name && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(ParseAddressError);
        }
        // A bare IPv6 address leaves it open where the port begins.
        if host.contains(':') && !text.starts_with('[') {
            return Err(ParseAddressError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `HOST:PORT[,HOST:PORT...]`: the peers of one kind, any of which will do. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressList(Vec<HostPort>);

impl AddressList {
    /// The addresses; at least one.
    pub fn addresses(&self) -> &[HostPort] {
        &self.0
    }
}

impl From<HostPort> for AddressList {
    fn from(address: HostPort) -> Self {
        Self(vec![address])
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

/// Text is not a list of addresses to dial.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseListError {
    /// One of them is no address.
    #[error("{text:?}: {ParseAddressError}")]
    Address {
        /// What stands in its place.
        text: String,
    },
    /// One of them can't be dialled.
    #[error("{0} can't be dialled: a peer's address has a host and a port above 0")]
    Undialable(HostPort),
    /// One stands there twice.
    #[error("{0} is listed twice")]
    Twice(HostPort),
}

impl FromStr for AddressList {
    type Err = ParseListError;

    fn from_str(text: &str) -> Result<Self, ParseListError> {
        let mut addresses: Vec<HostPort> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let address: HostPort =
                part.parse().map_err(|_| ParseListError::Address { text: part.to_owned() })?;
            if address.port == 0 || address.is_wildcard() {
                return Err(ParseListError::Undialable(address));
            }
            if addresses.contains(&address) {
                return Err(ParseListError::Twice(address));
            }
            addresses.push(address);
        }
        Ok(Self(addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text() {
        for text in ["127.0.0.1:5000", "store-1.rack_2:7654", "[::1]:5000", "0.0.0.0:0"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert!("[::]:1".parse::<HostPort>().unwrap().is_wildcard());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":", "host", "host:", ":80", "host:65536", "host:+1", "::1:80", "a b:1", "h/x:1", "[x]:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_hold_peers_that_can_be_dialled_once_each() {
        let list: AddressList = "a:1, b:2".parse().unwrap();
        assert_eq!(list.to_string(), "a:1,b:2");
        for text in ["", "a:1,", "a:1,a:1", "a:0", "0.0.0.0:1"] {
            assert!(text.parse::<AddressList>().is_err(), "{text}");
        }
    }
}
