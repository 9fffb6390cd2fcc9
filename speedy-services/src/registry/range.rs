//! Ranges: which bytes of a blob a client asks for, and where in an upload it says that its bytes belong.

use std::ops::Range;

/// What a `Range` header asks of a blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::registry) enum Requested {
    /// All of it: there is no range, or one that is to be ignored (another unit, bad syntax, several ranges).
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that it does not have, or none: an end before the beginning.
    Unsatisfiable,
}

/// Reads a `Range` header against a blob of `size` bytes, as RFC 9110 says.
pub(in crate::registry) fn requested(header: &str, size: u64) -> Requested {
    let Some((first, last)) = header
        .split_once('=')
        .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))
        .and_then(|(_, set)| set.trim().split_once('-'))
    else {
        return Requested::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        // Invalid by RFC 9110, which leaves it to the server whether to refuse it: the client has miscounted, and would
        // take the whole blob for the end of it.
        (Some(_), Some(_)) => return Requested::Unsatisfiable,
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Requested::Whole,
    };
    if range.is_empty() { Requested::Unsatisfiable } else { Requested::Part(range) }
}

/// Digits only: no sign, no blank. What does not fit is beyond every blob.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads the `Content-Range` of an upload's chunk: `FIRST-LAST`, as the distribution specification writes it, or with
/// the `bytes` and the total of RFC 9110.
pub(super) fn content_range(header: &str) -> Option<Range<u64>> {
    let header = header.trim();
    let header = header.strip_prefix("bytes").map_or(header, |rest| rest.trim_start_matches([' ', '=']));
    let range = header.split_once('/').map_or(header, |(range, _total)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (first <= last && last < u64::MAX).then(|| first..last + 1)
}

/// The `Range` header of an upload that holds `offset` bytes: inclusive, and `0-0` for none, as everyone writes it.
pub(super) fn held(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blobs() {
        use Requested::{Part, Unsatisfiable, Whole};
        for (header, size, expected) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=2-4", 10, Part(2..5)),
            ("bytes=2-", 10, Part(2..10)),
            ("bytes=9-", 10, Part(9..10)),
            ("bytes=0-99", 10, Part(0..10)),
            ("bytes=-3", 10, Part(7..10)),
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-99", 10, Part(0..10)),
            ("BYTES=1-1", 10, Part(1..2)),
            ("bytes=0-18446744073709551615", 10, Part(0..10)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=4-2", 10, Unsatisfiable),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=0x1-2", 10, Whole),
            ("lines=0-1", 10, Whole),
            ("0-1", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(requested(header, size), expected, "{header} of {size}");
        }
    }

    #[test]
    fn ranges_of_chunks() {
        for (header, expected) in [
            ("0-9", Some(0..10)),
            ("10-10", Some(10..11)),
            (" 0-9 ", Some(0..10)),
            ("bytes 0-9/*", Some(0..10)),
            ("bytes=0-9/10", Some(0..10)),
            ("0-9/10", Some(0..10)),
            ("9-0", None),
            ("0-18446744073709551615", None),
            ("0-", None),
            ("-9", None),
            ("a-b", None),
            ("bytes */10", None),
            ("", None),
        ] {
            assert_eq!(content_range(header), expected, "{header}");
        }
    }

    #[test]
    fn what_an_upload_holds_is_inclusive() {
        assert_eq!((held(0), held(1), held(1024)), ("0-0".into(), "0-0".into(), "0-1023".into()));
    }
}
