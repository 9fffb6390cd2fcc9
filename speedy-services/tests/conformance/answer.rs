//! An answer, read whole, with what checks ask of it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// The codes that the specification or `docs/registry.md` have.
const CODES: [&str; 20] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "PAGINATION_NUMBER_INVALID",
    "RANGE_INVALID",
    "SIZE_INVALID",
    "TAG_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "UNKNOWN",
    "UNSUPPORTED",
    "MANIFEST_UNVERIFIED",
];

/// What a registry answered. Its text is what a failed check shows.
pub(crate) struct Answer {
    what: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) async fn read(what: String, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        match response.bytes().await {
            Ok(body) => Self { what, status, headers, body },
            Err(error) => panic!("{what}: {status}, and then the body broke off: {error}"),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Demands a status.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{self}");
        self
    }

    /// A header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// All values of a header, split at their commas.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        values.flat_map(|value| value.split(',')).map(str::trim).collect()
    }

    /// Whether a header is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// Demands the value of a header.
    pub(crate) fn with(self, name: &str, value: impl ToString) -> Self {
        assert_eq!(self.header(name), value.to_string(), "{name} of {self}");
        self
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Demands a body, and its length in Content-Length.
    pub(crate) fn bytes(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(
            self.body == expected,
            "{} bytes are not the {} expected ones: {self}",
            self.body.len(),
            expected.len()
        );
        self.with("content-length", expected.len())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Demands an error in the form of the specification, with this status and first code. Answers all errors.
    pub(crate) fn error(&self, status: u16, code: &str) -> Vec<Value> {
        assert_eq!(self.status(), status, "{self}");
        assert!(self.header("content-type").starts_with("application/json"), "{self}");
        let body = self.json();
        let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no list of errors: {self}")).clone();
        for error in &errors {
            let code = error["code"].as_str().unwrap_or_default();
            assert!(!code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{self}");
            assert!(CODES.contains(&code), "{code} is no documented code: {self}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self}");
        }
        assert_eq!(errors.first().map(|error| &error["code"]), Some(&code.into()), "{self}");
        errors
    }

    /// Where a list goes on, by its Link.
    pub(crate) fn next(&self) -> Option<&str> {
        let link = self.headers.get("link")?.to_str().unwrap();
        let (target, relation) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).unwrap();
        let relation = relation.trim_start_matches([';', ' ']);
        assert!(relation == "rel=\"next\"" || relation == "rel=next", "{self}");
        Some(target)
    }

    /// Demands that its warnings, if any, have the form of the specification.
    pub(crate) fn warnings(&self) {
        let warnings: Vec<&str> =
            self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
        for warning in &warnings {
            assert!(warning.starts_with("299 - \"") && warning.ends_with('"'), "{self}");
        }
        assert!(warnings.iter().map(|warning| warning.len()).sum::<usize>() <= 4096, "{self}");
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(400)];
        write!(f, "{}: {} {:?} {}", self.what, self.status, self.headers, shown.escape_ascii())
    }
}
