//! Requests that no client library sends: heads that are no heads, lengths that contradict each other, and chunked encoding
//! that is none.

use super::case::{Case, Expected, HOST, Part, SESSION, framed};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

fn head(name: &str, text: impl AsRef<[u8]>, status: u16) -> Case {
    Case::new(format!("head: {name}"), text, Expected::Status(status))
}

pub(crate) fn heads() -> Vec<Case> {
    let fields = |count: usize| -> String { (0..count).map(|field| format!("x-{field}: y\r\n")).collect() };
    let mut cases = vec![
        head("no HTTP", "hello\r\n\r\n", 400),
        head("a TLS greeting", [22, 3, 1, 0, 5, 1, 0, 0, 1, 0, b'\r', b'\n', b'\r', b'\n'], 400),
        head("no version", format!("GET /v2/\r\n{HOST}\r\n"), 400),
        head("an unknown version", format!("GET /v2/ HTTP/1.2\r\n{HOST}\r\n"), 400),
        head("version 3 in words", format!("GET /v2/ HTTP/3.0\r\n{HOST}\r\n"), 400),
        head("a version in small letters", format!("GET /v2/ http/1.1\r\n{HOST}\r\n"), 400),
        head("two blanks", format!("GET  /v2/ HTTP/1.1\r\n{HOST}\r\n"), 400),
        head("a method with a bracket", format!("G(T /v2/ HTTP/1.1\r\n{HOST}\r\n"), 400),
        head("a target without a slash", format!("GET v2/ HTTP/1.1\r\n{HOST}\r\n"), 400),
        head("a NUL in the target", format!("GET /v2/\0 HTTP/1.1\r\n{HOST}\r\n"), 400),
        head("a control character in the target", format!("GET /v2/\u{1} HTTP/1.1\r\n{HOST}\r\n"), 400),
        head("a field without a colon", format!("GET /v2/ HTTP/1.1\r\n{HOST}field\r\n\r\n"), 400),
        head("a blank before the colon", format!("GET /v2/ HTTP/1.1\r\n{HOST}field : x\r\n\r\n"), 400),
        head("a field without a name", format!("GET /v2/ HTTP/1.1\r\n{HOST}: x\r\n\r\n"), 400),
        head("a folded field", format!("GET /v2/ HTTP/1.1\r\n{HOST}field: x\r\n y\r\n\r\n"), 400),
        head("a NUL in a field", format!("GET /v2/ HTTP/1.1\r\n{HOST}field: a\0b\r\n\r\n"), 400),
        head("a lone CR in a field", format!("GET /v2/ HTTP/1.1\r\n{HOST}field: a\rb\r\n\r\n"), 400),
        head("no Host", "GET /v2/ HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        head("two Hosts", format!("GET /v2/ HTTP/1.1\r\n{HOST}host: y\r\n\r\n"), 400),
        head("the same Host twice", format!("GET /v2/ HTTP/1.1\r\n{HOST}host: x\r\n\r\n"), 400),
        head(
            "two ranges",
            format!(
                "GET /v2/a/blobs/{DIGEST} HTTP/1.1\r\n{HOST}range: bytes=0-1\r\nrange: bytes=2-3\r\n\r\n"
            ),
            400,
        ),
        head(
            "two types",
            format!(
                "PUT /v2/a/manifests/t HTTP/1.1\r\n{HOST}content-type: a/b\r\ncontent-type: c/d\r\ncontent-length: 2\r\n\r\n{{}}"
            ),
            400,
        ),
        head(
            "two digests",
            format!(
                "PUT {SESSION}?digest={DIGEST}&digest={OTHER} HTTP/1.1\r\n{HOST}content-length: 0\r\n\r\n"
            ),
            400,
        ),
        head(
            "two sources",
            format!(
                "POST /v2/a/blobs/uploads/?mount={DIGEST}&from=b&from=c HTTP/1.1\r\n{HOST}content-length: 0\r\n\r\n"
            ),
            400,
        ),
        head(
            "two content ranges",
            format!(
                "PATCH {SESSION} HTTP/1.1\r\n{HOST}content-range: 0-0\r\ncontent-range: 1-1\r\ncontent-length: 1\r\n\r\nx"
            ),
            400,
        ),
        head("200 fields", format!("GET /v2/ HTTP/1.1\r\n{HOST}{}\r\n", fields(200)), 431),
        head(
            "a field of 1 MiB",
            format!("GET /v2/ HTTP/1.1\r\n{HOST}x: {}\r\n\r\n", "y".repeat(1 << 20)),
            431,
        ),
        head(
            "a field name of 100,000 bytes",
            format!("GET /v2/ HTTP/1.1\r\n{HOST}{}: y\r\n\r\n", "x".repeat(100_000)),
            431,
        ),
    ];
    // Text that is no text is no reason to refuse what it is not needed for.
    for (name, bytes) in [
        ("Accept", &b"accept: \xff\xfe\r\n"[..]),
        ("Range", b"range: \xff\r\n"),
        ("X-Request-Id", b"x-request-id: \xff\xff\r\n"),
    ] {
        let request = [format!("GET /v2/ HTTP/1.1\r\n{HOST}").as_bytes(), bytes, b"\r\n"].concat();
        cases.push(head(&format!("bytes above ASCII in {name}"), request, 200));
    }
    let request = [&b"PATCH {session} HTTP/1.1\r\nconnection: close\r\nhost: x\r\ncontent-range: \xff-\xff\r\ncontent-length: 1\r\n\r\nx"[..]].concat();
    cases.push(Case::new(
        "head: bytes above ASCII in Content-Range",
        request,
        Expected::Error(416, "RANGE_INVALID"),
    ));
    cases
}

pub(crate) fn lengths() -> Vec<Case> {
    let bad = Expected::Status(400);
    let mut cases = Vec::new();
    for length in [
        "-1",
        "+5",
        "0x5",
        "5.0",
        "5 5",
        "5,5",
        "5, 6",
        "five",
        "",
        "99999999999999999999999",
        "18446744073709551615",
        "18446744073709551616",
    ] {
        let headers = format!("content-length: {length}\r\n");
        let expected = match length {
            // A number, and more than the server can count to: too large, it says.
            "18446744073709551615" => Expected::OneOf(&[400, 413, 431]),
            _ => bad.clone(),
        };
        cases.push(framed(&format!("Content-Length: {length}"), &headers, "hello", expected));
    }
    for (name, headers, body) in [
        ("two Content-Lengths", "content-length: 5\r\ncontent-length: 6\r\n", "hello!"),
        ("two Content-Lengths, the first longer", "content-length: 6\r\ncontent-length: 5\r\n", "hello!"),
        ("chunked and not last", "transfer-encoding: chunked, gzip\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("gzip alone", "transfer-encoding: gzip\r\n", "hello"),
        ("identity", "transfer-encoding: identity\r\n", "hello"),
        ("an unknown encoding", "transfer-encoding: xchunked\r\n", "hello"),
        ("an empty encoding", "transfer-encoding: \r\n", "hello"),
        (
            "two encodings in two fields",
            "transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "an encoding behind a vertical tab",
            "transfer-encoding: \u{b}chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        cases.push(framed(name, headers, body, bad.clone()));
    }
    cases.push(framed(
        "gzip before chunked",
        "transfer-encoding: gzip, chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Expected::Error(501, "UNSUPPORTED"),
    ));
    let old =
        "PATCH {session} HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    cases.push(Case::new("chunked in HTTP/1.0", old, Expected::Status(400)));
    // The encoding counts, by RFC 9112, and the connection ends with it, as another test shows.
    for (name, headers) in [
        ("Content-Length before chunked", "content-length: 3\r\ntransfer-encoding: chunked\r\n"),
        ("Content-Length after chunked", "transfer-encoding: chunked\r\ncontent-length: 99\r\n"),
    ] {
        cases.push(framed(name, headers, "5\r\nhello\r\n0\r\n\r\n", Expected::Status(202)));
    }
    cases.push(framed(
        "the same Content-Length twice",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "hello",
        Expected::Status(202),
    ));
    cases.push(framed(
        "more than was announced",
        "content-length: 5\r\n",
        "helloGET /v2/ HTTP/1.1\r\n\r\n",
        Expected::Status(202),
    ));
    cases.push(framed(
        "Expect with an unknown word",
        "expect: 200-maybe\r\ncontent-length: 5\r\n",
        "hello",
        Expected::Status(202),
    ));
    cases.push(
        framed("less than was announced", "content-length: 50\r\n", "hello", Expected::Nothing)
            .then([Part::Shut]),
    );
    cases.push(
        framed("less than was announced, and gone", "content-length: 50\r\n", "hello", Expected::Nothing)
            .then([Part::Leave]),
    );
    cases
}

pub(crate) fn chunks() -> Vec<Case> {
    let chunked = |name: &str, body: &[u8], expected| {
        framed(&format!("chunked: {name}"), "transfer-encoding: chunked\r\n", body, expected)
    };
    let bad = || Expected::Error(400, "BLOB_UPLOAD_INVALID");
    let mut cases = Vec::new();
    for (name, body) in [
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "zz\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size above 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of 40 digits", "fffffffffffffffffffffffffffffffffffffffff\r\nhello"),
        ("a size in other digits", "\u{665}\r\nhello\r\n0\r\n\r\n"),
        ("two sizes", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("no end of line after the size", "5hello\r\n0\r\n\r\n"),
        ("a lone LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a lone CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("no end of line after the data", "5\r\nhello0\r\n\r\n"),
        ("more data than the size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("a NUL in the size", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("a lone LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("an end that is followed by more", "5\r\nhello\r\n0\r\nx"),
    ] {
        let expected = if name.ends_with("more") { Expected::Nothing } else { bad() };
        let case = chunked(name, body.as_bytes(), expected);
        cases.push(if name.ends_with("more") { case.then([Part::Shut]) } else { case });
    }
    let long = |filler: &str, count| format!("5;{}\r\nhello\r\n0\r\n\r\n", filler.repeat(count));
    cases.push(chunked("an extension of 100,000 bytes", long("x", 100_000).as_bytes(), bad()));
    let extended: String =
        "1;ext=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1000);
    cases.push(chunked("an extension on each of 1000 chunks", extended.as_bytes(), bad()));
    let trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "x: y\r\n".repeat(2000));
    cases.push(chunked("2000 trailers", trailers.as_bytes(), bad()));
    let trailer = format!("5\r\nhello\r\n0\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    cases.push(chunked("a trailer of 100,000 bytes", trailer.as_bytes(), bad()));
    // Trailers change nothing, whatever they claim.
    cases.push(chunked(
        "a trailer that claims a length",
        b"5\r\nhello\r\n0\r\ncontent-length: 99\r\n\r\n",
        Expected::Status(202),
    ));
    cases.push(chunked(
        "a trailer that claims a range",
        b"5\r\nhello\r\n0\r\ncontent-range: 7-9\r\n\r\n",
        Expected::Status(202),
    ));
    for (name, body) in [
        ("cut off in a size", "5"),
        ("cut off after a size", "5\r\n"),
        ("cut off in the data", "5\r\nhel"),
        ("cut off after the data", "5\r\nhello\r\n"),
        ("cut off in the end", "5\r\nhello\r\n0\r\n"),
        ("cut off in a trailer", "5\r\nhello\r\n0\r\nx: "),
    ] {
        cases.push(chunked(name, body.as_bytes(), Expected::Nothing).then([Part::Shut]));
        cases.push(
            chunked(&format!("{name}, and gone"), body.as_bytes(), Expected::Nothing).then([Part::Leave]),
        );
    }
    cases
}

/// HTTP/2, which needs no library to be got wrong.
pub(crate) fn frames() -> Vec<Case> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let settings = frame(4, 0, 0, &[]);
    let mut cases = Vec::new();
    for (name, frames) in [
        ("garbage after the preface", vec![0xff; 100]),
        ("a first frame that is no SETTINGS", frame(0, 0, 1, b"x")),
        ("SETTINGS of 5 bytes", frame(4, 0, 0, b"xxxxx")),
        ("SETTINGS on a stream", frame(4, 0, 1, &[])),
        ("DATA on stream 0", [settings.clone(), frame(0, 0, 0, b"x")].concat()),
        ("DATA on a stream that is not open", [settings.clone(), frame(0, 0, 7, b"x")].concat()),
        ("HEADERS that are no HPACK", [settings.clone(), frame(1, 4, 1, &[0xff; 20])].concat()),
        ("HEADERS on an even stream", [settings.clone(), frame(1, 4, 2, &[0x82])].concat()),
        ("a CONTINUATION of nothing", [settings.clone(), frame(9, 4, 1, &[0x82])].concat()),
        ("PUSH_PROMISE from a client", [settings.clone(), frame(5, 4, 1, &[0, 0, 0, 2, 0x82])].concat()),
        ("a PING of 7 bytes", [settings.clone(), frame(6, 0, 0, b"1234567")].concat()),
        (
            "a window that grows beyond its bound",
            [settings.clone(), frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes())].concat(),
        ),
        ("a frame of 16 MiB", [settings.clone(), vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("padding longer than the frame", [settings.clone(), frame(1, 0x0c, 1, &[200, 0x82])].concat()),
    ] {
        cases.push(Case::new(format!("HTTP/2: {name}"), [PREFACE, &frames].concat(), Expected::Anything));
    }
    cases
}
