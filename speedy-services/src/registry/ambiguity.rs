//! Requests that say two things at once. Which of them a proxy before this registry went by nobody can know, so neither is
//! chosen. Nor is a body taken for what it is not yet.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HOST, IF_RANGE, RANGE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, Version};

use super::failure::{Failure, Parameter};

/// Headers that say what is meant, and that have one value.
const SINGLE_HEADERS: [HeaderName; 4] = [CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE];
/// Query parameters of which there is one.
const SINGLE_PARAMETERS: [(&str, Parameter); 7] = [
    ("artifactType", Parameter::Filter),
    ("digest", Parameter::Digest),
    ("digest-algorithm", Parameter::Digest),
    ("from", Parameter::Repository),
    ("last", Parameter::Page),
    ("mount", Parameter::Digest),
    ("n", Parameter::Page),
];

/// Why the request is refused, where it contradicts itself, or its body is coded in a way that nothing here decodes.
pub(super) fn contradiction(head: &Parts) -> Option<Failure> {
    let refused = |reason: String| Some(Failure::new(StatusCode::BAD_REQUEST, reason));
    // RFC 9112, section 3.2. Over HTTP/2 the authority takes its place; a request that came over no connection has none to name.
    let hosts = head.headers.get_all(HOST).iter().count();
    let needs_host =
        head.version == Version::HTTP_11 && head.extensions.get::<ConnectInfo<SocketAddr>>().is_some();
    if hosts > 1 || (hosts == 0 && needs_host) {
        return refused(format!("the request has {hosts} Host headers; it must have one"));
    }
    if let Some(host) = head.headers.get(HOST) {
        if !host.as_bytes().iter().all(|byte| may_be_in_host(*byte)) {
            let said = host.as_bytes().escape_ascii();
            return refused(format!("the Host header \"{said}\" names no host"));
        }
        // RFC 9113, section 8.3.1. Over HTTP/1.1 the target counts, and this header does not (RFC 9112, section 3.2.2).
        if head.version == Version::HTTP_2
            && let Some(authority) = head.uri.authority()
            && !is_same_host(host.as_bytes(), authority.as_str().as_bytes())
        {
            return refused(format!("the request is to {authority} and its Host header says otherwise"));
        }
    }
    // RFC 9112, section 6.1: `chunked`, and once. The parser has seen that the last coding is that, and undoes that one.
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let others = codings.next().is_some();
        if others || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            let all = head.headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
            let said = all.collect::<Vec<_>>().join(&b", "[..]).escape_ascii().to_string();
            return Some(Failure::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("bodies are taken whole or chunked, and not in the transfer coding \"{said}\""),
            ));
        }
    }
    for name in SINGLE_HEADERS {
        let mut values = head.headers.get_all(&name).iter();
        if let Some(first) = values.next()
            && values.any(|value| value != first)
        {
            return refused(format!("the request has more than one {name} header, and they differ"));
        }
    }
    let query = head.uri.query().filter(|query| query.contains('&'))?;
    let mut said: [Option<Cow<'_, str>>; SINGLE_PARAMETERS.len()] = Default::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = SINGLE_PARAMETERS.iter().position(|(name, _)| *name == key) else { continue };
        if said[at].get_or_insert_with(|| value.clone()) != &value {
            let (name, parameter) = SINGLE_PARAMETERS[at];
            return refused(format!("the query has more than one `{name}`, and they differ"))
                .map(|failure| failure.of_parameter(parameter));
        }
    }
    None
}

/// Whether two say the same host and port. The usual ports may be left out; by which scheme the client came a proxy knows.
fn is_same_host(one: &[u8], other: &[u8]) -> bool {
    fn plain(host: &[u8]) -> &[u8] {
        [&b":443"[..], b":80", b":"].iter().find_map(|port| host.strip_suffix(*port)).unwrap_or(host)
    }
    plain(one).eq_ignore_ascii_case(plain(other))
}

/// What a host and a port may be written with (RFC 3986, section 3.2.2), before anybody looks whether they are ones.
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Option<String> {
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711)));
        let request = build(Request::builder().extension(peer)).body(()).unwrap();
        contradiction(&request.into_parts().0).map(|failure| failure.message)
    }

    #[test]
    fn one_host_and_each_thing_once_is_taken() {
        let uri = "/v2/a/blobs/uploads/?mount=x&from=y&tag=1&tag=2&mount=x&=&&";
        assert_eq!(refused(|request| request.uri(uri).header("host", "a").header("range", "bytes=0-")), None);
        assert_eq!(refused(|request| request.uri("/v2/").version(Version::HTTP_10)), None);
        assert_eq!(refused(|request| request.uri("http://a/v2/").version(Version::HTTP_2)), None);
        let twice =
            |request: http::request::Builder| request.header("range", "bytes=0-").header("range", "bytes=0-");
        assert_eq!(refused(|request| twice(request.uri("/v2/").header("host", "a"))), None);
    }

    #[test]
    fn bodies_are_chunked_and_nothing_else() {
        let coded = |coding: &str| {
            refused(|request| request.uri("/v2/").header("host", "a").header("transfer-encoding", coding))
        };
        assert_eq!(coded(" Chunked"), None);
        for coding in ["gzip, chunked", "chunked, chunked", "identity", ""] {
            assert!(coded(coding).unwrap().contains("transfer coding"), "{coding}");
        }
        let twice = refused(|request| {
            let request = request.uri("/v2/").header("host", "a");
            request.header("transfer-encoding", "chunked").header("transfer-encoding", "chunked")
        });
        assert!(twice.unwrap().contains("transfer coding \"chunked, chunked\""));
    }

    #[test]
    fn a_host_can_be_one() {
        let of = |host: &str| refused(|request| request.uri("/v2/").header("host", host));
        for host in ["", "a", "a.example:5000", "[::1]:5000", "xn--4ca", "a_b", "10.0.0.1"] {
            assert_eq!(of(host), None, "{host}");
        }
        for host in ["a b", "a/b", "a@b", "<x>", "\"", "a, b", "a?b", "a#b", "\u{e4}"] {
            assert!(of(host).unwrap().contains("names no host"), "{host}");
        }
        let http_2 = |host: &str| {
            let request =
                |request: http::request::Builder| request.version(Version::HTTP_2).uri("http://a:1/v2/");
            refused(|builder| request(builder).header("host", host))
        };
        assert_eq!(http_2("A:1"), None);
        assert!(
            is_same_host(b"a:443", b"A") && is_same_host(b"[::1]", b"[::1]:80") && is_same_host(b"a:", b"a")
        );
        assert!(!is_same_host(b"a:444", b"a") && !is_same_host(b"b", b"a"));
        assert!(http_2("b:1").unwrap().contains("to a:1 and its Host header says otherwise"));
        // There the target counts.
        assert_eq!(refused(|request| request.uri("http://a/v2/").header("host", "b")), None);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(refused(|request| request.uri("/v2/")).unwrap().contains("0 Host"));
        let two = refused(|request| request.uri("/v2/").header("host", "a").header("host", "a"));
        assert!(two.unwrap().contains("2 Host"));
        let ranges = |request: http::request::Builder| {
            request.uri("/v2/").header("host", "a").header("range", "bytes=0-1").header("range", "bytes=2-3")
        };
        assert!(refused(ranges).unwrap().contains("range header"));
        for query in [
            "digest=a&digest=b",
            "n=1&x&n=2",
            "from=a&from",
            "artifactType=a&artifactType=b",
            "%6dount=a&mount=b",
        ] {
            let uri = format!("/v2/?{query}");
            assert!(refused(|request| request.uri(uri).header("host", "a")).is_some(), "{query}");
        }
    }
}
