//! Under what host the client reached this registry: where it is told to go on. Behind a proxy that is the proxy's.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The longest name of a host, with brackets, colon and port.
const LONGEST: usize = 255 + 8;

/// `HOST` or `HOST:PORT`, without a scheme: Docker puts that of its own request before it.
pub(super) fn endpoint(head: &Parts) -> Option<HeaderValue> {
    let headers = &head.headers;
    // A target that names a host counts before the header (RFC 9112, section 3.2.2).
    let named = || head.uri.authority().map(|authority| authority.as_str());
    let asked = || named().or_else(|| first(headers, &HOST));
    let host = match first(headers, &FORWARDED_HOST).filter(|host| is_host(host)) {
        Some(host) => with_port(headers, host),
        None => asked().filter(|host| is_host(host))?.to_owned(),
    };
    HeaderValue::try_from(host).ok()
}

/// The first of a header's values: that of the proxy next to the client.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim).filter(|text| !text.is_empty())
}

/// Adds the port that the proxy names beside the host, unless it is the usual one of its scheme.
fn with_port(headers: &HeaderMap, host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let port = first(headers, &FORWARDED_PORT).filter(|port| !has_port && port.parse::<u16>().is_ok());
    let usual = match first(headers, &FORWARDED_PROTO) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => "80",
        _ => "443",
    };
    match port.filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Letters, digits and what addresses are written with: nothing that could end a header, or a host in a list of them.
fn is_host(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(headers: &[(&str, &str)], uri: &str) -> Option<String> {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        endpoint(&head).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_host_is_the_one_that_the_client_knows() {
        let host = ("host", "10.0.0.1:5000");
        let (to, https) = (("x-forwarded-host", "registry.example.com"), ("x-forwarded-proto", "https"));
        for (headers, expected) in [
            (&[host][..], Some("10.0.0.1:5000")),
            (&[("host", "[::1]:5000")], Some("[::1]:5000")),
            (&[host, to], Some("registry.example.com")),
            (&[host, ("x-forwarded-host", "r.example.com:8443")], Some("r.example.com:8443")),
            (&[host, ("x-forwarded-host", "outer.example.com, inner")], Some("outer.example.com")),
            (&[host, to, https, ("x-forwarded-port", "443")], Some("registry.example.com")),
            (&[host, to, https, ("x-forwarded-port", "8443")], Some("registry.example.com:8443")),
            (
                &[host, to, ("x-forwarded-proto", "http"), ("x-forwarded-port", "80")],
                Some("registry.example.com"),
            ),
            (
                &[host, to, ("x-forwarded-proto", "http"), ("x-forwarded-port", "443")],
                Some("registry.example.com:443"),
            ),
            (&[host, to, ("x-forwarded-port", "99999")], Some("registry.example.com")),
            (
                &[host, ("x-forwarded-host", "[2001:db8::1]"), ("x-forwarded-port", "1")],
                Some("[2001:db8::1]:1"),
            ),
            // What can't be a host is not repeated.
            (&[host, ("x-forwarded-host", "a\" b")], Some("10.0.0.1:5000")),
            (&[host, ("x-forwarded-host", "")], Some("10.0.0.1:5000")),
            (&[("host", "a/b")], None),
            (&[], None),
        ] {
            assert_eq!(of(headers, "/v1/_ping").as_deref(), expected, "{headers:?}");
        }
        assert_eq!(of(&[], "http://h2.example.com:1/v1/").as_deref(), Some("h2.example.com:1"));
    }

    proptest! {
        #[test]
        fn whatever_is_forwarded_the_answer_is_one_host(host in "[ -~]{0,300}", port in "[ -~]{0,8}") {
            let headers = [("host", "a:1"), ("x-forwarded-host", &*host), ("x-forwarded-port", &*port)];
            prop_assert!(is_host(&of(&headers, "/").unwrap()));
        }
    }
}
