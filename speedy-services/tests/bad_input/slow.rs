//! Clients that stop, and clients that trickle.

use std::time::Duration;

use super::case::{Case, Expected, HOST, Part, SESSION, framed};

/// Longer than the server of the test waits for anything.
const LONG: Duration = Duration::from_millis(2500);

pub(crate) fn cases() -> Vec<Case> {
    let image = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";
    let manifest =
        format!("PUT /v2/kept/manifests/slow HTTP/1.1\r\n{HOST}{image}content-length: 100\r\n\r\n{{");
    let post = format!(
        "POST /v2/kept/blobs/uploads/?digest=sha256:{} HTTP/1.1\r\n{HOST}content-length: 100\r\n\r\nxyz",
        "0".repeat(64)
    );
    let trickle = |text: String, pause: u64| {
        text.into_bytes()
            .into_iter()
            .flat_map(move |byte| [Part::Send(vec![byte]), Part::Rest(Duration::from_millis(pause))])
            .collect::<Vec<_>>()
    };
    let head = format!("GET /v2/ HTTP/1.1\r\n{HOST}\r\n");
    let stopped = Expected::Error(408, "BLOB_UPLOAD_INVALID");
    vec![
        Case::new("slow: says nothing", "", Expected::Nothing),
        Case::new("slow: stops in the method", "GE", Expected::Nothing),
        Case::new("slow: stops in the first line", "GET /v2/ HT", Expected::Nothing),
        Case::new("slow: stops in the head", format!("GET /v2/ HTTP/1.1\r\n{HOST}"), Expected::Nothing),
        Case::new("slow: stops in the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nS", Expected::Nothing),
        Case::new("slow: trickles the head", "", Expected::Nothing).then(trickle(head.clone(), 80)),
        framed("slow: stops before the body", "content-length: 5\r\n", "", stopped.clone()),
        framed("slow: stops in the body", "content-length: 5\r\n", "hel", stopped.clone()),
        framed("slow: stops in the size of a chunk", "transfer-encoding: chunked\r\n", "5", stopped.clone()),
        framed("slow: stops in a chunk", "transfer-encoding: chunked\r\n", "5\r\nhel", stopped.clone()),
        framed(
            "slow: stops before the last chunk",
            "transfer-encoding: chunked\r\n",
            "5\r\nhello\r\n",
            stopped.clone(),
        ),
        framed(
            "slow: stops in a trailer",
            "transfer-encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\nx: ",
            stopped.clone(),
        ),
        framed(
            "slow: waits for a 100 and sends nothing",
            "expect: 100-continue\r\ncontent-length: 5\r\n",
            "",
            stopped.clone(),
        ),
        Case::new("slow: stops in a manifest", manifest, Expected::Error(408, "MANIFEST_INVALID")),
        Case::new("slow: stops in a blob of one request", post, stopped),
        framed("slow: stops in the body and goes away", "content-length: 5\r\n", "hel", Expected::Nothing)
            .then([Part::Rest(Duration::from_millis(300)), Part::Leave]),
        // Slow, and yet no fault: each rest is shorter than the server's patience, and all of them longer.
        Case::new(
            "slow: trickles the body",
            format!("PATCH {SESSION} HTTP/1.1\r\n{HOST}content-length: 5\r\n\r\n"),
            Expected::Status(202),
        )
        .then(trickle("hello".into(), 500)),
        Case::new(
            "slow: rests between two requests",
            "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n",
            Expected::Status(200),
        )
        .then([Part::Rest(LONG)]),
    ]
}
