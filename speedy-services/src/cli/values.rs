use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::address::{HostPort, ParseAddressError};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// In the largest unit that leaves no rest.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, unit) in UNITS {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Text is not a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a size is a whole number of bytes, or of KiB, MiB, GiB or TiB, such as 256MiB")]
pub struct ParseSizeError;

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let (number, unit) = split_unit(text).ok_or(ParseSizeError)?;
        let unit = match unit {
            "" | "B" => 1,
            unit => UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(ParseSizeError)?.1,
        };
        number.checked_mul(unit).map(Self).ok_or(ParseSizeError)
    }
}

/// A whole number and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// What an option of bytes a second takes.
pub(super) fn rate(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: ParseSizeError| error.to_string())?;
    if size.bytes() == 0 {
        Err("nothing would ever be done; leave it out for no limit".into())
    } else {
        Ok(size)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// What `--memory-budget` takes.
pub(super) fn memory_budget(text: &str) -> Result<Size, String> {
    const BOUNDS: RangeInclusive<Size> = Size(32 << 20)..=Size(1 << 40);
    let size: Size = text.parse().map_err(|error: ParseSizeError| error.to_string())?;
    match BOUNDS.contains(&size) {
        true => Ok(size),
        false => Err(format!("it must be between {} and {}", BOUNDS.start(), BOUNDS.end())),
    }
}

/// What `--drain-timeout` takes.
pub(super) fn drain_timeout(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let duration = duration(text).ok_or(
        "a duration is a whole number of ms, s, m, h or d, such as 30s; it must be between 0s and 1h",
    )?;
    match duration <= LONGEST {
        true => Ok(duration),
        false => Err("it must be between 0s and 1h".to_owned()),
    }
}

/// How long something is kept, or rests; `None` for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age(pub Option<Duration>);

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);

fn bounded(text: &str, bounds: RangeInclusive<Duration>, spoken: &str) -> Result<Duration, String> {
    let duration = duration(text).ok_or_else(|| {
        format!("a duration is a whole number of ms, s, m, h or d, such as 24h; it must be {spoken}")
    })?;
    match bounds.contains(&duration) {
        true => Ok(duration),
        false => Err(format!("it must be {spoken}")),
    }
}

fn off_or(text: &str, bounds: RangeInclusive<Duration>, spoken: &str) -> Result<Age, String> {
    if text == "off" { Ok(Age(None)) } else { bounded(text, bounds, spoken).map(|age| Age(Some(age))) }
}

/// What `--gc-untagged` and `--gc-unreferenced` take.
pub(super) fn kept_for(text: &str) -> Result<Age, String> {
    off_or(text, MINUTE..=TEN_YEARS, "off, or between 1m and 3650d")
}

/// What the same options of `speedy gc run` take.
pub(super) fn kept_for_in_a_run(text: &str) -> Result<Age, String> {
    off_or(text, Duration::ZERO..=TEN_YEARS, "off, or between 0s and 3650d")
}

/// What `--gc-interval` takes.
pub(super) fn gc_interval(text: &str) -> Result<Age, String> {
    off_or(text, Duration::from_secs(1)..=30 * DAY, "off, or between 1s and 30d")
}

/// What `--gc-uploads` takes.
pub(super) fn uploads_kept_for(text: &str) -> Result<Duration, String> {
    bounded(text, MINUTE..=365 * DAY, "between 1m and 365d")
}

/// What `--gc-grace` takes.
pub(super) fn gc_grace(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_secs(1)..=7 * DAY, "between 1s and 7d")
}

/// What `--drain-delay` takes.
pub(super) fn drain_delay(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::ZERO..=Duration::from_secs(600), "between 0s and 10m")
}

/// A duration without bounds.
pub(super) fn any_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "a duration is a whole number of ms, s, m, h or d, such as 6h".to_owned())
}

/// The most bytes of something, if there is a limit. Of this type because an option of `Option` is one that may be absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeLimit(Option<Size>);

impl SizeLimit {
    /// The limit; `None` where it is off.
    pub fn size(self) -> Option<Size> {
        self.0
    }
}

/// The most of something that is counted, if there is a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountLimit(Option<NonZeroU32>);

impl CountLimit {
    /// The limit; `None` where it is off.
    pub fn count(self) -> Option<NonZeroU32> {
        self.0
    }
}

/// What `--max-blob` takes. It leaves room for every manifest.
pub(super) fn largest_blob(text: &str) -> Result<SizeLimit, String> {
    const BOUNDS: RangeInclusive<Size> = Size(4 << 20)..=Size(64 << 40);
    if text == "off" {
        return Ok(SizeLimit(None));
    }
    let size: Size = text.parse().map_err(|error: ParseSizeError| format!("{error}, or off"))?;
    match BOUNDS.contains(&size) {
        true => Ok(SizeLimit(Some(size))),
        false => Err(format!("it must be off or between {} and {}", BOUNDS.start(), BOUNDS.end())),
    }
}

/// A number from 1 to a million.
pub(super) fn count(text: &str) -> Result<NonZeroU32, String> {
    const MOST: u32 = 1_000_000;
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<NonZeroU32>().ok());
    number
        .flatten()
        .filter(|number| number.get() <= MOST)
        .ok_or_else(|| format!("it must be a whole number between 1 and {MOST}"))
}

/// A number a second, from 1 on.
pub(super) fn pace(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("it must be a whole number between 1 and {}", u32::MAX))
}

/// A number from 1 to a million, or off.
pub(super) fn count_limit(text: &str) -> Result<CountLimit, String> {
    match text {
        "off" => Ok(CountLimit(None)),
        number => {
            count(number).map(|count| CountLimit(Some(count))).map_err(|error| format!("{error}, or off"))
        }
    }
}

/// An address, or a network of addresses.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| "it must be an IP address or a network, such as 10.0.0.7 or 10.0.0.0/8".to_owned())
}

/// What clients are told of read-only mode.
pub(super) fn reason(text: &str) -> Result<String, String> {
    use crate::registry::MAX_REASON;
    match text.len() <= MAX_REASON && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(format!("it must be one line of at most {MAX_REASON} bytes")),
    }
}

/// Where the admin pages are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminAddress {
    /// Nowhere.
    Off,
    /// Here.
    At(HostPort),
}

impl AdminAddress {
    /// Above the listening port by so much, on the loopback interface, when nothing was said.
    const STEP: u16 = 10_000;

    /// The admin address of a process that listens on this port and was told no other.
    pub fn default_for(port: u16) -> HostPort {
        let loopback = HostPort::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        match port.checked_add(Self::STEP) {
            Some(admin) if port != 0 => loopback.with_port(admin),
            _ => loopback,
        }
    }
}

impl FromStr for AdminAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_their_text() {
        for (text, bytes) in
            [("0B", 0), ("1023B", 1023), ("1KiB", 1024), ("256MiB", 256 << 20), ("3TiB", 3 << 40)]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("4096".parse(), Ok(Size::new(4096)));
        assert_eq!("1 GiB".parse(), Ok(Size::new(1 << 30)));
        for text in ["", "MiB", "-1", "1.5GiB", "1MB", "1mib", "99999999999TiB", "1 MiB "] {
            assert_eq!(text.parse::<Size>(), Err(ParseSizeError), "{text}");
        }
    }

    #[test]
    fn values_out_of_bounds_name_the_bounds() {
        assert_eq!(memory_budget("1GiB"), Ok(Size::new(1 << 30)));
        assert_eq!(memory_budget("1MiB"), Err("it must be between 32MiB and 1TiB".into()));
        assert_eq!(drain_timeout("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(drain_timeout("0s"), Ok(Duration::ZERO));
        assert_eq!(drain_timeout("2h"), Err("it must be between 0s and 1h".into()));
        assert!(drain_timeout("30").unwrap_err().contains("such as 30s"));
        assert_eq!(kept_for("off"), Ok(Age(None)));
        assert_eq!(kept_for("30d"), Ok(Age(Some(30 * DAY))));
        assert_eq!(kept_for("59s"), Err("it must be off, or between 1m and 3650d".into()));
        assert_eq!(kept_for_in_a_run("0s"), Ok(Age(Some(Duration::ZERO))));
        assert!(gc_grace("0s").is_err() && gc_interval("1s").is_ok() && uploads_kept_for("366d").is_err());
        assert!(kept_for("1w").unwrap_err().contains("such as 24h"));
    }

    #[test]
    fn limits_are_off_or_within_bounds() {
        assert_eq!(largest_blob("off"), Ok(SizeLimit(None)));
        assert_eq!(largest_blob("10GiB").unwrap().size(), Some(Size::new(10 << 30)));
        assert!(largest_blob("1MiB").unwrap_err().contains("between 4MiB and 64TiB"));
        assert!(largest_blob("none").unwrap_err().ends_with(", or off"));
        assert_eq!(count_limit("off"), Ok(CountLimit(None)));
        assert_eq!(count_limit("7").unwrap().count(), NonZeroU32::new(7));
        for text in ["0", "-1", "+1", "1000001", "", "x", "1.5"] {
            assert!(count_limit(text).unwrap_err().contains("between 1 and 1000000"), "{text}");
        }
        assert_eq!(pace("4294967295"), Ok(NonZeroU32::MAX));
        for text in ["0", "-1", "4294967296", "", "x"] {
            assert_eq!(
                pace(text),
                Err("it must be a whole number between 1 and 4294967295".into()),
                "{text}"
            );
        }
        assert_eq!(drain_delay("10m"), Ok(Duration::from_secs(600)));
        assert!(drain_delay("11m").is_err() && drain_delay("10").is_err());
    }

    #[test]
    fn proxies_are_addresses_or_networks() {
        for (text, network_of) in
            [("10.0.0.7", "10.0.0.7/32"), (" ::1", "::1/128"), ("10.0.0.0/8", "10.0.0.0/8")]
        {
            assert_eq!(network(text).unwrap().to_string(), network_of);
        }
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0", "10.0.0.1:80"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn admin_is_off_loopback_or_somewhere() {
        assert_eq!("off".parse(), Ok(AdminAddress::Off));
        assert_eq!(AdminAddress::default_for(5000).to_string(), "127.0.0.1:15000");
        assert_eq!(AdminAddress::default_for(0).to_string(), "127.0.0.1:0");
        assert_eq!(AdminAddress::default_for(60_000).to_string(), "127.0.0.1:0");
    }
}
