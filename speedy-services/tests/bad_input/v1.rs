//! Docker Registry v1. A row is a request and the statuses that are right for it; its body, where it has one, is announced
//! by its length. No row may be answered with 5xx, leave anything, or stop the server, whatever it answers.

use super::case::{Case, Expected, HOST, with_body};

/// Target, headers, body, and what may be answered.
type Row = (&'static str, &'static str, &'static [u8], &'static [u16]);

/// A registry without this interface does not know any of the paths.
const ROWS: &[Row] = &[
    ("GET /v1/images/NOT-AN-ID/json", "", b"", &[400, 404]),
    ("GET /v1/images/../../etc/passwd/json", "", b"", &[400, 404]),
    ("GET /v1/images/0123456789abcdef/ancestry", "", b"", &[400, 404]),
    ("PUT /v1/images/NOT-AN-ID/json", "", b"{\"id\":\"NOT-AN-ID\"}", &[400, 404]),
    ("PUT /v1/repositories/UPPER/", "", b"[]", &[400, 404]),
    ("GET /v1/repositories/a/b/tags/.x", "", b"", &[400, 404]),
    ("GET /v1/nonsense", "", b"", &[404]),
    ("GET /v1", "", b"", &[404]),
];

pub(crate) fn cases() -> Vec<Case> {
    let row = |&(target, headers, body, statuses): &Row| {
        let request = match body {
            [] => format!("{target} HTTP/1.1\r\n{HOST}{headers}\r\n").into_bytes(),
            body => with_body(target, headers, body),
        };
        Case::new(format!("v1: {target}"), request, Expected::OneOf(statuses))
    };
    ROWS.iter().map(row).collect()
}
