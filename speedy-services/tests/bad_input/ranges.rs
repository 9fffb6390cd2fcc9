//! Ranges of blobs that are read, and of chunks that are uploaded.

use super::case::{Case, Expected, HOST, SESSION, with_body};

/// Of a blob of 5 bytes.
pub(crate) fn reads(blob: &str) -> Vec<Case> {
    let case = |range: &str, expected| {
        let request = format!("GET /v2/kept/blobs/{blob} HTTP/1.1\r\n{HOST}range: {range}\r\n\r\n");
        Case::new(format!("Range: {range}"), request, expected)
    };
    let unsatisfiable = Expected::Error(416, "RANGE_INVALID");
    let mut cases: Vec<Case> = [
        "bytes=5-",
        "bytes=5-9",
        "bytes=99999999999999999999-",
        "bytes=18446744073709551615-",
        "bytes=-0",
        "bytes=4-2",
    ]
    .map(|range| case(range, unsatisfiable.clone()))
    .into();
    // What is not a range of bytes by the grammar is to be ignored.
    for range in [
        "bytes=",
        "bytes=-",
        "bytes",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1-2-3",
        "lines=0-1",
        "bytes=0-1,3-4",
        "bytes=0-,0-,0-,0-",
        "0-1",
        "bytes=\u{661}-\u{662}",
        "bytes==0-1",
        "bytes=0-1;q=1",
    ] {
        cases.push(case(range, Expected::Status(200)));
    }
    let many = format!("bytes={}", vec!["0-0"; 5000].join(","));
    cases.push(Case { name: "5000 ranges".into(), ..case(&many, Expected::Status(200)) });
    cases
}

/// Of chunks of 5 bytes, in a session that holds nothing.
pub(crate) fn writes() -> Vec<Case> {
    let case = |method: &str, query: &str, range: &str, expected| {
        let headers = format!("content-range: {range}\r\n");
        let request = with_body(&format!("{method} {SESSION}{query}"), &headers, "hello");
        Case::new(format!("{method} with Content-Range: {range}"), request, expected)
    };
    let mut cases = Vec::new();
    for range in [
        "",
        "x",
        "-",
        "0-",
        "-4",
        "4-0",
        "a-b",
        "bytes */5",
        "bytes 0-",
        "+0-4",
        "0x0-0x4",
        "0-18446744073709551615",
        "0-4-8",
        "0--4",
        "\u{660}-\u{664}",
        "1.0-4",
        "0,4",
        "lines 0-4",
        "5-9",
        "18446744073709551610-18446744073709551614",
    ] {
        cases.push(case("PATCH", "", range, Expected::Error(416, "RANGE_INVALID")));
    }
    for range in ["0-3", "0-5", "0-0", "0-99999999"] {
        cases.push(case("PATCH", "", range, Expected::Error(400, "SIZE_INVALID")));
    }
    let digest = "?digest=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    cases.push(case("PUT", digest, "5-9", Expected::Error(416, "RANGE_INVALID")));
    cases.push(case("PUT", digest, "0-3", Expected::Error(400, "SIZE_INVALID")));
    cases.push(case("PUT", digest, "x", Expected::Error(416, "RANGE_INVALID")));
    cases
}
