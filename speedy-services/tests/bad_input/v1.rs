//! Docker Registry v1. No row may be answered with 5xx, leave anything, or stop the server, whatever it answers.
//!
//! The server has an image [`A`] that is complete and has the tag `latest` in `a/b`, [`B`] on top of it, which waits for
//! its checksum, and [`D`] on top of that, which has no layer. There is no image [`C`].

use std::time::Duration;

use super::case::{Case, Expected, HOST, Part, with_body};

pub(crate) const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub(crate) const C: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
pub(crate) const D: &str = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
/// The layer of both images that have one: no tar.
pub(crate) const LAYER: &str = "hello";

/// Method and target, headers, body, and what has to be answered. `{a}` and so on are the ids, `{A}` is the first in capital letters,
/// `{sum}` the checksum that makes `{b}` complete, `{wrong}` one that does not.
type Row = (&'static str, &'static str, &'static str, Expected);

/// Refused with this status, in words that hold these.
const fn no(status: u16, words: &'static str) -> Expected {
    Expected::V1(status, words)
}

const OK: Expected = Expected::Status(200);
const JSON: &str = "Invalid JSON";
const DATA: &str = "Invalid data";
const ENDPOINT: &str = "no such endpoint";
const NAME: &str = "repository name";
const SUM: &str = "a checksum is METHOD:DIGITS";

const PATHS: &[Row] = &[
    ("GET /v1", "", "", no(404, ENDPOINT)),
    ("GET /v1/nonsense", "", "", no(404, ENDPOINT)),
    ("GET /v1//_ping", "", "", no(404, ENDPOINT)),
    ("GET /v1/_ping/", "", "", OK),
    ("GET /v1/./_ping", "", "", no(404, ENDPOINT)),
    ("GET /v1/images", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/", "", "", no(404, ENDPOINT)),
    ("GET /v1/images//json", "", "", no(404, "Image not found")),
    ("GET /v1/images/{a}", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}/JSON", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}/json/", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}/json;x=1", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}/json%00", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}/../{b}/json", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/../../etc/passwd/json", "", "", no(404, ENDPOINT)),
    ("GET /v1/images/{a}%2fjson", "", "", OK),
    ("GET /v1/images/{a}/%ff", "", "", no(400, "UTF-8")),
    ("GET /v1/repositories", "", "", no(400, "empty")),
    ("GET /v1/users/me/..", "", "", no(404, ENDPOINT)),
    ("PATCH /v1/images/{a}/json", "", "", no(405, "GET, HEAD, PUT")),
    ("OPTIONS /v1/images/{a}/layer", "", "", no(405, "GET, HEAD, PUT")),
    ("TRACE /v1/_ping", "", "", no(405, "GET")),
    ("POST /v1/repositories/a/b/", "", "[]", no(405, "PUT, DELETE")),
    ("PROPFIND /v1/repositories/a/b/tags", "", "", no(405, "GET, HEAD, DELETE")),
    ("get /v1/_ping", "", "", no(405, "GET")),
    ("PUT /v1/images/{b}/ancestry", "", "[\"{b}\",\"{c}\"]", no(405, "GET")),
    ("DELETE /v1/images/{a}/layer", "", "", no(405, "GET, HEAD, PUT")),
    // Nothing is read from cookies, whatever they are.
    ("GET /v1/_ping", "cookie: session=\"; path=/; =\r\ncookie: \u{1}x\r\n", "", Expected::Status(400)),
    ("GET /v1/_ping", "cookie: session=\"; path=/; =;;;\r\ncookie: a\r\n", "", OK),
    ("GET /v1/_ping", "authorization: Token signature=,repository=\"../..\",access=root\r\n", "", OK),
];

const IDS: &[Row] = &[
    ("GET /v1/images/NOT-AN-ID/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/0123456789abcdef/ancestry", "", "", no(404, "Image not found")),
    ("GET /v1/images/{A}/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/{a}a/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/{a}%00/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/%20{a}/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/sha256:{a}/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/{c}/json", "", "", no(404, "Image not found")),
    ("GET /v1/images/{b}/json", "", "", no(400, "being uploaded")),
    ("GET /v1/images/{b}/layer", "", "", no(400, "being uploaded")),
    ("GET /v1/images/{b}/ancestry", "", "", no(400, "being uploaded")),
    ("GET /v1/images/{b}/files", "", "", no(400, "being uploaded")),
    ("GET /v1/images/{b}/diff", "", "", no(400, "being uploaded")),
    ("GET /v1/images/{a}/files", "", "", no(400, "Layer format not supported")),
    ("GET /v1/images/{a}/diff", "", "", no(400, "Layer format not supported")),
    ("PUT /v1/images/NOT-AN-ID/json", "", "{\"id\":\"NOT-AN-ID\"}", no(400, "64 lower-case")),
    ("PUT /v1/images/{A}/json", "", "{\"id\":\"{A}\"}", no(400, "64 lower-case")),
    ("PUT /v1/images/{a}%00/layer", "", "x", no(400, "64 lower-case")),
    ("PUT /v1/images/{a}0/checksum", "x-docker-checksum-payload: {sum}\r\n", "", no(400, "64 lower-case")),
];

const DOCUMENTS: &[Row] = &[
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{b}\"}", no(400, "invalid id")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c} \"}", no(400, "invalid id")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":[\"{c}\"]}", no(400, "invalid id")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":{\"id\":\"{c}\"}}", no(400, "invalid id")),
    ("PUT /v1/images/{c}/json", "", "{\"ID\":\"{c}\"}", no(400, "must be written")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"id\":\"{b}\"}", no(400, "invalid id")),
    ("PUT /v1/images/{a}/json", "", "{\"id\":\"{A}\"}", no(400, "invalid id")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\"", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\"}{}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{'id':'{c}'}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"x\":NaN}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"x\":1e99999}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"x\":\"\\ud800\"}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"x\":\"\u{1}\"}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\"} // x", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "\u{feff}{\"id\":\"{c}\"}", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\"}\0", no(400, JSON)),
    ("PUT /v1/images/{c}/json", "content-encoding: gzip\r\n", "\u{1f}\u{8b}", no(400, JSON)),
    // What it is built on: itself, itself by way of others, nothing that is there.
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":\"{c}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{b}/json", "", "{\"id\":\"{b}\",\"parent\":\"{b}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{b}/json", "", "{\"id\":\"{b}\",\"parent\":\"{d}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{a}/json", "", "{\"id\":\"{a}\",\"parent\":\"{d}\"}", no(409, "already exists")),
    ("PUT /v1/images/{b}/json", "", "{\"id\":\"{b}\"}", no(409, "built on this one")),
    ("PUT /v1/images/{d}/json", "", "{\"id\":\"{d}\",\"parent\":\"{c}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":\"{A}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":\" {a}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":\"../{a}\"}", no(400, "non existing parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":[\"{a}\"]}", no(400, "invalid parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":false}", no(400, "invalid parent")),
    ("PUT /v1/images/{c}/json", "", "{\"id\":\"{c}\",\"parent\":{}}", no(400, "invalid parent")),
];

const CHECKSUMS: &[Row] = &[
    ("PUT /v1/images/{b}/checksum", "", "", no(400, "Missing")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum-payload: \r\n", "", no(400, "Missing")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum-payload: {wrong}\r\n", "", no(400, "mismatch")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: {wrong}\r\n", "", no(400, "mismatch")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: tarsum+{sum}\r\n", "", no(400, "can't be verified")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: md5:00\r\n", "", no(400, "can't be verified")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: SHA256:{b}\r\n", "", no(400, "can't be verified")),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: sha256:{A}\r\n", "", no(400, SUM)),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: sha256:{a}a\r\n", "", no(400, SUM)),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: {a}\r\n", "", no(400, SUM)),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: \"{sum}\"\r\n", "", no(400, SUM)),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: ../../x:00\r\n", "", no(400, SUM)),
    // A right one beside a wrong one, in every place that it can have.
    (
        "PUT /v1/images/{b}/checksum",
        "x-docker-checksum-payload: {sum}\r\nx-docker-checksum: {wrong}\r\n",
        "",
        no(400, "mismatch"),
    ),
    (
        "PUT /v1/images/{b}/checksum",
        "x-docker-checksum-payload: {wrong}\r\nx-docker-checksum: {sum}\r\n",
        "",
        no(400, "mismatch"),
    ),
    (
        "PUT /v1/images/{b}/checksum",
        "x-docker-checksum-payload: {sum}\r\nx-docker-checksum-payload: {wrong}\r\n",
        "",
        no(400, "more than one"),
    ),
    (
        "PUT /v1/images/{b}/checksum",
        "x-docker-checksum: {sum}\r\nX-Docker-Checksum: {wrong}\r\n",
        "",
        no(400, "more than one"),
    ),
    ("PUT /v1/images/{b}/checksum", "x-docker-checksum: {sum},{wrong}\r\n", "", no(400, SUM)),
    (
        "PUT /v1/images/{b}/checksum",
        "x-docker-checksum-payload: {sum}\r\nx-docker-checksum: \u{e9}\r\n",
        "",
        no(400, "no text"),
    ),
    // Of images that have no layer, are not there, or can't change any more.
    (
        "PUT /v1/images/{d}/checksum",
        "x-docker-checksum-payload: {sum}\r\n",
        "",
        no(400, "layer is not there"),
    ),
    ("PUT /v1/images/{c}/checksum", "x-docker-checksum-payload: {sum}\r\n", "", no(404, "Image not found")),
    ("PUT /v1/images/{a}/checksum", "x-docker-checksum-payload: {wrong}\r\n", "", no(409, "Cannot set")),
    ("PUT /v1/images/{a}/layer", "", "hello", OK),
    ("PUT /v1/images/{c}/layer", "", "layer", no(404, "Image not found")),
];

const REPOSITORIES: &[Row] = &[
    ("PUT /v1/repositories/UPPER/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/..%2f..%2fetc/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a%5cb/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a%0ab/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/-a/b/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a./b/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a:b/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a@b/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/%C3%A9/", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories/a%20b/images", "", "[]", no(400, NAME)),
    ("PUT /v1/repositories//", "", "[]", no(400, "empty")),
    ("DELETE /v1/repositories/a/../b/", "", "", no(400, NAME)),
    ("DELETE /v1/repositories/nobody/images", "", "", Expected::Status(204)),
    ("DELETE /v1/repositories/nobody/", "", "", no(404, "Repository not found")),
    ("GET /v1/repositories/nobody/images", "", "", no(404, "images not found")),
    ("PUT /v1/repositories/n/", "", "[{\"id\":\"{A}\"}]", no(400, "64 lower-case")),
    ("PUT /v1/repositories/n/", "", "[{\"id\":\"{a}\"},{\"id\":\"\"}]", no(400, "64 lower-case")),
    ("PUT /v1/repositories/n/", "", "[[\"{a}\"]]", no(400, DATA)),
    ("PUT /v1/repositories/n/", "", "[\"{a}\"]", no(400, DATA)),
    ("PUT /v1/repositories/n/", "", "{\"id\":\"{a}\"}", no(400, DATA)),
    ("PUT /v1/repositories/n/", "", "[{\"id\":\"{a}\",\"id\":7}]", no(400, DATA)),
    ("PUT /v1/repositories/n/", "", "[{\"id\":\"{a}\"}", no(400, "Error Decoding JSON")),
    ("PUT /v1/repositories/n/", "", "[{\"id\":\"{a}\"}]]", no(400, "Error Decoding JSON")),
    ("PUT /v1/repositories/n/images", "", "[{\"id\":\"{a}\",\"checksum\":[]}]", no(400, DATA)),
    ("PUT /v1/repositories/n/", "host: a/b\r\nx-forwarded-host: a b\r\n", "[7]", no(400, "2 Host headers")),
    ("PUT /v1/repositories/n/", "x-forwarded-host: a b\r\n", "[7]", no(400, DATA)),
    ("PUT /v1/repositories/n/properties", "", "{\"access\":null}", no(400, DATA)),
    ("PUT /v1/repositories/n/properties", "", "{\"access\":[\"private\"]}", no(400, DATA)),
    ("PUT /v1/repositories/n/properties", "", "{\"access\":\"Private\"}", no(400, DATA)),
    ("PUT /v1/repositories/n/properties", "", "{\"access\":\"private\"", no(400, DATA)),
    ("POST /v1/users/", "", "{\"username\":", no(400, "Error Decoding JSON")),
    ("GET /v1/search?q=a&n=-1", "", "", no(400, "not a number")),
    ("GET /v1/search?q=a&n=0", "", "", no(400, "not a number")),
    ("GET /v1/search?q=a&n=1.5", "", "", no(400, "not a number")),
    ("GET /v1/search?q=a&n=%D9%A3", "", "", no(400, "not a number")),
    ("GET /v1/search?q=a&page=0", "", "", no(400, "not a number")),
    ("GET /v1/search?q=a&page=-1&page=1", "", "", no(400, "not a number")),
    ("GET /v1/search?q=%00%ff%0a&n=99999999999999999999&page=99999999999999999999", "", "", OK),
    ("GET /v1/search?q&&=&n", "", "", OK),
];

const TAGS: &[Row] = &[
    ("GET /v1/repositories/a/b/tags/.x", "", "", no(404, "Tag not found")),
    ("GET /v1/repositories/a/b/tags/..", "", "", no(404, "Tag not found")),
    ("GET /v1/repositories/a/b/tags/latest%00", "", "", no(404, "Tag not found")),
    ("GET /v1/repositories/a/b/tags/LATEST", "", "", no(404, "Tag not found")),
    ("DELETE /v1/repositories/a/b/tags/%2e%2e", "", "", no(404, "Tag not found")),
    ("PUT /v1/repositories/a/b/tags/..", "", "\"{a}\"", no(400, "tag")),
    ("PUT /v1/repositories/a/b/tags/-x", "", "\"{a}\"", no(400, "tag")),
    ("PUT /v1/repositories/a/b/tags/a%20b", "", "\"{a}\"", no(400, "tag")),
    ("PUT /v1/repositories/a/b/tags/%C3%A9", "", "\"{a}\"", no(400, "tag")),
    ("PUT /v1/repositories/a/b/tags/x%00", "", "\"{a}\"", no(400, "tag")),
    ("PUT /v1/repositories/a/b/tags/sha256:{a}", "", "\"{a}\"", no(400, "tag")),
    // What ends with a slash, or has one in the tag, is a list of images.
    ("PUT /v1/repositories/a/b/tags/", "", "\"{a}\"", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/x%2fy", "", "\"{a}\"", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{b}\"", no(400, "being uploaded")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{d}\"", no(400, "being uploaded")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{c}\"", no(404, "Image not found")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{A}\"", no(404, "Image not found")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{a} \"", no(404, "Image not found")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"\"", no(404, "Image not found")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"\\u0000\"", no(404, "Image not found")),
    ("PUT /v1/repositories/a/b/tags/latest", "", "null", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "7", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "{\"id\":\"{a}\"}", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "[\"{a}\"]", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "{a}", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "'{a}'", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{a}", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"{a}\"\"{b}\"", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\u{feff}\"{a}\"", no(400, DATA)),
    ("PUT /v1/repositories/a/b/tags/latest", "", "\"\\ud800\"", no(400, DATA)),
];

const RANGES: &[Row] = &[
    ("GET /v1/images/{a}/layer", "range: bytes=5-2\r\n", "", no(416, "5 bytes")),
    ("GET /v1/images/{a}/layer", "range: bytes=5-\r\n", "", no(416, "5 bytes")),
    ("GET /v1/images/{a}/layer", "range: bytes=-0\r\n", "", no(416, "5 bytes")),
    ("GET /v1/images/{a}/layer", "range: bytes=18446744073709551615-\r\n", "", no(416, "5 bytes")),
    ("GET /v1/images/{a}/layer", "range: bytes=99999999999999999999-\r\n", "", no(416, "5 bytes")),
    ("GET /v1/images/{a}/layer", "range: bytes=0-18446744073709551615\r\n", "", Expected::Status(206)),
    ("GET /v1/images/{a}/layer", "range: bytes=-99999999999999999999\r\n", "", Expected::Status(206)),
    ("GET /v1/images/{a}/layer", "range: bytes=0-0,2-3\r\n", "", OK),
    ("GET /v1/images/{a}/layer", "range: bytes=-1-3\r\n", "", OK),
    ("GET /v1/images/{a}/layer", "range: bytes=0x0-3\r\n", "", OK),
    ("GET /v1/images/{a}/layer", "range: lines=0-1\r\n", "", OK),
    ("GET /v1/images/{a}/layer", "range: \u{e9}\r\n", "", OK),
    ("HEAD /v1/images/{a}/layer", "range: bytes=99-\r\n", "", OK),
    ("GET /v1/images/{c}/layer", "range: bytes=0-0\r\n", "", no(404, "Image not found")),
];

fn of_row(&(target, headers, body, ref expected): &Row, sum: &str) -> Case {
    let filled = |text: &str| {
        let (upper, wrong) = (A.to_uppercase(), format!("sha256:{C}"));
        [("{a}", A), ("{b}", B), ("{c}", C), ("{d}", D), ("{A}", &upper), ("{sum}", sum), ("{wrong}", &wrong)]
            .iter()
            .fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    };
    let name = format!("v1: {target} {headers:?} {body:.60}");
    let (target, headers, body) = (filled(target), filled(headers), filled(body));
    let request = match &*body {
        "" => format!("{target} HTTP/1.1\r\n{HOST}{headers}\r\n").into_bytes(),
        body => with_body(&target, &headers, body),
    };
    Case::new(name, request, expected.clone())
}

/// Bodies that are cut short, framed in a way that nobody frames, too long, or that never come.
fn bodies() -> Vec<Case> {
    let json = format!("PUT /v1/images/{C}/json");
    let layer = format!("PUT /v1/images/{B}/layer");
    let list = "PUT /v1/repositories/n/".to_owned();
    let tag = "PUT /v1/repositories/a/b/tags/latest".to_owned();
    let document = format!("{{\"id\":\"{C}\"}}");
    let mut cases = Vec::new();
    let mut add =
        |name: &str, target: &str, headers: &str, body: &str, expected: Expected, end: Option<Part>| {
            let request = format!("{target} HTTP/1.1\r\n{HOST}{headers}\r\n{body}");
            cases.push(Case::new(format!("v1: {target:.40}: {name}"), request, expected).then(end));
        };
    for target in [&json, &layer, &list, &tag] {
        for (name, body) in [
            ("a chunk's size that is no number", "zz\r\nhello\r\n0\r\n\r\n"),
            ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
            ("a size above 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("more data than the size", "5\r\nhello!\r\n0\r\n\r\n"),
        ] {
            add(name, target, "transfer-encoding: chunked\r\n", body, no(400, "broke off"), None);
        }
        let (cut, half) = ("content-length: 50\r\n", "{\"id\":\"");
        add("cut short", target, cut, half, Expected::Nothing, Some(Part::Shut));
        add("cut short, and gone", target, cut, half, Expected::Nothing, Some(Part::Leave));
        add(
            "cut in a chunk",
            target,
            "transfer-encoding: chunked\r\n",
            "5\r\nhe",
            Expected::Nothing,
            Some(Part::Shut),
        );
        add("stops in the body", target, cut, half, no(408, "no byte"), None);
        add(
            "stops in a chunk",
            target,
            "transfer-encoding: chunked\r\n",
            "5\r\nhe",
            no(408, "no byte"),
            None,
        );
        add(
            "two lengths",
            target,
            "content-length: 5\r\ncontent-length: 6\r\n",
            "hello!",
            Expected::Status(400),
            None,
        );
        add(
            "an unknown encoding",
            target,
            "transfer-encoding: xchunked\r\n",
            "hello",
            Expected::Status(400),
            None,
        );
    }
    let fewer = format!("content-length: {}\r\n", document.len() - 1);
    add("one byte less than there are", &json, &fewer, &document, no(400, JSON), None);
    let rest = Part::Rest(Duration::from_millis(1));
    for (target, length, most) in
        [(&json, 98_305, "98304"), (&list, 4_194_305, "4194304"), (&tag, 4097, "4096")]
    {
        let headers = format!("content-length: {length}\r\nexpect: 100-continue\r\n");
        add("too long, and waits for a 100", target, &headers, "", no(413, most), Some(rest.clone()));
    }
    // Of an unknown length, and longer than is taken.
    let chunk = format!("1001\r\n{}\r\n0\r\n\r\n", " ".repeat(4097));
    add("too long, in chunks", &tag, "transfer-encoding: chunked\r\n", &chunk, no(413, "4096"), None);
    let many = "1\r\n \r\n".repeat(4097) + "0\r\n\r\n";
    add(
        "too long, in chunks of one byte",
        &tag,
        "transfer-encoding: chunked\r\n",
        &many,
        no(413, "4096"),
        None,
    );
    // What can't be taken is not waited for.
    let long = "content-length: 18446744073709551614\r\nexpect: 100-continue\r\n";
    let unknown = format!("PUT /v1/images/{C}/layer");
    add(
        "a layer of nothing, longer than all disks",
        &unknown,
        long,
        "",
        Expected::OneOf(&[400, 404, 413, 431]),
        None,
    );
    add(
        "of a name that is none",
        "PUT /v1/repositories/A/",
        long,
        "",
        Expected::OneOf(&[400, 413, 431]),
        None,
    );
    add(
        "a cookie of 1 MiB",
        "GET /v1/_ping",
        &format!("cookie: {}\r\n", "x".repeat(1 << 20)),
        "",
        Expected::Status(431),
        None,
    );
    cases
}

pub(crate) fn cases(sum: &str) -> Vec<Case> {
    let deep = |open: &str| format!("{{\"id\":\"{C}\",\"x\":{}", open.repeat(30_000 / open.len()));
    let long = format!("{{\"id\":\"{C}\",\"x\":\"{}\"}}", "x".repeat(97 << 10));
    let checksum = format!("[{{\"id\":\"{A}\",\"checksum\":\"{}\"}}]", "c".repeat(257));
    let mut cases: Vec<Case> = [PATHS, IDS, DOCUMENTS, CHECKSUMS, REPOSITORIES, TAGS, RANGES]
        .concat()
        .iter()
        .map(|row| of_row(row, sum))
        .collect();
    let json = format!("PUT /v1/images/{C}/json");
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (long_tag, long_name) = (
        format!("PUT /v1/repositories/a/b/tags/{}", "t".repeat(129)),
        format!("PUT /v1/repositories/{}/", "n".repeat(256)),
    );
    for (name, target, body, expected) in [
        ("lists in lists", &*json, deep("[").into_bytes(), no(400, JSON)),
        ("objects in objects", &*json, deep("{\"x\":").into_bytes(), no(400, JSON)),
        ("97 KiB", &*json, long.into_bytes(), no(413, "98304")),
        ("UTF-16", &*json, utf16.clone(), no(400, JSON)),
        (
            "no UTF-8",
            &*json,
            [&b"{\"id\":\""[..], C.as_bytes(), b"\",\"x\":\"\xff\"}"].concat(),
            no(400, JSON),
        ),
        (
            "a checksum of 257 characters",
            "PUT /v1/repositories/n/images",
            checksum.into_bytes(),
            no(400, "256"),
        ),
        ("lists in a list", "PUT /v1/repositories/n/", b"[".repeat(100_000), no(400, DATA)),
        ("a list in UTF-16", "PUT /v1/repositories/n/", utf16, no(400, "Error Decoding JSON")),
        ("a tag of 129", &*long_tag, format!("\"{A}\"").into_bytes(), no(400, "tag")),
        ("a name of 256", &*long_name, b"[]".to_vec(), no(400, "255")),
    ] {
        cases.push(Case::new(format!("v1: {name}"), with_body(target, "", body), expected));
    }
    cases.extend(bodies());
    cases
}
